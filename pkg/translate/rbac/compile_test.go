package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// open unpacks both slots, and checks what holds of all of them.
func open(t testing.TB, s rbac.Slots) (*rbacv3.RBAC, *networkrbacv3.RBAC) {
	t.Helper()
	http, tcp := &rbacv3.RBAC{}, &networkrbacv3.RBAC{}
	if err := s.HTTP.GetTypedConfig().UnmarshalTo(http); err != nil {
		t.Fatal(err)
	}
	if err := s.TCP.GetTypedConfig().UnmarshalTo(tcp); err != nil {
		t.Fatal(err)
	}
	for _, m := range []interface{ ValidateAll() error }{s.HTTP, s.TCP, http, tcp} {
		if err := m.ValidateAll(); err != nil {
			t.Fatalf("Envoy would refuse %T: %v", m, err)
		}
	}
	// Envoy ignores rules beside a matcher, and rules without policies allow all.
	if http.GetRules() != nil || http.GetShadowRules() != nil || tcp.GetRules() != nil || tcp.GetShadowRules() != nil {
		t.Fatal("rules are set")
	}
	if http.GetMatcher() == nil || tcp.GetMatcher() == nil {
		t.Fatal("a slot without matcher")
	}
	return http, tcp
}

// last is the action that decides where nothing else does.
func last(t testing.TB, m *xdsmatcherv3.Matcher) *rbacconfigv3.Action {
	t.Helper()
	for m.GetOnNoMatch().GetMatcher() != nil {
		m = m.GetOnNoMatch().GetMatcher()
	}
	action := &rbacconfigv3.Action{}
	if err := m.GetOnNoMatch().GetAction().GetTypedConfig().UnmarshalTo(action); err != nil {
		t.Fatal(err)
	}
	return action
}

func TestDefaultIsNamed(t *testing.T) {
	t.Parallel()
	of := func(action model.Action, dry bool) rbac.Policy {
		return rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: string(action)}, Action: action, DryRun: dry}
	}
	for _, c := range []struct {
		name         string
		policies     []rbac.Policy
		want, shadow string
		guarded      bool
	}{
		{"no policy", nil, model.OutcomeNotIsolated, "", false},
		{"a deny does not isolate", []rbac.Policy{of(model.Deny, false)}, model.OutcomeNotIsolated, "", true},
		{"an allow isolates", []rbac.Policy{of(model.Allow, false)}, model.OutcomeDefaultDeny, "", true},
		{"a dry run decides nothing", []rbac.Policy{of(model.Allow, true)}, model.OutcomeNotIsolated, model.OutcomeDefaultDeny, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			http, tcp := open(t, rbac.Compile(rbac.Input{Policies: c.policies}))
			if got := last(t, http.GetMatcher()).GetName(); got != c.want {
				t.Errorf("http: got %s, want %s", got, c.want)
			}
			if got := last(t, tcp.GetMatcher()).GetName(); got != c.want {
				t.Errorf("tcp: got %s, want %s", got, c.want)
			}
			if guarded := strings.Contains(string(wire(t, http)), model.OutcomeGuardPath); guarded != c.guarded {
				t.Errorf("guarded: got %t, want %t", guarded, c.guarded)
			}
			if c.shadow == "" {
				if http.GetShadowMatcher() != nil || tcp.GetShadowMatcher() != nil {
					t.Error("a shadow without a dry run")
				}
				return
			}
			if got := last(t, http.GetShadowMatcher()).GetName(); got != c.shadow || http.GetShadowRulesStatPrefix() == "" {
				t.Errorf("shadow: got %s, want %s", got, c.shadow)
			}
		})
	}
}

// wire leaves the shadow out.
func wire(t testing.TB, m *rbacv3.RBAC) []byte {
	t.Helper()
	b, err := proto.Marshal(m.GetMatcher())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// randomInput draws what translate would hand over.
func randomInput(seed uint64) rbac.Input {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 2))}
	c := &callee{namespace: "shop", base: 1000}
	in := rbac.Input{}
	for n := range 1 + g.IntN(3) {
		p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: fmt.Sprint(n)}, Action: pick(g, model.Allow, model.Deny), DryRun: g.IntN(4) == 0}
		size := pick(g, 1, 5, 40, 200)
		g.narrow = size > 10
		for k := range size {
			r := g.rule(c, fmt.Sprint(k), p.Action)
			rule := rbac.Rule{Name: r.Name, Ports: r.Ports, HTTP: r.HTTP}
			if r.Peers != nil {
				rule.Sources = &rbac.Sources{Addresses: []netip.Addr{callerAddress(g.IntN(4)), callerAddress(4)}}
				for _, peer := range r.Peers {
					if peer.Block != nil {
						rule.Sources.Blocks = append(rule.Sources.Blocks, *peer.Block)
					}
				}
			}
			p.Rules = append(p.Rules, rule)
		}
		in.Policies = append(in.Policies, p)
	}
	return in
}

// Versions are hashes of content: a rebuild that changes nothing must send nothing.
func TestSameInputSameBytes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		a, b := rbac.Compile(randomInput(seed)), rbac.Compile(randomInput(seed))
		if !proto.Equal(a.HTTP, b.HTTP) || !proto.Equal(a.TCP, b.TCP) {
			t.Fatalf("seed %d: two compilations differ", seed)
		}
		open(t, a)
	}
}

// The shadow says what would be if the dry runs were enforced, to the byte.
func TestShadowIsTheVerdictWithDryRunsEnforced(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		in := randomInput(seed)
		in.Policies[0].DryRun = true
		http, tcp := open(t, rbac.Compile(in))
		for i := range in.Policies {
			in.Policies[i].DryRun = false
		}
		enforcedHTTP, enforcedTCP := open(t, rbac.Compile(in))
		if !proto.Equal(enforcedHTTP.GetMatcher(), http.GetShadowMatcher()) {
			t.Fatalf("seed %d: the http shadow differs", seed)
		}
		if !proto.Equal(enforcedTCP.GetMatcher(), tcp.GetShadowMatcher()) {
			t.Fatalf("seed %d: the tcp shadow differs", seed)
		}
	}
}

// Empty sources are nobody, not anyone: the rule is as good as none.
func TestARuleThatNobodyCallsMatchesNothing(t *testing.T) {
	t.Parallel()
	for _, action := range []model.Action{model.Allow, model.Deny} {
		for name, sources := range map[string]*rbac.Sources{"none": {}, "none that is an address": {Addresses: make([]netip.Addr, 1), Blocks: make([]model.IPBlock, 1)}} {
			p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: "p"}, Action: action}
			want := rbac.Compile(rbac.Input{Policies: []rbac.Policy{p}})
			p.Rules = []rbac.Rule{{Name: "all", Sources: sources}, {Name: "some", Sources: sources, HTTP: []model.HTTPMatch{{Methods: []string{"GET"}}}}}
			got := rbac.Compile(rbac.Input{Policies: []rbac.Policy{p}})
			if !proto.Equal(got.HTTP, want.HTTP) || !proto.Equal(got.TCP, want.TCP) {
				t.Errorf("%s, %s: the slots say something of the rules", action, name)
			}
		}
	}
}

// What cannot be expressed drops its alternative or rule from an Allow and widens a Deny, and is reported; it never opens and never makes Envoy refuse all.
func TestInexpressiblePartsFailClosed(t *testing.T) {
	t.Parallel()
	broken := map[string]model.HTTPMatch{
		"path expression too large":   {Paths: []model.PathMatch{{Type: model.Regex, Value: "/(?:a{900}){3}"}}},
		"path expression broken":      {Paths: []model.PathMatch{{Type: model.Regex, Value: "/("}}},
		"header expression too large": {Headers: []model.HeaderMatch{{Name: "x", Type: model.Regex, Value: "(?:[ace]{300}){3}"}}},
		"header name":                 {Headers: []model.HeaderMatch{{Name: ":path", Type: model.Exact, Value: "/"}}},
		"header type":                 {Headers: []model.HeaderMatch{{Name: "x", Type: "Else", Value: "/"}}},
		"host too long":               {Hosts: []model.Host{{Name: strings.Repeat("a.", 600) + "test"}}},
		"path with a query":           {Paths: []model.PathMatch{{Type: model.Exact, Value: "/a?b"}}},
		"path of other bytes":         {Paths: []model.PathMatch{{Type: model.Prefix, Value: "/\xff"}}},
		"method":                      {Methods: []string{"G\x00T"}},
	}
	for name, m := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, action := range []model.Action{model.Allow, model.Deny} {
				slots := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{
					Ref: model.PolicyRef{Namespace: "shop", Name: "p"}, Action: action, Rules: []rbac.Rule{{Name: "r", HTTP: []model.HTTPMatch{m}}},
				}}})
				http, _ := open(t, slots)
				if action == model.Deny && strings.HasPrefix(name, "path ") && !strings.Contains(name, "expression") {
					continue // what no path holds denies nothing, and says what it means
				}
				if len(slots.Diagnostics) == 0 {
					t.Errorf("%s: nothing is reported", action)
				}
				got := last(t, http.GetMatcher())
				want := "shop/p/r" // the rule holds of everything
				if action == model.Allow {
					want = model.OutcomeDefaultDeny
				}
				if got.GetName() != want || got.GetAction() != rbacconfigv3.RBAC_DENY {
					t.Errorf("%s: got %s, want %s", action, got, want)
				}
			}
		})
	}
}

// FuzzCompile: whatever comes in, Envoy would take what comes out.
func FuzzCompile(f *testing.F) {
	f.Add("/a", "(?i)/a.*", "x-a", "v", "a.test", "GET", uint16(80), uint16(90), "10.0.0.0/8", 1)
	f.Add("/", "", "x-a", "", "", "", uint16(1), uint16(65535), "::/0", 20)
	f.Add("/é?;%", "[^?]*$", ":path", "a\x00", "*", "", uint16(0), uint16(0), "::ffff:1.2.3.4/128", 40)
	f.Fuzz(func(t *testing.T, path, expr, name, value, host, method string, from, to uint16, cidr string, copies int) {
		block, _ := netip.ParsePrefix(cidr)
		var rules []rbac.Rule
		for i := range max(1, copies%64) {
			n := fmt.Sprint(i)
			rules = append(rules, rbac.Rule{
				Name: name + n, Ports: []model.PortRange{{Protocol: model.TCP, From: from, To: to}},
				Sources: &rbac.Sources{Addresses: []netip.Addr{block.Addr()}, Blocks: []model.IPBlock{{CIDR: block, Except: []netip.Prefix{block}}, {CIDR: block}}},
				HTTP: []model.HTTPMatch{
					{Paths: []model.PathMatch{{Type: model.Exact, Value: path + n}, {Type: model.Prefix, Value: path}, {Type: model.Regex, Value: expr}}},
					{Methods: []string{method, method + n}, Hosts: []model.Host{{Name: host + n, Aliases: []string{value}}, {Name: host, Wildcard: true}}},
					{Headers: []model.HeaderMatch{
						{Name: name, Type: model.Exact, Value: value + n},
						{Name: name, Type: model.Regex, Value: expr},
						{Name: name, Type: model.NotExact, Value: value},
						{Name: name, Type: model.NotRegex, Value: expr},
						{Name: name, Type: model.Present},
						{Name: name, Type: model.MatchType(value)},
					}},
				},
			})
		}
		open(t, rbac.Compile(rbac.Input{
			Policies: []rbac.Policy{{Ref: model.PolicyRef{Name: name}, Action: model.Allow, Rules: rules}, {Action: model.Deny, Rules: rules, DryRun: true}},
			Ports:    []rbac.PortMap{{Policy: from, Socket: to}},
		}))
	})
}

// What is kept of a policy changes nothing: whatever else governs a workload and whichever ports it maps, its slots are those that one gets who compiles for the first time.
func TestWhatIsKeptOfPoliciesChangesNothing(t *testing.T) {
	t.Parallel()
	var policies []rbac.Policy
	for seed := range uint64(12) {
		policies = append(policies, randomInput(seed).Policies...)
	}
	maps := [][]rbac.PortMap{nil, {{Policy: 1000, Socket: 20000}, {Policy: 1001, Socket: 1000}}, nil, {{Policy: 15000, Socket: 99}}}
	compiler := new(rbac.Compiler)
	kept := map[int]*rbac.Lowered{}
	random := rand.New(rand.NewPCG(1, 3))
	for round := range 150 {
		in := rbac.Input{Ports: maps[random.IntN(len(maps))]}
		var lowered []*rbac.Lowered
		for range random.IntN(5) {
			i := random.IntN(len(policies))
			if kept[i] == nil {
				kept[i] = compiler.Lower(&policies[i])
			}
			in.Policies, lowered = append(in.Policies, policies[i]), append(lowered, kept[i])
		}
		got, want := compiler.Compile(lowered, in.Ports), rbac.Compile(in)
		if !proto.Equal(got.HTTP, want.HTTP) || !proto.Equal(got.TCP, want.TCP) || !slices.Equal(got.Diagnostics, want.Diagnostics) {
			t.Fatalf("round %d: %d policies with maps %v: not what a first compilation gives", round, len(in.Policies), in.Ports)
		}
		if round%30 == 0 { // what nobody holds is made again
			clear(kept)
			runtime.GC()
		}
	}
}
