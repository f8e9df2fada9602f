package rbac_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/rulemix"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A request costs the same behind 100 rules and behind 10,000, whatever the rules tell requests apart by, and also where it is spelt so that maps
// cannot look it up: a caller must not be able to choose what it costs.
func TestCostDoesNotGrowWithTheNumberOfRules(t *testing.T) {
	t.Parallel()
	const few, many, manyWithCallers, bound = 100, 10000, 400, 200 // rules with a hundred callers each are large
	for _, m := range rulemix.Mixes() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			many := many
			if m.Callers {
				many = manyWithCallers
			}
			small, large := worst(t, m, few), worst(t, m, many)
			t.Logf("%d looks at %d rules, %d at %d", small, few, large, many)
			if large > bound {
				t.Errorf("a request takes %d looks at %d rules (%d at %d), want at most %d", large, many, small, few, bound)
			}
		})
	}
}

// worst is the cost of the dearest of the requests that single rules decide.
func worst(t *testing.T, m rulemix.Mix, n int) int {
	t.Helper()
	policies := m.Policies(n)
	ix := model.NewIndex(&model.Snapshot{Pods: m.Pods(), Policies: policies})
	http, err := envoy.Unpack(rbac.Compile(rbac.Input{Policies: rulemix.Resolve(ix, policies)}).HTTP.GetTypedConfig())
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for _, i := range []int{0, 1, n / 3, n / 2, n - 2, n - 1} {
		r := parse(t, m.Request(i))
		r.Source = m.Source(i)
		most = max(most, http.Decide(r).Looks)
	}
	return most
}

// parse reads the raw requests of this package's tests.
func parse(t *testing.T, raw string) *envoy.Request {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(raw, "\r\n\r\n"), "\r\n")
	start := strings.Fields(lines[0])
	r := &envoy.Request{Source: netip.MustParseAddr("127.0.0.1"), Port: 1000, HTTP: &model.HTTPRequest{Method: start[0], Path: start[1]}}
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
