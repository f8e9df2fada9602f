package eval_test

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

var (
	friend   = netip.MustParseAddr("10.0.0.2")
	stranger = netip.MustParseAddr("192.0.2.1")
)

// world is one callee on port 8080 (HTTP) and 5432 (TCP), a friend, and the policies of a case.
func world(policies ...*model.Policy) (*model.Index, *model.Workload) {
	ix := model.NewIndex(&model.Snapshot{
		Pods: []*model.Pod{
			{
				Namespace: "shop", Name: "cart-1", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
				Ports: []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}, {Name: "db", Number: 5432, Protocol: model.TCP}},
			},
			{
				Namespace: "shop", Name: "front-1", Addresses: []netip.Addr{friend},
				Labels: map[string]string{"app": "front", v1alpha1.LabelServiceAccount: "front"},
			},
		},
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{
			{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: 8080},
		}}},
		Policies: policies,
	})
	return ix, ix.WorkloadOf("shop", "cart-1")
}

func policy(action model.Action, rules ...model.Rule) *model.Policy {
	return &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: string(action)}, Action: action, IsolatesIngress: true,
		Selector: labels.SelectorFromSet(labels.Set{"app": "cart"}), Ingress: rules, Accepted: true,
	}
}

func get(path string) model.Request {
	return model.Request{Source: friend, Port: 8080, HTTP: &model.HTTPRequest{Method: "GET", Host: "cart", Path: path}}
}

func TestIngress(t *testing.T) {
	t.Parallel()
	front := model.Peer{Pods: labels.SelectorFromSet(labels.Set{"app": "front"})}
	reads := model.Rule{Name: "reads", Peers: []model.Peer{front}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}}, HTTP: []model.HTTPMatch{{
		Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/cart"}},
	}}}
	from := func(r model.Request, source netip.Addr) model.Request { r.Source = source; return r }
	tcp := func(port uint16) model.Request { return model.Request{Source: friend, Port: port} }
	for _, c := range []struct {
		name     string
		policies []*model.Policy
		request  model.Request
		want     model.Verdict
	}{
		{"no policy is open", nil, get("/"), model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}},
		{"an allow without rules shuts", []*model.Policy{policy(model.Allow)}, get("/"), model.Verdict{Decider: model.OutcomeDefaultDeny}},
		{"the rule allows", []*model.Policy{policy(model.Allow, reads)}, get("/cart/1?x=1"), model.Verdict{Allowed: true, Decider: "shop/Allow/reads"}},
		{"a prefix is whole segments", []*model.Policy{policy(model.Allow, reads)}, get("/cartel"), model.Verdict{Decider: model.OutcomeDefaultDeny}},
		{"an unknown caller matches no selector", []*model.Policy{policy(model.Allow, reads)}, from(get("/cart"), stranger), model.Verdict{Decider: model.OutcomeDefaultDeny}},
		{"an http rule allows nothing on TCP", []*model.Policy{policy(model.Allow, model.Rule{Name: "x", HTTP: reads.HTTP})}, tcp(5432), model.Verdict{Decider: model.OutcomeDefaultDeny}},
		{"an http deny denies all on TCP", []*model.Policy{policy(model.Deny, model.Rule{Name: "x", HTTP: reads.HTTP})}, tcp(5432), model.Verdict{Decider: "shop/Deny/x"}},
		{"deny beats allow", []*model.Policy{policy(model.Allow, reads), policy(model.Deny, reads)}, get("/cart"), model.Verdict{Decider: "shop/Deny/reads"}},
		{"a deny without rules denies nothing", []*model.Policy{policy(model.Deny)}, get("/cart"), model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}},
		{"the sidecar's ports are never allowed", []*model.Policy{policy(model.Allow, model.Rule{Name: "all"})}, tcp(15006), model.Verdict{Decider: model.OutcomeReservedPort}},
		{"the guard comes first", []*model.Policy{policy(model.Allow, model.Rule{Name: "all"})}, get("/a%00"), model.Verdict{Decider: model.OutcomeGuardPath}},
		{"a path that is not UTF-8 has more than one reading", []*model.Policy{policy(model.Allow, model.Rule{Name: "all"})}, get("/%e0%80%ae%e0%80%ae/a"), model.Verdict{Decider: model.OutcomeGuardPath}},
		{"a path that is UTF-8 has one", []*model.Policy{policy(model.Allow, model.Rule{Name: "all"})}, get("/%C3%A9?%80"), model.Verdict{Allowed: true, Decider: "shop/Allow/all"}},
		{"a named port nobody has allows nothing", []*model.Policy{policy(model.Allow, model.Rule{Name: "x", Ports: []model.PortRange{{Protocol: model.TCP, Name: "none"}}})}, tcp(5432), model.Verdict{Decider: model.OutcomeDefaultDeny}},
		{"a named port nobody has denies all", []*model.Policy{policy(model.Deny, model.Rule{Name: "x", Ports: []model.PortRange{{Protocol: model.TCP, Name: "none"}}})}, tcp(5432), model.Verdict{Decider: "shop/Deny/x"}},
		{"a stamped account matches", []*model.Policy{policy(model.Allow, model.Rule{Name: "sa", Peers: []model.Peer{{ServiceAccounts: []string{"front"}}}})}, get("/"), model.Verdict{Allowed: true, Decider: "shop/Allow/sa"}},
		{"another account does not", []*model.Policy{policy(model.Allow, model.Rule{Name: "sa", Peers: []model.Peer{{ServiceAccounts: []string{"fron."}}}})}, get("/"), model.Verdict{Decider: model.OutcomeDefaultDeny}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ix, callee := world(c.policies...)
			if got := eval.Ingress(ix, callee, c.request); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// A DryRun policy decides nothing; the dry-run verdict says what it would.
func TestDryRun(t *testing.T) {
	t.Parallel()
	p := policy(model.Allow)
	p.DryRun = true
	ix, callee := world(p)
	if got := eval.Ingress(ix, callee, get("/")); !got.Allowed {
		t.Errorf("a DryRun policy decided: %+v", got)
	}
	if got := eval.IngressDryRun(ix, callee, get("/")); got.Allowed {
		t.Errorf("the dry-run verdict ignores the DryRun policy: %+v", got)
	}
}

// An Allow must hold for every reading of a request, a Deny for any: what one admits in doubt, the other must not let through.
func TestReadings(t *testing.T) {
	t.Parallel()
	header := func(typ model.MatchType, value string) model.HTTPMatch {
		return model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-role", Type: typ, Value: value}}}
	}
	path := func(typ model.MatchType, value string) model.HTTPMatch {
		return model.HTTPMatch{Paths: []model.PathMatch{{Type: typ, Value: value}}}
	}
	host := func(name string) model.HTTPMatch { return model.HTTPMatch{Hosts: []model.Host{{Name: name}}} }
	roles := func(values ...string) model.Request {
		r := get("/")
		for _, v := range values {
			r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: "x-role", Value: v})
		}
		return r
	}
	hosted := func(h string) model.Request { r := get("/"); r.HTTP.Host = h; return r }
	for _, c := range []struct {
		name          string
		match         model.HTTPMatch
		request       model.Request
		allows, denys bool // whether an Allow, and a Deny, with this match applies
	}{
		{"one value", header(model.Exact, "admin"), roles("admin"), true, true},
		{"repeated header", header(model.Exact, "admin"), roles("user", "admin"), false, true},
		{"comma list", header(model.Exact, "admin"), roles("user, admin"), false, true},
		{"regex on every value", header(model.Regex, "a.*"), roles("ab", "ac"), true, true},
		{"regex on one value", header(model.Regex, "a.*"), roles("ab", "x"), false, true},
		{"absent", header(model.Exact, "admin"), roles(), false, false},
		{"not exact, absent", header(model.NotExact, "admin"), roles(), true, true},
		{"not exact, one of two", header(model.NotExact, "admin"), roles("admin", "user"), false, true},
		{"not regex, one of two", header(model.NotRegex, "adm.*"), roles("admin", "user"), false, true},
		{"path parameters", path(model.Exact, "/admin"), get("/admin;x=y"), false, true},
		{"repeated slash", path(model.Prefix, "/admin"), get("//admin/x"), false, true},
		{"trailing slash", path(model.Exact, "/admin"), get("/admin/"), false, true},
		{"escape in another case", path(model.Exact, "/caf%C3%A9"), get("/caf%c3%a9"), false, true},
		{"query", path(model.Exact, "/admin"), get("/admin?x"), true, true},
		{"regex never reaches the query", path(model.Regex, `.*\.css`), get("/admin?x=.css"), false, false},
		{"regex alternatives are grouped", path(model.Regex, "/a|/b"), get("/aX"), false, false},
		{"regex and path parameters", path(model.Regex, "/a.*"), get("/a;b"), false, true},
		{"host without case, port and dot", host("cart"), hosted("CART.:8080"), true, true},
		{"another host", host("cart"), hosted("carts"), false, false},
		{"wildcard host", model.HTTPMatch{Hosts: []model.Host{{Name: "good.test", Wildcard: true}}}, hosted("evilgood.test"), false, false},
		{"method in another case", model.HTTPMatch{Methods: []string{"GET"}}, func() model.Request { r := get("/"); r.HTTP.Method = "get"; return r }(), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rule := model.Rule{Name: "r", HTTP: []model.HTTPMatch{c.match}}
			ix, callee := world(policy(model.Allow, rule))
			if got := eval.Ingress(ix, callee, c.request); got.Allowed != c.allows {
				t.Errorf("allow: got %+v, want %t", got, c.allows)
			}
			ix, callee = world(policy(model.Deny, rule))
			if got := eval.Ingress(ix, callee, c.request); got.Allowed == c.denys {
				t.Errorf("deny: got %+v, want denied %t", got, c.denys)
			}
		})
	}
}
