package translate_test

import (
	"fmt"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// Policies are edited, and edited again. Each sidecar may run the slots of any of these versions, whatever the others run, and the node before it the companions of any.
// Then, for each end of each flow, whatever passes such a mix passes in some version, and what passes in all of them passes. The first rests on the agreement of the
// layers in each version, which is the invariant: what the sidecar lets pass, the companions do.
//
// (While one set of companions becomes another, write by write: see pkg/kube/companion.)
func TestNoMixOfVersionsOpensOrShuts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		history := drawHistory(t, 3)
		first := history[0].index
		for _, callee := range netpoltest.Parties(first) {
			if !callee.Injected {
				continue
			}
			for _, caller := range netpoltest.Parties(first) {
				for _, port := range []uint16{80, 8081, 8085, 15100} {
					for _, method := range []string{"GET", "POST"} {
						checkMixes(t, history, flow{callee, caller, port, method})
					}
				}
			}
		}
	})
}

// flow is a request, or where the port speaks no HTTP a connection.
type flow struct {
	callee, caller netpoltest.Party
	port           uint16
	method         string
}

func (f flow) String() string {
	return fmt.Sprintf("%s from %s to %s, port %d", f.method, f.caller.Name, f.callee.Name, f.port)
}

func checkMixes(t *rapid.T, history []*version, f flow) {
	var l4, l7 []bool
	for _, v := range history {
		l4 = append(l4, v.companions.Passes(networkingv1.PolicyTypeIngress, f.callee.End, f.caller.End, f.port, model.TCP))
		l7 = append(l7, v.sidecarAllows(t, f))
	}
	some, all := false, true
	for i := range history {
		if l7[i] && !l4[i] && history[i].exact {
			t.Fatalf("%s: version %d passes the sidecar and not the companions%s", f, i, history[i])
		}
		some, all = some || l4[i] && l7[i], all && l4[i] && l7[i]
	}
	for i := range history {
		for j := range history {
			switch passes := l4[i] && l7[j]; {
			case passes && !some && history[j].exact:
				t.Fatalf("%s: companions of version %d and slots of version %d let pass what no version does%s%s", f, i, j, history[i], history[j])
			case !passes && all:
				t.Fatalf("%s: companions of version %d and slots of version %d shut what every version lets pass%s%s", f, i, j, history[i], history[j])
			}
		}
	}
}

// version is what one state of the policies became.
type version struct {
	index      *model.Index
	companions netpoltest.Kernel
	slots      map[*model.Workload]map[string]*envoy.Filter
	// exact: where NetworkPolicy cannot say what a Deny leaves, the companions shut more than the sidecar, and a diagnostic says so.
	exact bool
}

// drawHistory draws a world and edits of its policies. One translator makes all of it, as in the loop: what it remembers must not mix versions either.
func drawHistory(t *rapid.T, n int) []*version {
	var translator translate.Translator
	var indexer model.Indexer
	var out []*version
	s := netpoltest.World(t)
	for range n {
		v := &version{index: indexer.Index(s), slots: map[*model.Workload]map[string]*envoy.Filter{}}
		made := translator.Translate(v.index)
		for i := range made.Companions {
			if !made.Companions[i].DryRun {
				v.companions = append(v.companions, made.Companions[i].NetworkPolicy)
			}
		}
		for _, w := range made.Workloads {
			v.slots[w.Workload] = filters(t, w.Resources)
		}
		v.exact = !slices.ContainsFunc(made.Diagnostics, func(d model.Diagnostic) bool { return d.Code == "too-many-entries" })
		out = append(out, v)
		s = netpoltest.Edit(t, s)
	}
	return out
}

// filters are the RBAC filters by their slots' names.
func filters(t *rapid.T, resources []translate.Resource) map[string]*envoy.Filter {
	out := map[string]*envoy.Filter{}
	for _, r := range resources {
		slot, ok := r.Message.(*corev3.TypedExtensionConfig)
		if !ok || slot.GetName() != rbac.HTTPSlot && slot.GetName() != rbac.TCPSlot {
			continue
		}
		f, err := envoy.Unpack(slot.GetTypedConfig())
		if err != nil {
			t.Fatal(err)
		}
		out[slot.GetName()] = f
	}
	return out
}

// sidecarAllows is what the slots of the callee's workload say.
func (v *version) sidecarAllows(t *rapid.T, f flow) bool {
	pod := f.callee.Name[len(f.callee.Namespace)+1:]
	w := v.index.WorkloadOf(f.callee.Namespace, pod)
	r, slot := &envoy.Request{Source: f.caller.Address, Port: f.port}, rbac.TCPSlot
	if port, found := w.Port(f.port); found && port.Protocol == model.AppHTTP {
		slot, r.HTTP = rbac.HTTPSlot, &model.HTTPRequest{Method: f.method, Host: "a", Path: "/"}
	}
	filter := v.slots[w][slot]
	if filter == nil {
		t.Fatalf("%s has no slot %s", f.callee.Name, slot)
	}
	return filter.Decide(r).Allowed
}

func (v *version) String() string {
	out := "\nversion:"
	for i := range v.index.Snapshot.Policies {
		out += fmt.Sprintf("\n  %+v", v.index.Snapshot.Policies[i])
	}
	for _, np := range v.companions {
		out += fmt.Sprintf("\n  %s %+v", np.Name, np.Spec)
	}
	return out
}
