package agree_test

import (
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// shop is a cart that a front may read, and a reader of metrics.
func shop(edit func(s *model.Snapshot)) *model.Snapshot {
	pod := func(namespace, name string, n byte, ports ...model.ContainerPort) *model.Pod {
		return &model.Pod{
			Namespace: namespace, Name: name, Labels: map[string]string{"app": name, v1alpha1.LabelProxy: v1alpha1.ProxyInjected}, Proxy: model.ProxySettings{Injected: true},
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, n})}, Ports: ports,
		}
	}
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{"team": "shop"}}, {Name: "web", Labels: map[string]string{"team": "web"}}},
		Pods: []*model.Pod{
			pod("shop", "cart", 1, model.ContainerPort{Name: "web", Number: 8080, Protocol: model.TCP}), pod("shop", "front", 2), pod("web", "front", 3), pod("web", "prom", 4),
		},
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{
			{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 8080},
		}}},
		Policies: []*model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: "cart", UID: "1", Generation: 1}, Action: model.Allow, Selector: app("cart"), IsolatesIngress: true, Accepted: true,
			Ingress: []model.Rule{{
				Name: "reads", Peers: []model.Peer{{Pods: app("front")}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
				HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/cart"}}}},
			}},
		}},
	}
	if edit != nil {
		edit(s)
	}
	return s
}

func foreign(namespace, name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: spec}
}

func widerOf(r *agree.Report) []agree.Wider {
	var out []agree.Wider
	for _, w := range r.Workloads {
		out = append(out, w.Wider...)
	}
	return out
}

// A policy's status tells whether the layers agree, and if not who is shut, from what, by whom.
func TestAgreement(t *testing.T) {
	t.Parallel()
	shutOut := networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}}
	ownEgress := &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "out", UID: "2", Generation: 1}, Action: model.Allow, Selector: app("front"), IsolatesEgress: true, Accepted: true,
	}
	for _, c := range []struct {
		name   string
		edit   func(s *model.Snapshot)
		state  agree.State
		reason string
		text   string // a part of it
		shut   string // a part of the first of Shut
		wider  string // a part of the first of Wider
	}{
		{"companions as they should be", nil, agree.Agrees, "Agrees", "", "", ""},
		{
			"the caller's egress is shut by somebody's NetworkPolicy",
			func(s *model.Snapshot) {
				s.NetworkPolicies = []*networkingv1.NetworkPolicy{foreign("shop", "default-deny", shutOut)}
			},
			agree.Disagrees, "Shut",
			"TCP 8080 from shop/front to shop/cart, which rule shop/cart/reads allows (GET /cart), is shut at the caller's egress by NetworkPolicy shop/default-deny; let it pass in a NetworkPolicy, or take it out of the rule",
			"TCP 8080 from shop/front to shop/cart", "",
		},
		{
			"whom a rule does not name may be shut",
			func(s *model.Snapshot) {
				s.NetworkPolicies = []*networkingv1.NetworkPolicy{foreign("web", "default-deny", shutOut)}
				s.Policies[0].Ingress[0].Peers = []model.Peer{{Namespaces: labels.Everything()}}
			},
			agree.Agrees, "Agrees", "", "", "",
		},
		{
			"the caller's egress is shut by a policy of ours", func(s *model.Snapshot) { s.Policies = append(s.Policies, ownEgress) },
			agree.Agrees, "Agrees", "", "is shut at the caller's egress by NetworkPolicy shop/l7p-out", "",
		},
		{
			"the caller's egress is shut by a policy of ours to one of two pods, by its address",
			func(s *model.Snapshot) {
				second := *s.Pods[0]
				second.Name, second.Addresses = "cart-2", []netip.Addr{netip.MustParseAddr("10.0.1.1")}
				s.Pods[0].Owner, second.Owner = "cart", "cart"
				s.Pods = append(s.Pods, &second)
				out := *ownEgress
				out.Egress = []model.Rule{{Name: "some", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("10.0.0.0/24")}}}}}
				s.Policies = append(s.Policies, &out)
			},
			agree.Agrees, "Agrees", "", "is shut at the caller's egress by NetworkPolicy shop/l7p-out", "",
		},
		{
			"somebody's NetworkPolicy isolates what no Allow does",
			func(s *model.Snapshot) {
				s.Policies[0].Action = model.Deny
				s.NetworkPolicies = []*networkingv1.NetworkPolicy{foreign("shop", "shut", networkingv1.NetworkPolicySpec{})}
			},
			agree.Agrees, "Agrees", "", "which nothing forbids at L7, is shut at the callee's ingress by NetworkPolicy shop/shut", "",
		},
		{
			"a named port that no label tells apart",
			func(s *model.Snapshot) {
				other := *s.Pods[0]
				other.Name, other.Addresses = "cart-2", []netip.Addr{netip.MustParseAddr("10.0.0.9")}
				other.Ports = []model.ContainerPort{{Name: "web", Number: 9090, Protocol: model.TCP}}
				s.Pods = append(s.Pods, &other)
				s.Policies[0].Ingress[0].Ports = []model.PortRange{{Protocol: model.TCP, Name: "web"}}
			},
			agree.Disagrees, "Shut", "TCP 8080 from shop/front to shop/cart, which rule shop/cart/reads allows (GET /cart), is shut at the callee's ingress by NetworkPolicy shop/l7p-cart",
			"shut at the callee's ingress", "",
		},
		{
			"a NetworkPolicy that is wider",
			func(s *model.Snapshot) {
				s.NetworkPolicies = []*networkingv1.NetworkPolicy{foreign("shop", "wide", networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{
					From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "192.0.2.0/24"}}},
				}}})}
			},
			agree.Agrees, "Agrees", "", "", "SCTP, TCP, UDP from anybody else (at 192.0.2.0/24) to shop/cart: by NetworkPolicy shop/wide ingress[0]",
		},
		{
			"a request that a Deny refuses whatever it is",
			func(s *model.Snapshot) {
				deny := *s.Policies[0]
				deny.Name, deny.Action, deny.Ingress = "no", model.Deny, []model.Rule{{Name: "gets", HTTP: []model.HTTPMatch{{Methods: []string{"GET"}}}}}
				s.Policies = append(s.Policies, &deny)
			},
			agree.Agrees, "Agrees", "", "", "TCP 8080 from shop/front to shop/cart: by NetworkPolicy shop/l7p-cart-http",
		},
		{
			"metrics", func(s *model.Snapshot) {
				s.Mesh.Metrics, s.Mesh.MetricsPorts = []model.Peer{{Namespaces: labels.Everything(), Pods: app("prom")}}, []uint16{15090}
			},
			agree.Agrees, "Agrees", "", "", "TCP 15090 from web/prom to shop/cart: by NetworkPolicy shop/l7p-cart-plumbing",
		},
		{"tried out", func(s *model.Snapshot) { s.Policies[0].DryRun = true }, agree.NotEvaluated, "DryRun", "", "", ""},
		{"for nobody", func(s *model.Snapshot) { s.Policies[0].Selector = app("nobody") }, agree.NotEvaluated, "NothingSelected", "", "", ""},
		{"egress alone", func(s *model.Snapshot) { s.Policies[0] = ownEgress }, agree.Agrees, "OneLayer", "", "", ""},
		{
			"an egress policy that cannot be said",
			func(s *model.Snapshot) {
				deny := *ownEgress
				deny.Name, deny.Action, deny.Egress = "no", model.Deny, []model.Rule{{Name: "ten", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("10.0.0.9/32")}}}}}
				allow := *ownEgress
				allow.Egress = []model.Rule{{Name: "all", Peers: []model.Peer{{Namespaces: labels.Everything()}}}}
				s.Pods = append(s.Pods, &model.Pod{Namespace: "web", Name: "nine", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}})
				s.Policies = []*model.Policy{&allow, s.Policies[0], &deny}
			},
			agree.Disagrees, "Shut", "from shop/front to shop/cart, which rule shop/cart/reads allows (GET /cart), is shut at the caller's egress", "caller's egress", "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := shop(c.edit)
			ix := model.NewIndex(s)
			companions, _ := companionsOf(ix)
			report := new(agree.Checker).Check(ix, companions)
			got, allWider := report.Verdict(s.Policies[0].PolicyRef), widerOf(report)
			if got.State != c.state || got.Reason != c.reason || !strings.Contains(got.Text, c.text) || got.Text == "" {
				t.Errorf("got %s (%s): %s", got.State, got.Reason, got.Text)
			}
			first := func(n int, text func() string) string {
				if n == 0 {
					return ""
				}
				return text()
			}
			shut := first(len(got.Shut), func() string { return got.Shut[0].String() })
			wider := first(len(allWider), func() string { return allWider[0].String() })
			if !strings.Contains(shut, c.shut) || (shut == "") != (c.shut == "") {
				t.Errorf("shut %q, want %q", shut, c.shut)
			}
			if !strings.Contains(wider, c.wider) || (wider == "") != (c.wider == "") {
				t.Errorf("wider %q, want %q", wider, c.wider)
			}
		})
	}
}

// Another generation than the one that was looked at is not answered for.
func TestAnotherGeneration(t *testing.T) {
	t.Parallel()
	s := shop(nil)
	ix := model.NewIndex(s)
	companions, _ := companionsOf(ix)
	ref := s.Policies[0].PolicyRef
	ref.Generation++
	if got := new(agree.Checker).Check(ix, companions).Verdict(ref); got.State != agree.NotEvaluated || got.Reason != "Unknown" {
		t.Errorf("got %+v", got)
	}
}
