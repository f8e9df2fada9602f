package agree_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// A checker that remembers finds what one without a memory finds, whatever was edited since.
func TestACheckerForgetsNothingThatDecides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var checker agree.Checker
		var indexer model.Indexer
		var builder netpol.Builder
		s := netpoltest.Cluster(t)
		for range rapid.IntRange(2, 8).Draw(t, "edits") {
			ix := indexer.Index(s)
			var companions []agree.Companion
			built, _ := builder.Build(ix)
			for _, c := range built {
				if !c.DryRun && rapid.IntRange(0, 9).Draw(t, "missing") > 0 {
					companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
				}
			}
			got, want := checker.Check(ix, companions), new(agree.Checker).Check(model.NewIndex(s), companions)
			if diff := cmp.Diff(want.Workloads, got.Workloads, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreUnexported(agree.Workload{})); diff != "" {
				t.Fatalf("workloads (-without a memory +with):\n%s", diff)
			}
			for i := range s.Policies {
				ref := s.Policies[i].PolicyRef
				if diff := cmp.Diff(want.Policy(ref), got.Policy(ref), cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreUnexported(agree.Workload{})); diff != "" {
					t.Fatalf("policy %s (-without a memory +with):\n%s", ref.Name, diff)
				}
			}
			s = netpoltest.EditCluster(t, s)
		}
	})
}
