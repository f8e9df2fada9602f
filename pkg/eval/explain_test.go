package eval_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// town is world with sidecars, a second namespace, and a pod on the host's network.
func town(edit func(*model.Snapshot), policies ...*model.Policy) *model.Index {
	ix, _ := world(policies...)
	s := *ix.Snapshot
	s.Namespaces = []model.Namespace{{Name: "shop", Labels: map[string]string{"team": "shop"}}, {Name: "web", Labels: map[string]string{"team": "web"}}}
	s.Pods[0].Labels = map[string]string{"app": "cart", v1alpha1.LabelProxy: v1alpha1.ProxyInjected}
	s.Pods[0].Proxy.Injected = true
	s.Pods = append(s.Pods,
		&model.Pod{Namespace: "web", Name: "front-2", Labels: map[string]string{"app": "front"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}},
		&model.Pod{Namespace: "web", Name: "agent", Labels: map[string]string{"app": "front"}, HostNetwork: true},
		&model.Pod{Namespace: "shop", Name: "planned", Labels: map[string]string{"app": "front"}, Template: true},
	)
	if edit != nil {
		edit(&s)
	}
	return model.NewIndex(&s)
}

func party(t *testing.T, ix *model.Index, namespace, name string) eval.Party {
	t.Helper()
	for i := range ix.Snapshot.Pods {
		if p := ix.Snapshot.Pods[i]; p.Namespace == namespace && p.Name == name {
			return eval.PodParty(ix, p)
		}
	}
	t.Fatalf("no pod %s/%s", namespace, name)
	return eval.Party{}
}

func reads() model.Rule {
	return model.Rule{
		Name: "reads", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": "front"})}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
		HTTP: []model.HTTPMatch{
			{
				Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/cart"}},
				Headers: []model.HeaderMatch{{Name: "x-team", Type: model.Present}, {Name: "x-role", Type: model.Exact, Value: "user"}},
			},
			{Hosts: []model.Host{{Name: "admin.test"}, {Name: "x.test", Wildcard: true}}, Methods: []string{"PUT"}, Paths: []model.PathMatch{{Type: model.Regex, Value: "/y"}}},
		},
	}
}

// callee is the pod that the cases call.
func request(method, path string, headers ...string) *model.HTTPRequest {
	r := &model.HTTPRequest{Method: method, Host: "cart", Path: path}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Headers = append(r.Headers, model.Header{Name: headers[i], Value: headers[i+1]})
	}
	return r
}

// On a default deny the trace names the rule that came nearest and its first term that fails, in words.
func TestNearestMiss(t *testing.T) {
	t.Parallel()
	good := []string{"x-team", "a", "x-role", "user"}
	one := policy(model.Allow, reads())
	account := model.Rule{Name: "sa", Peers: []model.Peer{{ServiceAccounts: []string{"other"}}}}
	block := model.Rule{Name: "office", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("10.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}}}}
	two := model.Rule{Name: "two", Peers: []model.Peer{{Namespaces: labels.SelectorFromSet(labels.Set{"team": "a"})}, {ServiceAccounts: []string{"x"}}, {Namespaces: labels.Everything(), Pods: labels.SelectorFromSet(labels.Set{"app": "z"})}}}
	named := model.Rule{Name: "named", Ports: []model.PortRange{{Protocol: model.TCP, Name: "db"}, {Protocol: model.TCP, Name: "gone"}, {Protocol: model.UDP, From: 53, To: 60}}}
	namespaced := model.Rule{Name: "teams", Peers: []model.Peer{{Namespaces: labels.SelectorFromSet(labels.Set{"team": "a"})}}}
	for _, c := range []struct {
		name   string
		from   [2]string // a pod; none: an address outside
		policy *model.Policy
		port   uint16
		http   *model.HTTPRequest
		want   string // the nearest
		term   eval.Term
	}{
		{"method", [2]string{"shop", "front-1"}, one, 8080, request("POST", "/cart", good...), "rule shop/Allow/reads: method POST is not in [GET]", eval.TermMethods},
		{"path", [2]string{"shop", "front-1"}, one, 8080, request("GET", "/cartel?x=/cart", good...), "rule shop/Allow/reads: path /cartel is not in [PathPrefix /cart]", eval.TermPaths},
		{"header absent", [2]string{"shop", "front-1"}, one, 8080, request("GET", "/cart", "x-role", "user"), "rule shop/Allow/reads: header x-team is absent, and must be present", eval.TermHeaders},
		{"header value", [2]string{"shop", "front-1"}, one, 8080, request("GET", "/cart", "x-team", "a", "x-role", "user", "x-role", "admin"), `rule shop/Allow/reads: header x-role is "user,admin", and must be Exact user`, eval.TermHeaders},
		{"the entry that is nearer", [2]string{"shop", "front-1"}, one, 8080, request("PUT", "/y"), "rule shop/Allow/reads: host cart is not in [admin.test, *.x.test]", eval.TermHosts},
		{"peers", [2]string{"shop", "cart-2"}, one, 8080, request("GET", "/cart", good...), "rule shop/Allow/reads: the labels of shop/cart-2 do not match {app=front}", eval.TermPeers},
		{"namespace", [2]string{"web", "front-2"}, one, 8080, request("GET", "/cart", good...), "rule shop/Allow/reads: web/front-2 is not in namespace shop", eval.TermPeers},
		{"host network", [2]string{"web", "agent"}, one, 8080, request("GET", "/cart", good...), "rule shop/Allow/reads: web/agent is on the host's network, where selectors mean nobody", eval.TermPeers},
		{"outside", [2]string{}, one, 8080, request("GET", "/cart", good...), "rule shop/Allow/reads: 192.0.2.1 is no pod that is known, and the peer is pods of namespace shop {app=front}", eval.TermPeers},
		{"port", [2]string{"shop", "front-1"}, one, 5432, nil, "rule shop/Allow/reads: port 5432 is not in [8080]", eval.TermPorts},
		{"bytes", [2]string{"shop", "front-1"}, one, 8080, nil, "rule shop/Allow/reads: the rule has http, and the call is no HTTP request", eval.TermHTTP},
		{"a port without HTTP", [2]string{"shop", "front-1"}, policy(model.Allow, model.Rule{Name: "x", HTTP: reads().HTTP}), 5432, nil, "rule shop/Allow/x: the rule has http, and port 5432 does not speak HTTP: no Service says so", eval.TermHTTP},
		{"account", [2]string{"shop", "front-1"}, policy(model.Allow, account), 8080, request("GET", "/"), "rule shop/Allow/sa: service account front is not in [other]", eval.TermPeers},
		{"no account", [2]string{"shop", "cart-2"}, policy(model.Allow, account), 8080, request("GET", "/"), "rule shop/Allow/sa: shop/cart-2 carries no stamped service account, and must be one of [other]", eval.TermPeers},
		{"block", [2]string{"shop", "front-1"}, policy(model.Allow, block), 8080, request("GET", "/"), "rule shop/Allow/office: address 10.0.0.2 is not in 10.0.0.0/8 without 10.0.0.0/24", eval.TermPeers},
		{"block of nobody", [2]string{"shop", "planned"}, policy(model.Allow, block), 8080, request("GET", "/"), "rule shop/Allow/office: the address of shop/planned is not known, and the peer is 10.0.0.0/8 without 10.0.0.0/24", eval.TermPeers},
		{"namespaces", [2]string{"web", "front-2"}, policy(model.Allow, namespaced), 8080, request("GET", "/"), "rule shop/Allow/teams: the labels of namespace web do not match {team=a}", eval.TermPeers},
		{"several peers", [2]string{"web", "front-2"}, policy(model.Allow, two), 8080, request("GET", "/"), "rule shop/Allow/two: web/front-2 is none of [pods of namespaces {team=a}, pods of namespace shop with service account x, pods {app=z}]", eval.TermPeers},
		{"named ports", [2]string{"shop", "front-1"}, policy(model.Allow, named), 8080, request("GET", "/"), "rule shop/Allow/named: port 8080 is not in [db (5432), gone (no container has it), UDP 53-60]", eval.TermPorts},
		{"fewest terms", [2]string{"shop", "front-1"}, policy(model.Allow, account, reads()), 5432, nil, "rule shop/Allow/sa: service account front is not in [other]", eval.TermPeers},
		{"what fails last", [2]string{"shop", "front-1"}, policy(model.Allow, account, reads()), 8080, request("POST", "/cart", good...), "rule shop/Allow/reads: method POST is not in [GET]", eval.TermMethods},
		{"an unfriendly value", [2]string{"shop", "front-1"}, one, 8080, request("GET\n"+strings.Repeat("a", 100), "/cart", good...), `rule shop/Allow/reads: method "GET\n` + strings.Repeat("a", 76) + `..." is not in [GET]`, eval.TermMethods},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ix := town(func(s *model.Snapshot) {
				s.Pods = append(s.Pods, &model.Pod{Namespace: "shop", Name: "cart-2", Labels: map[string]string{"app": "other"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}})
			}, c.policy)
			from := eval.PartyAt(ix, stranger)
			if c.from != [2]string{} {
				from = party(t, ix, c.from[0], c.from[1])
			}
			trace := eval.Explain(ix, nil, eval.Call{From: from, To: party(t, ix, "shop", "cart-1"), Port: c.port, Protocol: model.TCP, HTTP: c.http})
			s := trace.Step(eval.StepL7)
			if s.Verdict != (model.Verdict{Decider: model.OutcomeDefaultDeny}) {
				t.Fatalf("got %+v", s.Verdict)
			}
			if len(s.Nearest) == 0 || s.Nearest[0].String() != c.want || s.Nearest[0].Term != c.term {
				t.Errorf("got %v, want %q (%s)", s.Nearest, c.want, c.term)
			}
		})
	}
}

// Each step gives its verdict and decider, and the whole that of the first step that refuses.
func TestSteps(t *testing.T) {
	t.Parallel()
	type verdicts map[eval.StepName]string // "allow" or "deny", the decider, and "-" before those that have no say
	egress := &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "out"}, Action: model.Allow, Selector: labels.SelectorFromSet(labels.Set{"app": "front"}), IsolatesEgress: true,
		Egress: []model.Rule{{Name: "db", Ports: []model.PortRange{{Protocol: model.TCP, From: 5432, To: 5432}}}},
	}
	dry := policy(model.Allow)
	dry.Name, dry.DryRun = "dry", true
	plain := model.Rule{Name: "plain", Ports: []model.PortRange{{Protocol: model.TCP, From: 1, To: 9000}}}
	bare := func(s *model.Snapshot) {
		s.Pods[0].Labels, s.Pods[0].Proxy = map[string]string{"app": "cart"}, model.ProxySettings{}
	}
	get := request("GET", "/cart", "x-team", "a", "x-role", "user")
	for _, c := range []struct {
		name     string
		edit     func(*model.Snapshot)
		policies []*model.Policy
		from, to string
		port     uint16
		protocol model.Protocol
		http     *model.HTTPRequest
		want     verdicts
		verdict  string
	}{
		{
			"no policy", nil, nil, "shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow not-isolated", "capture": "allow captured", "l7": "allow not-isolated"},
			"allow not-isolated",
		},
		{
			"the rule on each layer", nil,
			[]*model.Policy{policy(model.Allow, reads())},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow shop/Allow/reads", "capture": "allow captured", "l7": "allow shop/Allow/reads"},
			"allow shop/Allow/reads",
		},
		{
			"the caller's own policy", nil,
			[]*model.Policy{policy(model.Allow, reads()), egress},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "deny default-deny", "ingress": "allow shop/Allow/reads", "capture": "allow captured", "l7": "allow shop/Allow/reads"},
			"deny default-deny",
		},
		{
			"L4 knows no method", nil,
			[]*model.Policy{policy(model.Allow, reads())},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, request("POST", "/cart"),
			verdicts{"egress": "allow not-isolated", "ingress": "allow shop/Allow/reads", "capture": "allow captured", "l7": "deny default-deny"},
			"deny default-deny",
		},
		{
			"a deny at both layers", nil,
			[]*model.Policy{policy(model.Allow, plain), policy(model.Deny, plain)},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "deny shop/Deny/plain", "capture": "allow captured", "l7": "deny shop/Deny/plain"},
			"deny shop/Deny/plain",
		},
		{
			"a deny with http is the sidecar's", nil,
			[]*model.Policy{policy(model.Deny, reads())},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow not-isolated", "capture": "allow captured", "l7": "deny shop/Deny/reads"},
			"deny shop/Deny/reads",
		},
		{
			"what a deny leaves", nil,
			[]*model.Policy{policy(model.Deny, plain)},
			"shop/front-1", "shop/cart-1", 9001, model.TCP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "allow not-denied", "capture": "allow captured", "l7": "allow not-isolated"},
			"allow not-isolated",
		},
		{
			"http without a sidecar", bare,
			[]*model.Policy{policy(model.Allow, reads())},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "deny default-deny", "capture": "-allow no-sidecar", "l7": "-allow shop/Allow/reads"},
			"deny default-deny",
		},
		{
			"no http and no sidecar", bare,
			[]*model.Policy{policy(model.Allow, plain)},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow shop/Allow/plain", "capture": "-allow no-sidecar", "l7": "-allow shop/Allow/plain"},
			"allow shop/Allow/plain",
		},
		{
			"out of the capture", func(s *model.Snapshot) { s.Pods[0].Proxy.ExcludedInbound = []uint16{8080} },
			[]*model.Policy{policy(model.Allow, reads())},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "deny default-deny", "capture": "-allow excluded", "l7": "-allow shop/Allow/reads"},
			"deny default-deny",
		},
		{
			"UDP", nil,
			[]*model.Policy{policy(model.Allow, plain)},
			"shop/front-1", "shop/cart-1", 8080, model.UDP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "deny default-deny", "capture": "-allow not-tcp", "l7": "-allow not-tcp"},
			"deny default-deny",
		},
		{
			"itself", nil,
			[]*model.Policy{policy(model.Allow)},
			"shop/cart-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow self", "ingress": "allow self", "capture": "-allow self", "l7": "-deny default-deny"},
			"allow self",
		},
		{
			"outside", nil,
			[]*model.Policy{egress},
			"shop/front-1", "192.0.2.1", 443, model.TCP, nil,
			verdicts{"egress": "deny default-deny", "ingress": "-allow outside", "capture": "-allow outside", "l7": "-allow outside"},
			"deny default-deny",
		},
		{
			"an unknown caller", nil,
			[]*model.Policy{policy(model.Allow, reads())},
			"", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "-allow outside", "ingress": "deny default-deny", "capture": "allow captured", "l7": "deny default-deny"},
			"deny default-deny",
		},
		{
			"on the host's network", nil,
			[]*model.Policy{policy(model.Allow)},
			"shop/front-1", "web/agent", 8080, model.TCP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "-allow host-network", "capture": "-allow no-sidecar", "l7": "-allow not-isolated"},
			"allow not-isolated",
		},
		{
			"the sidecar's own port", nil,
			[]*model.Policy{policy(model.Allow, model.Rule{Name: "all"})},
			"shop/front-1", "shop/cart-1", 15006, model.TCP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "deny reserved-port", "capture": "allow captured", "l7": "deny reserved-port"},
			"deny reserved-port",
		},
		{
			"the guard", nil,
			[]*model.Policy{policy(model.Allow, model.Rule{Name: "all"})},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, request("GET", "/a%00"),
			verdicts{"egress": "allow not-isolated", "ingress": "allow shop/Allow/all", "capture": "allow captured", "l7": "deny guard-path"},
			"deny guard-path",
		},
		{
			"one that awaits its address", nil,
			[]*model.Policy{policy(model.Allow, reads())},
			"shop/planned", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow shop/Allow/reads", "capture": "allow captured", "l7": "allow shop/Allow/reads"},
			"allow shop/Allow/reads",
		},
		{
			"metrics", func(s *model.Snapshot) {
				s.Mesh.Metrics, s.Mesh.MetricsPorts = []model.Peer{{Namespaces: labels.SelectorFromSet(labels.Set{"team": "web"})}}, []uint16{15090}
			},
			[]*model.Policy{policy(model.Allow)},
			"web/front-2", "shop/cart-1", 15090, model.TCP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "allow plumbing", "capture": "allow captured", "l7": "deny reserved-port"},
			"deny reserved-port",
		},
		{
			"bound mode", func(s *model.Snapshot) {
				s.Pods[0].Proxy.Bound = []model.BoundPort{{Port: 8080}}
			}, nil, "shop/front-1", "shop/cart-1", 5432, model.TCP, nil,
			verdicts{"egress": "allow not-isolated", "ingress": "allow not-isolated", "capture": "-allow not-bound", "l7": "-allow not-isolated"},
			"allow not-isolated",
		},
		{
			"a policy that is only tried out", nil,
			[]*model.Policy{dry},
			"shop/front-1", "shop/cart-1", 8080, model.TCP, get,
			verdicts{"egress": "allow not-isolated", "ingress": "allow not-isolated", "capture": "allow captured", "l7": "allow not-isolated"},
			"allow not-isolated",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ix := town(c.edit, c.policies...)
			trace := eval.Explain(ix, nil, eval.Call{From: partyNamed(t, ix, c.from), To: partyNamed(t, ix, c.to), Port: c.port, Protocol: c.protocol, HTTP: c.http})
			got := verdicts{}
			for _, s := range trace.Steps {
				got[s.Name] = verdictWords(s.Verdict)
				if !s.Applies {
					got[s.Name] = "-" + got[s.Name]
				}
				if s.Text == "" {
					t.Errorf("step %s has no words", s.Name)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if got := verdictWords(trace.Verdict); got != c.verdict {
				t.Errorf("verdict %q, want %q", got, c.verdict)
			}
		})
	}
}

func partyNamed(t *testing.T, ix *model.Index, name string) eval.Party {
	t.Helper()
	namespace, pod, isPod := strings.Cut(name, "/")
	switch {
	case name == "":
		return eval.Party{}
	case isPod:
		return party(t, ix, namespace, pod)
	}
	return eval.PartyAt(ix, netip.MustParseAddr(name))
}

func verdictWords(v model.Verdict) string {
	if v.Allowed {
		return "allow " + v.Decider
	}
	return "deny " + v.Decider
}

// What DryRun policies would decide is told apart, on the layers that they would decide on.
func TestDryRunIsToldApart(t *testing.T) {
	t.Parallel()
	dry := policy(model.Allow)
	dry.Name, dry.DryRun = "dry", true
	ix := town(nil, dry)
	trace := eval.Explain(ix, nil, eval.Call{From: party(t, ix, "shop", "front-1"), To: party(t, ix, "shop", "cart-1"), Port: 8080, Protocol: model.TCP, HTTP: request("GET", "/")})
	want := &model.Verdict{Decider: model.OutcomeDefaultDeny}
	for _, s := range trace.Steps {
		switch s.Name {
		case eval.StepIngress, eval.StepL7:
			if diff := cmp.Diff(want, s.DryRun); diff != "" || !s.Verdict.Allowed {
				t.Errorf("%s: verdict %v, dry run (-want +got):\n%s", s.Name, s.Verdict, diff)
			}
		default:
			if s.DryRun != nil {
				t.Errorf("%s: dry run %v, want none", s.Name, s.DryRun)
			}
		}
	}
}

// Where NetworkPolicies are given they decide, and the trace tells by which object, and where the policies mean otherwise.
func TestStandingNetworkPoliciesDecide(t *testing.T) {
	t.Parallel()
	np := func(name string, ingress ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart"}}, Ingress: ingress,
		}}
	}
	anybody := networkingv1.NetworkPolicyIngressRule{}
	front := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "front"}}}}}
	allow := policy(model.Allow, reads())
	for _, c := range []struct {
		name     string
		policies []*model.Policy
		standing []*networkingv1.NetworkPolicy
		from     string
		want     model.Verdict
		agrees   bool
		text     string
	}{
		{"the companion", []*model.Policy{allow}, []*networkingv1.NetworkPolicy{np("c", front)}, "shop/front-1", model.Verdict{Allowed: true, Decider: "shop/Allow/reads"}, true, "by NetworkPolicy shop/c ingress[0]"},
		{"a wider one of somebody's", []*model.Policy{allow}, []*networkingv1.NetworkPolicy{np("c", front), np("wide", anybody)}, "web/front-2", model.Verdict{Allowed: true, Decider: "NetworkPolicy shop/wide ingress[0]"}, false, "the policies mean otherwise"},
		{"a narrower one of somebody's", nil, []*networkingv1.NetworkPolicy{np("shut")}, "shop/front-1", model.Verdict{Decider: "NetworkPolicy shop/shut"}, false, "isolated by NetworkPolicies shop/shut"},
		{"somebody's that lets it pass", nil, []*networkingv1.NetworkPolicy{np("some", front)}, "shop/front-1", model.Verdict{Allowed: true, Decider: "NetworkPolicy shop/some ingress[0]"}, true, "allowed by NetworkPolicy shop/some ingress[0]"},
		{"a companion that is missing", []*model.Policy{allow}, nil, "192.0.2.1", model.Verdict{Allowed: true, Decider: "not-isolated"}, false, "the policies mean otherwise"},
		{"both refuse", []*model.Policy{allow}, []*networkingv1.NetworkPolicy{np("c", front)}, "192.0.2.1", model.Verdict{Decider: "default-deny"}, true, "isolated by NetworkPolicies shop/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ix := town(nil, c.policies...)
			set, found := kernel.New(c.standing)
			if len(found) > 0 {
				t.Fatal(found)
			}
			trace := eval.Explain(ix, set, eval.Call{From: partyNamed(t, ix, c.from), To: party(t, ix, "shop", "cart-1"), Port: 8080, Protocol: model.TCP, HTTP: request("GET", "/")})
			s := trace.Step(eval.StepIngress)
			if s.Verdict != c.want || !strings.Contains(s.Text, c.text) || (s.Meant.Allowed == s.Verdict.Allowed) != c.agrees {
				t.Errorf("got %+v, meant %+v, %q", s.Verdict, *s.Meant, s.Text)
			}
		})
	}
}

// A trace's verdict is the plain evaluators' verdict.
func TestTraceAgreesWithIngress(t *testing.T) {
	t.Parallel()
	ix := town(nil, policy(model.Allow, reads()), policy(model.Deny, model.Rule{Name: "x", HTTP: []model.HTTPMatch{{Methods: []string{"PUT"}}}}))
	callee := party(t, ix, "shop", "cart-1")
	for _, r := range []*model.HTTPRequest{nil, request("GET", "/cart", "x-team", "a", "x-role", "user"), request("PUT", "/y"), request("GET", "/%")} {
		for _, from := range []netip.Addr{friend, stranger} {
			for _, port := range []uint16{8080, 5432, 15001} {
				want := eval.Ingress(ix, callee.Workload, model.Request{Source: from, Port: port, HTTP: r})
				trace := eval.Explain(ix, nil, eval.Call{From: eval.PartyAt(ix, from), To: callee, Port: port, Protocol: model.TCP, HTTP: r})
				if diff := cmp.Diff(want, trace.Step(eval.StepL7).Verdict, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s %d %v: (-want +got):\n%s", from, port, r, diff)
				}
			}
		}
	}
}
