package convert_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// policy reads the spec of a policy.
func policy(t testing.TB, spec string) *v1alpha1.L7Policy {
	t.Helper()
	p := &v1alpha1.L7Policy{}
	p.Namespace, p.Name, p.UID, p.Generation = "default", "reviews", "u1", 3
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b labels.Selector) bool {
		return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
	}),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

func parsed(t testing.TB, s string) labels.Selector {
	t.Helper()
	sel, err := labels.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// Everything that a policy says arrives, defaults are filled in, and values are spelt as they are compared.
func TestPolicyArrivesWhole(t *testing.T) {
	t.Parallel()
	got, found := convert.Policy(policy(t, `
podSelector: {matchLabels: {app: reviews}, matchExpressions: [{key: tier, operator: NotIn, values: [a, b]}]}
ingress:
- name: reads
  from:
  - podSelector: {matchLabels: {app: productpage}}
    namespaceSelector: {}
    serviceAccounts: [{name: one}, {name: two}]
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
  ports: [{port: 9080}, {port: 1, endPort: 9}, {port: web, protocol: TCP}]
  http:
  - hosts: [Reviews, "*.Example.com", "2001:DB8::1"]
    methods: [GET]
    paths: [{value: /a/}, {value: /}, {type: Exact, value: /b/}, {type: RegularExpression, value: '(?i)^/c$'}]
    headers: [{name: X-Trace, value: a}, {name: x-b, type: Absent}, {name: x-c, type: NotRegularExpression, value: '^c$'}]
- from: []
egress:
- ports: [{protocol: UDP}]
`))
	if len(found) != 1 || found[0].Code != "empty-means-any" || found[0].Severity != model.SeverityWarning || found[0].Field != "spec.ingress[1].from" {
		t.Errorf("diagnostics: %v", found)
	}
	ten := netip.MustParsePrefix("10.0.0.0/8")
	want := model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "default", Name: "reviews", UID: "u1", Generation: 3},
		Action:    model.Allow, Selector: parsed(t, "app=reviews,tier notin (a,b)"), IsolatesIngress: true, IsolatesEgress: true, Accepted: true,
		Ingress: []model.Rule{{
			Name: "reads",
			Peers: []model.Peer{
				{Pods: parsed(t, "app=productpage"), Namespaces: labels.Everything(), ServiceAccounts: []string{"one", "two"}},
				{Block: &model.IPBlock{CIDR: ten, Except: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}},
			},
			Ports: []model.PortRange{{Protocol: model.TCP, From: 9080, To: 9080}, {Protocol: model.TCP, From: 1, To: 9}, {Protocol: model.TCP, Name: "web"}},
			HTTP: []model.HTTPMatch{{
				Hosts:   []model.Host{{Name: "reviews"}, {Name: "example.com", Wildcard: true}, {Name: "[2001:db8::1]"}},
				Methods: []string{"GET"},
				Paths: []model.PathMatch{
					{Type: model.Prefix, Value: "/a"}, {Type: model.Prefix, Value: "/"}, {Type: model.Exact, Value: "/b/"}, {Type: model.Regex, Value: "(?i)/c"},
				},
				Headers: []model.HeaderMatch{
					{Name: "x-trace", Type: model.Exact, Value: "a"}, {Name: "x-b", Type: model.Absent}, {Name: "x-c", Type: model.NotRegex, Value: "c"},
				},
			}},
		}, {Name: "1"}},
		Egress: []model.Rule{{Name: "0", Ports: []model.PortRange{{Protocol: model.UDP}}}},
	}
	if d := diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// What each broken part does, in an Allow and in a Deny.
func TestBrokenParts(t *testing.T) {
	t.Parallel()
	get := []model.HTTPMatch{{Methods: []string{"GET"}}}
	port80 := []model.PortRange{{Protocol: model.TCP, From: 80, To: 80}}
	for _, c := range []struct {
		name, spec  string
		allow, deny []model.Rule
	}{
		{
			"peer", "ingress: [{from: [{}], ports: [{port: 80}]}, {ports: [{port: 80}]}]",
			[]model.Rule{{Name: "1", Ports: port80}},
			[]model.Rule{{Name: "0", Ports: port80}, {Name: "1", Ports: port80}},
		},
		{"port", "ingress: [{ports: [{port: 80}, {port: 0}], http: [{methods: [GET]}]}]", nil, []model.Rule{{Name: "0", HTTP: get}}},
		{"udp with http", "ingress: [{ports: [{protocol: UDP}], http: [{methods: [GET]}]}]", nil, []model.Rule{{Name: "0", HTTP: get}}},
		{"empty http", "ingress: [{ports: [{port: 80}], http: []}]", nil, []model.Rule{{Name: "0", Ports: port80}}},
		{"empty entry", "ingress: [{http: [{methods: [GET]}, {}]}]", nil, []model.Rule{{Name: "0"}}},
		{
			"path", "ingress: [{http: [{methods: [GET], paths: [{value: /a}, {value: b}]}]}]", nil, []model.Rule{{Name: "0", HTTP: get}},
		},
		{
			"header", "ingress: [{http: [{methods: [GET], headers: [{name: x-a, value: a}, {name: ':x', value: a}]}]}]", nil,
			[]model.Rule{{Name: "0", HTTP: get}},
		},
		{
			"name", "ingress: [{name: a, ports: [{port: 80}]}, {name: a, ports: [{port: 80}]}]",
			[]model.Rule{{Name: "a", Ports: port80}, {Name: "1", Ports: port80}},
			[]model.Rule{{Name: "a", Ports: port80}, {Name: "1", Ports: port80}},
		},
		{"too many rules", "ingress: [{}" + strings.Repeat(", {ports: [{port: 80}]}", 10_000) + "]", nil, []model.Rule{{Name: "0"}}},
		{"selector", "{podSelector: {matchLabels: {app: '?'}}, ingress: [{ports: [{port: 80}]}]}", nil, []model.Rule{{Name: "0"}}},
		{"direction", "{policyTypes: [In], ingress: [{ports: [{port: 80}]}]}", nil, []model.Rule{{Name: "0"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for action, want := range map[v1alpha1.Action][]model.Rule{v1alpha1.ActionAllow: c.allow, v1alpha1.ActionDeny: c.deny} {
				p := policy(t, c.spec)
				p.Spec.Action = action
				got, found := convert.Policy(p)
				if d := diff(want, got.Ingress); d != "" {
					t.Errorf("%s: -want +got:\n%s", action, d)
				}
				if got.Accepted || !got.IsolatesIngress {
					t.Errorf("%s: accepted %t, governs ingress %t", action, got.Accepted, got.IsolatesIngress)
				}
				if len(found) != 1 {
					t.Fatalf("%s: want one diagnostic, got: %v", action, found)
				}
				if d := found[0]; d.Severity != model.SeverityError || d.Code == "" || d.Field == "" || d.Consequence == "" || d.Remedy == "" {
					t.Errorf("%s: not complete: %+v", action, d)
				}
			}
		})
	}
}

// A policy whose frame is broken governs whatever it could have meant.
func TestBrokenFrame(t *testing.T) {
	t.Parallel()
	everything := []model.Rule{{Name: "0"}}
	for _, c := range []struct {
		name, spec string
		want       model.Policy
	}{
		{
			"selector", "{podSelector: {matchExpressions: [{key: app, operator: In}]}, ingress: [{}]}",
			model.Policy{Action: model.Allow, Selector: labels.Everything(), IsolatesIngress: true},
		},
		{
			"direction", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress, Out], ingress: [{}], egress: [{}]}",
			model.Policy{Action: model.Allow, Selector: parsed(t, "app=a"), IsolatesIngress: true, IsolatesEgress: true},
		},
		{
			"action", "{podSelector: {matchLabels: {app: a}}, action: allow, ingress: [{}]}",
			model.Policy{Action: model.Deny, Selector: parsed(t, "app=a"), IsolatesIngress: true, Ingress: everything},
		},
		{
			"enforcement", "{enforcement: dryrun, ingress: [{}]}",
			model.Policy{Action: model.Allow, Selector: labels.Everything(), IsolatesIngress: true, Ingress: everything},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.want.PolicyRef = model.PolicyRef{Namespace: "default", Name: "reviews", UID: "u1", Generation: 3}
			got, found := convert.Policy(policy(t, c.spec))
			if d := diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if len(found) != 1 {
				t.Errorf("diagnostics: %v", found)
			}
		})
	}
}

// policyTypes and its default are NetworkPolicy's; rules in a direction that is not governed have no effect, and that is said.
func TestDirections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		spec            string
		ingress, egress bool
		warned          string
	}{
		{"{}", true, false, ""},
		{"{egress: []}", true, false, ""},
		{"{egress: [{}]}", true, true, ""},
		{"{policyTypes: [], egress: [{}]}", true, true, ""},
		{"{policyTypes: [Egress]}", false, true, ""},
		{"{policyTypes: [Egress], ingress: [{}]}", false, true, "spec.ingress"},
		{"{policyTypes: [Ingress], egress: [{}]}", true, false, "spec.egress"},
		{"{policyTypes: [Ingress, Egress]}", true, true, ""},
	} {
		got, found := convert.Policy(policy(t, c.spec))
		if got.IsolatesIngress != c.ingress || got.IsolatesEgress != c.egress || !got.Accepted {
			t.Errorf("%s: governs ingress %t, egress %t, accepted %t", c.spec, got.IsolatesIngress, got.IsolatesEgress, got.Accepted)
		}
		if !c.ingress && got.Ingress != nil || !c.egress && got.Egress != nil {
			t.Errorf("%s: rules stand in a direction that is not governed", c.spec)
		}
		if (c.warned != "") != (len(found) == 1) || c.warned != "" && (found[0].Field != c.warned || found[0].Severity != model.SeverityWarning) {
			t.Errorf("%s: diagnostics: %v", c.spec, found)
		}
	}
}

// A Deny without rules denies nothing, unlike an Allow, which then allows nothing: that is said.
func TestDenyWithoutRules(t *testing.T) {
	t.Parallel()
	got, found := convert.Policy(policy(t, "{action: Deny, ingress: []}"))
	if !got.Accepted || len(got.Ingress) > 0 || len(found) != 1 || found[0].Code != "deny-without-rules" || found[0].Severity != model.SeverityWarning {
		t.Errorf("got %+v and %v", got, found)
	}
	for _, spec := range []string{"{}", "{action: Deny, ingress: [{}]}", "{action: Deny, egress: [{}]}"} {
		if _, found := convert.Policy(policy(t, spec)); len(found) > 0 {
			t.Errorf("%s: %v", spec, found)
		}
	}
}

// A host that names a Service has every spelling of it, a short one in the policy's namespace only.
func TestHostAliases(t *testing.T) {
	t.Parallel()
	world := convert.NewWorld(convert.Parts{Services: []model.Service{
		{Namespace: "default", Name: "reviews", ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.7"), netip.MustParseAddr("fd00::7")}},
		{Namespace: "shop", Name: "reviews"},
	}})
	long := []string{"10.96.0.7", "[fd00::7]", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"}
	for host, want := range map[string][]string{
		"Reviews":                          long,
		"reviews.shop":                     {"reviews.shop.svc", "reviews.shop.svc.cluster.local"},
		"10.96.0.7":                        {"[fd00::7]", "reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"},
		"*.reviews":                        nil,
		"ratings":                          nil,
		"reviews.default.svc.other.domain": nil,
	} {
		p, _ := convert.Policy(policy(t, `ingress: [{http: [{hosts: ["`+host+`"]}]}, {}]`))
		got := world.Resolve([]*model.Policy{&p})[0].Ingress
		if len(got) != 2 || len(got[0].HTTP) != 1 {
			t.Fatalf("%s: %+v", host, got)
		}
		if d := cmp.Diff(want, got[0].HTTP[0].Hosts[0].Aliases); d != "" {
			t.Errorf("%s: -want +got:\n%s", host, d)
		}
		if p.Ingress[0].HTTP[0].Hosts[0].Aliases != nil {
			t.Errorf("%s: the policy that was given has changed", host)
		}
	}
}
