package translate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// bigWorld is 1,000 workloads of 10 pods in 50 namespaces, a Service and a policy of two rules each.
func bigWorld() *model.Snapshot {
	const namespaces, workloads, pods = 50, 20, 10
	s := &model.Snapshot{}
	for n := range namespaces {
		namespace := fmt.Sprintf("ns-%02d", n)
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: namespace, Labels: map[string]string{"kubernetes.io/metadata.name": namespace}})
		for w := range workloads {
			app := fmt.Sprintf("app-%02d", w)
			for p := range pods {
				s.Pods = append(s.Pods, &model.Pod{
					Namespace: namespace, Name: fmt.Sprintf("%s-%d", app, p), Owner: app, ServiceAccount: app, Expected: true,
					Labels:    map[string]string{"app": app, "version": "v1", "pod-template-hash": "5d4f", "policy.pilot-lite.io/service-account": app},
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), byte(w), byte(p)})},
					Ports:     []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}, {Name: "db", Number: 5432, Protocol: model.TCP}},
				})
			}
			s.Services = append(s.Services, model.Service{
				Namespace: namespace, Name: app, Selector: map[string]string{"app": app},
				Ports: []model.ServicePort{{Name: "http", Port: 80, TargetPort: 8080, Protocol: model.TCP}},
			})
			s.Policies = append(s.Policies, &model.Policy{
				PolicyRef: model.PolicyRef{Namespace: namespace, Name: app, UID: app, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true,
				Selector: selector("app", app),
				Ingress: []model.Rule{
					{
						Name: "reads", Peers: []model.Peer{{Pods: selector("app", fmt.Sprintf("app-%02d", (w+1)%workloads))}},
						Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
						HTTP:  []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/" + app}}}},
					},
					{
						Name: "db", Peers: []model.Peer{{Pods: selector("app", fmt.Sprintf("app-%02d", (w+2)%workloads))}},
						Ports: []model.PortRange{{Protocol: model.TCP, From: 5432, To: 5432}},
					},
				},
			})
		}
	}
	return s
}

// edited is a snapshot in which one policy is another.
func edited(s *model.Snapshot, i int) *model.Snapshot {
	next := *s
	next.Policies = slices.Clone(s.Policies)
	p := *next.Policies[500]
	next.Policies[500] = &p
	p.Generation += int64(i + 1)
	p.Ingress = slices.Clone(p.Ingress)
	p.Ingress[0].HTTP = []model.HTTPMatch{{Methods: []string{[]string{"GET", "PUT"}[i%2]}}}
	return &next
}

// scaled is a snapshot in which one workload has a pod more.
func scaled(s *model.Snapshot, i int) *model.Snapshot {
	next := *s
	p := *s.Pods[5000]
	p.Name, p.Addresses = fmt.Sprintf("%s-more-%d", p.Name, i), []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
	next.Pods = slices.Insert(slices.Clone(s.Pods), 5001, &p)
	return &next
}

// BenchmarkTranslate measures a rebuild from nothing, and one after a single edit, with the index; what is measured begins with the snapshot.
func BenchmarkTranslate(b *testing.B) {
	s := bigWorld()
	b.Run("index", func(b *testing.B) {
		for b.Loop() {
			model.NewIndex(s)
		}
	})
	b.Run("cold", func(b *testing.B) {
		ix := model.NewIndex(s)
		for b.Loop() {
			translate.Translate(ix)
		}
	})
	for name, edit := range map[string]func(*model.Snapshot, int) *model.Snapshot{"policy": edited, "pod": scaled} {
		b.Run("one "+name, func(b *testing.B) {
			tr, indexer := new(translate.Translator), new(model.Indexer)
			tr.Translate(indexer.Index(s))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				next := edit(s, i)
				b.StartTimer()
				tr.Translate(indexer.Index(next))
			}
		})
	}
}

// oneNamespace is 100 workloads of ten pods, in twenty teams. Each has a policy of its own, and one policy selects them all: five rules, each of which lets a team's fifty
// addresses in.
func oneNamespace() *model.Snapshot {
	const workloads, pods, rules, teams = 100, 10, 5, 20
	s := &model.Snapshot{Namespaces: []model.Namespace{{Name: "shop"}}}
	policy := func(name string, selects labels.Selector, firstTeam int) *model.Policy {
		p := &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: name, UID: name, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true, Selector: selects,
		}
		for r := range rules {
			p.Ingress = append(p.Ingress, model.Rule{
				Name: fmt.Sprintf("rule-%d", r), Peers: []model.Peer{{Pods: selector("team", fmt.Sprint((firstTeam+r)%teams))}},
				Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
				HTTP:  []model.HTTPMatch{{Methods: []string{"GET", "HEAD"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/%s/%d", name, r)}}}},
			})
		}
		return p
	}
	s.Policies = append(s.Policies, policy("all", labels.Everything(), 0))
	for w := range workloads {
		app := fmt.Sprintf("app-%02d", w)
		for p := range pods {
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: "shop", Name: fmt.Sprintf("%s-%d", app, p), Owner: app, Expected: true, Labels: map[string]string{"app": app, "team": fmt.Sprint(w % teams)},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(w), byte(p)})},
				Ports:     []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}},
			})
		}
		s.Services = append(s.Services, model.Service{
			Namespace: "shop", Name: app, Selector: map[string]string{"app": app}, Ports: []model.ServicePort{{Name: "http", Port: 80, TargetPort: 8080, Protocol: model.TCP}},
		})
		s.Policies = append(s.Policies, policy(app, selector("app", app), w))
	}
	return s
}

// BenchmarkSharedPolicy measures a rebuild after an edit of the policy that selects all of a namespace's hundred workloads, which changes all their slots.
func BenchmarkSharedPolicy(b *testing.B) {
	s := oneNamespace()
	tr, indexer := new(translate.Translator), new(model.Indexer)
	tr.Translate(indexer.Index(s))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		next := *s
		next.Policies = slices.Clone(s.Policies)
		p := *next.Policies[0]
		next.Policies[0] = &p
		p.Generation += int64(i + 1)
		p.Ingress = slices.Clone(p.Ingress)
		p.Ingress[0].HTTP = []model.HTTPMatch{{Methods: []string{[]string{"GET", "PUT"}[i%2]}}}
		b.StartTimer()
		tr.Translate(indexer.Index(&next))
	}
}
