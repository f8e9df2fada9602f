package rbac_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// fiveRules is a policy as services have them: five rules, each with callers of fifty addresses, methods and two prefixes.
func fiveRules(name string, seed int) rbac.Policy {
	const rules, callers = 5, 50
	p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: name, Generation: int64(seed)}, Action: model.Allow}
	for i := range rules {
		r := rbac.Rule{Name: fmt.Sprintf("caller-%d", i), Sources: &rbac.Sources{}, HTTP: []model.HTTPMatch{{
			Methods: []string{"GET", "HEAD"},
			Paths:   []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/api/v1/%s-%d", name, i)}, {Type: model.Prefix, Value: fmt.Sprintf("/api/v2/%s-%d", name, i)}},
		}}}
		for a := range callers {
			r.Sources.Addresses = append(r.Sources.Addresses, netip.AddrFrom4([4]byte{10, 244, byte(seed + i), byte(a)}))
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

// Slots of policies that were lowered for another workload take little more than their bytes. Not parallel: allocations are counted.
func TestLoweredPoliciesCostTheirBytes(t *testing.T) {
	in := rbac.Input{Policies: []rbac.Policy{fiveRules("all", 100), fiveRules("cart", 1)}}
	c := new(rbac.Compiler)
	lowered := []*rbac.Lowered{c.Lower(&in.Policies[0]), c.Lower(&in.Policies[1])}
	const most = 60
	if allocations := testing.AllocsPerRun(20, func() { c.Compile(lowered, nil) }); allocations > most {
		t.Errorf("%.0f allocations, want at most %d", allocations, most)
	}
	const mostWithIndex = 700 // of 30 rules; 2,800 if each workload found their places in it
	many := lowerThirty(c)
	if allocations := testing.AllocsPerRun(20, func() { c.Compile(many, nil) }); allocations > mostWithIndex {
		t.Errorf("with an index %.0f allocations, want at most %d", allocations, mostWithIndex)
	}
}

// lowerThirty lowers six policies of five rules: more than a list takes.
func lowerThirty(c *rbac.Compiler) []*rbac.Lowered {
	const policies = 6
	out := make([]*rbac.Lowered, 0, policies)
	for i := range policies {
		p := fiveRules(fmt.Sprint("service-", i), 7*i)
		out = append(out, c.Lower(&p))
	}
	return out
}

// BenchmarkCompile compiles the slots of a workload from a policy of its own and one that selects many: from nothing, and when both were lowered for a workload before.
func BenchmarkCompile(b *testing.B) {
	in := rbac.Input{Policies: []rbac.Policy{fiveRules("all", 100), fiveRules("cart", 1)}}
	b.Run("from nothing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rbac.Compile(in)
		}
	})
	b.Run("lowered, with an index", func(b *testing.B) {
		c := new(rbac.Compiler)
		lowered := lowerThirty(c)
		b.ReportAllocs()
		for b.Loop() {
			c.Compile(lowered, nil)
		}
	})
	b.Run("lowered", func(b *testing.B) {
		c := new(rbac.Compiler)
		lowered := []*rbac.Lowered{c.Lower(&in.Policies[0]), c.Lower(&in.Policies[1])}
		b.ReportAllocs()
		for b.Loop() {
			c.Compile(lowered, nil)
		}
	})
}
