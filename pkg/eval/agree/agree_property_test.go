package agree_test

import (
	"fmt"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// unsayable are the findings by which the translator owns up that a companion does not say what its policy means.
func unsayable(found []model.Diagnostic) bool {
	return slices.ContainsFunc(found, func(d model.Diagnostic) bool {
		return slices.Contains([]string{"deny-not-subtractable", "too-many-entries", "named-port-differs", "named-port-in-egress", "http-rule-on-excluded-port"}, d.Code)
	})
}

// disagreement is the first place where the layers disagree about companions, "" where they agree: what a sidecar allows and they shut, or what they let pass and no
// policy means. It asks the evaluators about every caller, callee and probed port, and the report as well.
func disagreement(ix *model.Index, companions []agree.Companion) string {
	var objects []*networkingv1.NetworkPolicy
	for _, c := range companions {
		objects = append(objects, c.NetworkPolicy)
	}
	set, found := kernel.New(objects)
	if len(found) > 0 {
		return fmt.Sprint(found)
	}
	alone := *ix.Snapshot
	alone.NetworkPolicies = nil
	again := *ix
	again.Snapshot = &alone
	report := new(agree.Checker).Check(&again, companions)
	for _, w := range report.Workloads {
		for _, s := range w.Shut {
			if !s.Deliberate {
				return "shut: " + s.String()
			}
		}
	}
	return different(ix, set)
}

// different is the first connection that NetworkPolicies decide otherwise than the policies mean at L3/4.
func different(ix *model.Index, set *kernel.Set) string {
	all := parties(ix)
	for _, governed := range all {
		if governed.Pod == nil {
			continue
		}
		for _, d := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
			g := set.Governing(d, governed.End(ix))
			for _, other := range all {
				ports := g.Ports(other.End(ix))
				for _, port := range probes() {
					for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
						if got, want := ports.Contains(port, protocol), eval.L4(ix, d, governed, other, port, protocol); got != want.Allowed {
							return fmt.Sprintf("%s of %s, with %s (%s), %s %d: passes %t, meant %+v", d, governed, other, other.Address, protocol, port, got, want)
						}
					}
				}
			}
		}
	}
	return ""
}

// Companions let pass exactly what their policies mean at L3/4, and with that whatever a sidecar allows.
func TestTheLayersAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, agreement)
}

// FuzzTheLayersAgree is the same, for a fuzzer to choose the worlds.
func FuzzTheLayersAgree(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(agreement))
}

func agreement(t *rapid.T) {
	ix := model.NewIndex(netpoltest.Cluster(t))
	companions, found := companionsOf(ix)
	if unsayable(found) {
		t.Skip("not all of it can be said")
	}
	if text := disagreement(ix, companions); text != "" {
		t.Fatal(text)
	}
}

// FuzzReportIsExact is TestReportIsExact, for a fuzzer to choose the worlds.
func FuzzReportIsExact(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(exactness))
}
