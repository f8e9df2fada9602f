package rbac_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// bypass is one case of testdata/corpus/bypass.jsonl, whose README describes the format.
type bypass struct {
	ID, Level, Proto, Expected, Why string
	Policy                          bypassPolicy
	RawRequest                      json.RawMessage `json:"raw_request"`
	Body                            string
	SourceAddr                      string   `json:"source_addr"`
	ExpectedSeq                     []string `json:"expected_seq"`
	MaxMS                           int      `json:"max_ms"`
	Probe                           *struct{ Path string }
	AppMustSee                      *struct{ Path, Host string } `json:"app_must_see"`
	AppMustNotSee                   *struct{ Headers []string }  `json:"app_must_not_see"`
}

type bypassPolicy struct {
	Default string
	Rules   []bypassRule
}

type bypassRule struct {
	Action  string
	Methods []string
	Hosts   []bypassValue
	Paths   []bypassValue
	Headers []bypassValue
	From    []struct {
		IPBlock        *struct{ CIDR string }
		ServiceAccount *struct{ Namespace, Name string }
	}
}

type bypassValue struct{ Kind, Name, Value string }

// TestBypassCorpus sends every request of the corpus, and those of this package's own file, through a real Envoy whose configuration was
// translated from the case's policy, and asks the application what reached it.
func TestBypassCorpus(t *testing.T) {
	t.Parallel()
	var cases []bypass
	for _, file := range []string{"../../../testdata/corpus/bypass.jsonl", "testdata/bypass.jsonl"} {
		cases = append(cases, readCases(t, file)...)
	}
	snapshot := &model.Snapshot{}
	fixtures := make([]*fixture, len(cases))
	for i := range cases {
		fixtures[i] = newFixture(t, snapshot, cases[i].ID, uint16(1000+i))
		snapshot.Policies = append(snapshot.Policies, cases[i].Policy.policies(t, fixtures[i].namespace)...)
	}
	slices.SortFunc(snapshot.Policies, func(a, b *model.Policy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	ix := model.NewIndex(snapshot)
	proxy, sidecars := startProxy(t, ix), sidecarsByNamespace(t, ix)
	var evaluated atomic.Int32
	t.Run("cases", func(t *testing.T) {
		for i, c := range cases {
			t.Run(c.ID, func(t *testing.T) {
				t.Parallel()
				if finding := c.judge(t, fixtures[i]); finding != "" && c.Level == "info" {
					t.Logf("differs from what was noted: %s", finding)
				} else if finding != "" {
					t.Errorf("%s (%s, expected %s): %s\n%s", c.ID, c.Level, c.Expected, finding, c.Why)
				}
				if c.evaluate(t, sidecars[fixtures[i].namespace], fixtures[i]) {
					evaluated.Add(1)
				}
			})
		}
	})
	if n := evaluated.Load(); int(n) < len(cases)/2 {
		t.Errorf("%d of %d requests were evaluated: too few to show anything", n, len(cases))
	}
	if _, err := proxy.Admin("GET", "/server_info"); err != nil {
		t.Errorf("Envoy is gone: %v", err)
	}
}

func readCases(t *testing.T, file string) []bypass {
	t.Helper()
	content, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	var out []bypass
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var c bypass
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
		out = append(out, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// fixture is one workload with an application and a socket in front of it.
type fixture struct {
	namespace string
	app       *app
	listen    netip.AddrPort
}

func newFixture(t testing.TB, s *model.Snapshot, name string, port uint16) *fixture {
	t.Helper()
	f := &fixture{namespace: "case-" + name, app: startApp(t), listen: ownSocket(t, 21, int(port-1000))}
	set := map[string]string{"app": "callee"}
	s.Pods = append(s.Pods, &model.Pod{
		Namespace: f.namespace, Name: "callee", Owner: "callee", Labels: set, Ports: []model.ContainerPort{{Number: port, Protocol: model.TCP}},
		Proxy: model.ProxySettings{Injected: true, Bound: []model.BoundPort{{Port: port, Listen: f.listen, Application: f.app.address()}}},
	})
	s.Services = append(s.Services, model.Service{
		Namespace: f.namespace, Name: "callee", Selector: set, Ports: []model.ServicePort{{Name: "http", Port: port, Protocol: model.TCP, TargetPort: port}},
	})
	return f
}

// policies maps a case's rules: all denies are one Deny policy, all allows one Allow policy, and "default: allow" is the absence of one.
func (p bypassPolicy) policies(t *testing.T, namespace string) []*model.Policy {
	t.Helper()
	made := func(action model.Action) *model.Policy {
		return &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: namespace, Name: strings.ToLower(string(action))}, Action: action, Accepted: true,
			IsolatesIngress: true, Selector: labels.SelectorFromSet(labels.Set{"app": "callee"}),
		}
	}
	allow, deny := made(model.Allow), made(model.Deny)
	for i, r := range p.Rules {
		target := allow
		if r.Action == "deny" {
			target = deny
		}
		target.Ingress = append(target.Ingress, r.rule(t, fmt.Sprint(i)))
	}
	var out []*model.Policy
	if p.Default == "deny" {
		out = append(out, allow)
	} else if len(allow.Ingress) > 0 {
		t.Fatal("an allow rule beside default allow")
	}
	if len(deny.Ingress) > 0 {
		out = append(out, deny)
	}
	return out
}

func (r bypassRule) rule(t *testing.T, name string) model.Rule {
	t.Helper()
	out := model.Rule{Name: name}
	for _, f := range r.From {
		switch {
		case f.IPBlock != nil:
			out.Peers = append(out.Peers, model.Peer{Block: &model.IPBlock{CIDR: netip.MustParsePrefix(f.IPBlock.CIDR)}})
		case f.ServiceAccount != nil: // nobody here runs as any account
			out.Peers = append(out.Peers, model.Peer{ServiceAccounts: []string{f.ServiceAccount.Name}})
		default:
			t.Fatal("an unknown kind of peer")
		}
	}
	m := model.HTTPMatch{Methods: r.Methods}
	for _, h := range r.Hosts {
		name, wildcard := strings.CutPrefix(h.Value, ".")
		m.Hosts = append(m.Hosts, model.Host{Name: name, Wildcard: wildcard})
	}
	kinds := map[string]model.MatchType{
		"exact": model.Exact, "prefix": model.Prefix, "regex": model.Regex, "present": model.Present, "absent": model.Absent,
		"notExact": model.NotExact, "notRegex": model.NotRegex,
	}
	kind := func(v bypassValue) model.MatchType {
		if kinds[v.Kind] == "" {
			t.Fatalf("an unknown kind %q", v.Kind)
		}
		return kinds[v.Kind]
	}
	for _, p := range r.Paths {
		m.Paths = append(m.Paths, model.PathMatch{Type: kind(p), Value: p.Value})
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, model.HeaderMatch{Name: strings.ToLower(h.Name), Type: kind(h), Value: h.Value})
	}
	if m.Hosts != nil || m.Methods != nil || m.Paths != nil || m.Headers != nil {
		out.HTTP = []model.HTTPMatch{m}
	}
	return out
}
