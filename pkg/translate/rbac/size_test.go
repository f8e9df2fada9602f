package rbac_test

import (
	"fmt"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/rulemix"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A slot is at most twice as large as the plain list of the same rules, that other meshes send: what goes over the wire, and what Envoy keeps.
func TestSlotIsAtMostTwiceAPlainList(t *testing.T) {
	t.Parallel()
	for _, n := range []int{5, 10, 100, 1000} {
		policies := typical(n)
		slot := proto.Size(rbac.Compile(rbac.Input{Policies: policies}).HTTP.GetTypedConfig())
		list := 0
		filters, err := rulemix.Plain(policies, rulemix.Port)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range filters {
			list += proto.Size(f)
		}
		t.Logf("%d rules: %d bytes, a list %d: %.2f times", n, slot, list, float64(slot)/float64(list))
		if slot > 2*list {
			t.Errorf("%d rules: %d bytes, more than twice the %d of a list", n, slot, list)
		}
	}
}

// typical are rules as services have them: callers by a selector that ten pods satisfy, methods, and prefixes of paths; five to a policy.
func typical(n int) []rbac.Policy {
	const pods, rules = 10, 5
	var out []rbac.Policy
	for i := range n {
		if i%rules == 0 {
			out = append(out, rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("orders-callers-%d", i/rules)}, Action: model.Allow})
		}
		callers := &rbac.Sources{}
		for j := range pods {
			a := i*pods + j
			callers.Addresses = append(callers.Addresses, netip.AddrFrom4([4]byte{10, 244, byte(a >> 8), byte(a)}))
		}
		p := &out[len(out)-1]
		p.Rules = append(p.Rules, rbac.Rule{
			Name: fmt.Sprintf("caller-%d", i), Sources: callers,
			HTTP: []model.HTTPMatch{{
				Methods: []string{"GET", "POST"},
				Paths: []model.PathMatch{
					{Type: model.Prefix, Value: fmt.Sprintf("/api/v1/orders-%d", i)}, {Type: model.Prefix, Value: fmt.Sprintf("/api/v1/returns-%d", i)},
				},
			}},
		})
	}
	return out
}
