package rbac_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/rbactest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A request costs the same behind 100 rules and behind 10,000, whatever the rules tell requests apart by, and also where it is spelt so that maps
// cannot look it up: a caller must not be able to choose what it costs.
func TestCostDoesNotGrowWithTheNumberOfRules(t *testing.T) {
	t.Parallel()
	const few, many, bound = 100, 10000, 200
	for _, m := range mixes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			small, large := worst(t, m, few), worst(t, m, many)
			t.Logf("%d steps at %d rules, %d at %d", small, few, large, many)
			if large > bound {
				t.Errorf("a request takes %d steps at %d rules (%d at %d), want at most %d", large, many, small, few, bound)
			}
		})
	}
}

// worst is the cost of the dearest of the requests that single rules decide.
func worst(t *testing.T, m mix, n int) int {
	t.Helper()
	p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: "p"}, Action: m.action}
	for i := range n {
		r := m.rule(i)
		rule := rbac.Rule{Name: fmt.Sprint(i), Ports: r.Ports, HTTP: r.HTTP}
		if r.Peers != nil {
			rule.Sources = &rbac.Sources{Blocks: []model.IPBlock{*r.Peers[0].Block}}
		}
		p.Rules = append(p.Rules, rule)
	}
	http, _ := open(t, rbac.Compile(rbac.Input{Policies: []rbac.Policy{p}}))
	in := rbactest.New(t)
	most := 0
	for _, i := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
		in.Request, in.Steps = parse(t, m.request(i)), 0
		in.Decide(http.GetMatcher())
		most = max(most, in.Steps)
	}
	return most
}

// parse reads the raw requests of this package's tests.
func parse(t *testing.T, raw string) model.Request {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(raw, "\r\n\r\n"), "\r\n")
	start := strings.Fields(lines[0])
	r := model.Request{Source: netip.MustParseAddr("127.0.0.1"), Port: 1000, HTTP: &model.HTTPRequest{Method: start[0], Path: start[1]}}
	for _, l := range lines[1:] {
		name, value, _ := strings.Cut(l, ": ")
		if name == "Host" {
			r.HTTP.Host = value
		} else {
			r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: name, Value: value})
		}
	}
	return r
}
