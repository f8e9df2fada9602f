package agree_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

func app(name string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": name}) }

// large is 1,000 workloads of 10 pods in 50 namespaces, with a Service and a policy of three rules each: for a neighbour, for another, and for whoever reads metrics from all
// over the cluster. Every fifth namespace has a NetworkPolicy of somebody else's, for egress.
func large() *model.Snapshot {
	const namespaces, workloads, pods = 50, 20, 10
	s := &model.Snapshot{}
	for n := range namespaces {
		namespace := fmt.Sprintf("ns-%02d", n)
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: namespace, Labels: map[string]string{"kubernetes.io/metadata.name": namespace}})
		for w := range workloads {
			name := fmt.Sprintf("app-%02d", w)
			for p := range pods {
				s.Pods = append(s.Pods, &model.Pod{
					Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, p), Owner: name, ServiceAccount: name, Expected: true, Proxy: model.ProxySettings{Injected: true},
					Labels:    map[string]string{"app": name, "pod-template-hash": "5d4f", v1alpha1.LabelServiceAccount: name, v1alpha1.LabelProxy: v1alpha1.ProxyInjected},
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), byte(w), byte(p)})},
					Ports:     []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}, {Name: "db", Number: 5432, Protocol: model.TCP}},
				})
			}
			s.Services = append(s.Services, model.Service{
				Namespace: namespace, Name: name, Selector: map[string]string{"app": name}, Ports: []model.ServicePort{{Name: "http", Port: 80, TargetPort: 8080, Protocol: model.TCP}},
			})
			s.Policies = append(s.Policies, &model.Policy{
				PolicyRef: model.PolicyRef{Namespace: namespace, Name: name, UID: namespace + name, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true, Selector: app(name),
				Ingress: []model.Rule{
					{
						Name: "reads", Peers: []model.Peer{{Pods: app(fmt.Sprintf("app-%02d", (w+1)%workloads))}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
						HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/" + name}}}},
					},
					{Name: "db", Peers: []model.Peer{{Pods: app(fmt.Sprintf("app-%02d", (w+2)%workloads))}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 5432, To: 5432}}},
					{Name: "metrics", Peers: []model.Peer{{Namespaces: labels.Everything(), Pods: app("app-07")}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 9090, To: 9090}}},
				},
			})
		}
		if n%5 == 0 {
			s.NetworkPolicies = append(s.NetworkPolicies, &networkingv1.NetworkPolicy{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "out"},
				Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}, Egress: []networkingv1.NetworkPolicyEgressRule{
					{To: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}},
				}},
			})
		}
	}
	return s
}

// rig is what stands between a snapshot and the checker, as the server has it. A companion that says the same is the same.
type rig struct {
	indexer model.Indexer
	builder netpol.Builder
	stands  map[string]*networkingv1.NetworkPolicy
}

func (r *rig) inputs(s *model.Snapshot) (*model.Index, []agree.Companion) {
	ix := r.indexer.Index(s)
	built, _ := r.builder.Build(ix)
	companions := make([]agree.Companion, 0, len(built))
	before := r.stands
	r.stands = map[string]*networkingv1.NetworkPolicy{}
	for _, c := range built {
		np := c.NetworkPolicy
		if old := before[np.Namespace+"/"+np.Name]; old != nil && reflect.DeepEqual(old.Spec, np.Spec) {
			np = old
		}
		r.stands[np.Namespace+"/"+np.Name] = np
		if !c.DryRun {
			companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: np})
		}
	}
	return ix, companions
}

// edited is a snapshot in which one policy is another.
func edited(s *model.Snapshot, i int) *model.Snapshot {
	next := *s
	next.Policies = append([]*model.Policy(nil), s.Policies...)
	p := *next.Policies[500]
	next.Policies[500] = &p
	p.Generation += int64(i)
	p.Ingress = append([]model.Rule(nil), p.Ingress...)
	p.Ingress[0].HTTP = []model.HTTPMatch{{Methods: []string{[]string{"GET", "PUT"}[i%2]}}}
	return &next
}

// scaled is a snapshot in which one workload has a pod more.
func scaled(s *model.Snapshot, i int) *model.Snapshot {
	next := *s
	p := *s.Pods[5000]
	p.Name, p.Addresses = fmt.Sprintf("%s-more-%d", p.Name, i), []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
	next.Pods = append(append([]*model.Pod(nil), s.Pods...), &p)
	return &next
}

// relabelled is a snapshot in which one workload is another.
func relabelled(s *model.Snapshot, i int) *model.Snapshot {
	next := *s
	next.Pods = append([]*model.Pod(nil), s.Pods...)
	for n := 5000; n < 5010; n++ {
		p := *next.Pods[n]
		p.Labels = map[string]string{"app": "app-00", "edit": fmt.Sprint(i), v1alpha1.LabelProxy: v1alpha1.ProxyInjected}
		next.Pods[n] = &p
	}
	return &next
}

// crowd is 1,000 pods of 100 workloads with a Service each, in one namespace, and a policy each of five rules with http, for the next five workloads. One policy more selects
// everybody, as `podSelector: {}` does.
func crowd() *model.Snapshot {
	const workloads, pods, rules = 100, 10, 5
	name := func(w int) string { return fmt.Sprintf("svc-%03d", w%workloads) }
	s := &model.Snapshot{Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}}}}
	policy := func(called string, selector labels.Selector, w int) *model.Policy {
		p := &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: called, UID: called, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true, Selector: selector,
		}
		for r := range rules {
			p.Ingress = append(p.Ingress, model.Rule{
				Name: fmt.Sprint("rule-", r), Peers: []model.Peer{{Pods: app(name(w + r + 1))}},
				HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/%s/%d", name(w), r)}}}},
			})
		}
		return p
	}
	s.Policies = append(s.Policies, policy("all", labels.Everything(), 0))
	for w := range workloads {
		for p := range pods {
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: "shop", Name: fmt.Sprintf("%s-%d", name(w), p), Owner: name(w), ServiceAccount: "default", Expected: true, Proxy: model.ProxySettings{Injected: true},
				Labels:    map[string]string{"app": name(w), v1alpha1.LabelServiceAccount: "default", v1alpha1.LabelProxy: v1alpha1.ProxyInjected},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(w), byte(p)})},
				Ports:     []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}},
			})
		}
		s.Services = append(s.Services, model.Service{
			Namespace: "shop", Name: name(w), Selector: map[string]string{"app": name(w)}, Ports: []model.ServicePort{{Name: "http", Port: 80, TargetPort: 8080, Protocol: model.TCP}},
		})
		s.Policies = append(s.Policies, policy(name(w), app(name(w)), w))
	}
	return s
}

// BenchmarkEdit measures a check after an edit of one policy: of what requests may say, and of who calls; of a policy that selects one workload in a hundred, and of one that
// selects all.
func BenchmarkEdit(b *testing.B) {
	base := crowd()
	edit := func(policy int, change func(r *model.Rule, i int)) func(int) *model.Snapshot {
		return func(i int) *model.Snapshot {
			next := *base
			next.Policies = slices.Clone(base.Policies)
			p := *next.Policies[policy]
			next.Policies[policy] = &p
			p.Generation += int64(i)
			p.Ingress = slices.Clone(p.Ingress)
			change(&p.Ingress[0], i)
			return &next
		}
	}
	http := func(r *model.Rule, i int) {
		r.HTTP = []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprint("/", i)}}}}
	}
	callers := func(r *model.Rule, i int) { r.Peers = []model.Peer{{Pods: app(fmt.Sprintf("svc-%03d", 60+i%2))}} }
	for _, c := range []struct {
		name   string
		policy int
		change func(r *model.Rule, i int)
	}{{"http of one", 50, http}, {"callers of one", 50, callers}, {"http of all", 0, http}, {"callers of all", 0, callers}} {
		b.Run(c.name, func(b *testing.B) {
			var checker agree.Checker
			var r rig
			checker.Check(r.inputs(base))
			next := edit(c.policy, c.change)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				ix, companions := r.inputs(next(i))
				b.StartTimer()
				checker.Check(ix, companions)
			}
		})
	}
}

// BenchmarkCheck measures a check from nothing, and one after a single edit; what is measured is the check alone.
func BenchmarkCheck(b *testing.B) {
	s := large()
	b.Run("cold", func(b *testing.B) {
		ix, companions := new(rig).inputs(s)
		b.ReportAllocs()
		for b.Loop() {
			new(agree.Checker).Check(ix, companions)
		}
	})
	for name, edit := range map[string]func(*model.Snapshot, int) *model.Snapshot{"policy": edited, "pod": scaled, "workload": relabelled} {
		b.Run("one "+name, func(b *testing.B) {
			var checker agree.Checker
			var r rig
			checker.Check(r.inputs(s))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				ix, companions := r.inputs(edit(s, i))
				b.StartTimer()
				checker.Check(ix, companions)
			}
		})
	}
}
