package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/rulemix"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A slot is at most twice as large as the plain list of the same rules that other meshes send: that is what goes over the wire, and what Envoy keeps.
// An index holds a rule once for each path that it names, so rules of two paths each weigh more.
func TestSlotIsAtMostTwiceAPlainList(t *testing.T) {
	t.Parallel()
	for _, n := range []int{5, 10, 100, 1000} {
		for paths, most := range map[int]float64{1: 2, 2: 2.8} {
			policies := typical(n, paths)
			slot := proto.Size(rbac.Compile(rbac.Input{Policies: policies}).HTTP.GetTypedConfig())
			list := 0
			filters, err := rulemix.Plain(policies, rulemix.Port)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range filters {
				list += proto.Size(f)
			}
			ratio := float64(slot) / float64(list)
			t.Logf("%d rules of %d paths: %d bytes, a list %d: %.2f times", n, paths, slot, list, ratio)
			if ratio > most {
				t.Errorf("%d rules of %d paths: %d bytes, %.2f times the %d of a list, want at most %.1f", n, paths, slot, ratio, list, most)
			}
		}
	}
}

// typical are rules as services have them: callers by a selector that ten pods satisfy, wherever in the cluster they run, methods, and prefixes of
// paths; five to a policy.
func typical(n, paths int) []rbac.Policy {
	const pods, rules = 10, 5
	verbs := [][]string{{"GET"}, {"GET", "HEAD"}, {"POST"}, {"GET", "POST"}, {"PUT", "PATCH", "DELETE"}}
	random := rand.New(rand.NewPCG(1, 2))
	var out []rbac.Policy
	for i := range n {
		if i%rules == 0 {
			out = append(out, rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("orders-callers-%d", i/rules)}, Action: model.Allow})
		}
		callers := &rbac.Sources{}
		for range pods {
			callers.Addresses = append(callers.Addresses, netip.AddrFrom4([4]byte{10, 244, byte(random.IntN(256)), byte(random.IntN(256))}))
		}
		slices.SortFunc(callers.Addresses, netip.Addr.Compare)
		m := model.HTTPMatch{Methods: verbs[i%len(verbs)]}
		for _, resource := range []string{"orders", "returns"}[:paths] {
			m.Paths = append(m.Paths, model.PathMatch{Type: model.Prefix, Value: fmt.Sprintf("/api/v1/%s-%d", resource, i)})
		}
		p := &out[len(out)-1]
		p.Rules = append(p.Rules, rbac.Rule{Name: fmt.Sprintf("caller-%d", i), Sources: callers, HTTP: []model.HTTPMatch{m}})
	}
	return out
}
