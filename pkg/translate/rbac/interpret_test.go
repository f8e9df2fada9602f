package rbac_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/pilot-lite/pilot-lite/internal/rbactest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// TestMatchersAgreeWithEval is TestEnvoyAgreesWithEval without Envoy: many more worlds in the same time.
func TestMatchersAgreeWithEval(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	const rounds, worlds, requests = 4, 30, 60
	for round := range uint64(rounds) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, round)), seed: seed}
		snapshot := &model.Snapshot{}
		var callees []*callee
		for i := range worlds {
			callees = append(callees, g.unbound(snapshot, i))
		}
		addCallers(snapshot)
		ix := model.NewIndex(snapshot)
		slots := slotsByNamespace(t, ix)
		in := rbactest.New(t)
		for _, c := range callees {
			http, tcp := open(t, slots[c.namespace])
			for range requests {
				in.Request = g.request(c)
				m := tcp.GetMatcher()
				if in.Request.HTTP != nil {
					m = http.GetMatcher()
				}
				want := eval.Ingress(ix, ix.WorkloadOf(c.namespace, "callee"), in.Request)
				got := in.Decide(m)
				// Where several rules match, another one than eval's may be named; an outcome that is no rule's is always the same.
				sameName := got.GetName() == want.Decider || strings.Contains(got.GetName(), "/") && strings.Contains(want.Decider, "/")
				if (got.GetAction() == rbacconfigv3.RBAC_ALLOW) != want.Allowed || !sameName {
					t.Fatalf("seed %d, round %d: got %v, eval says %+v\nrequest %+v %+v\npolicies %s",
						seed, round, got, want, in.Request, in.Request.HTTP, describe(snapshot.Policies, c.namespace, want.Decider))
				}
			}
		}
	}
}

func slotsByNamespace(t *testing.T, ix *model.Index) map[string]rbac.Slots {
	t.Helper()
	out := map[string]rbac.Slots{}
	for _, w := range translate.Translate(ix).Workloads {
		s := rbac.Slots{}
		for _, r := range w.Resources {
			if slot, ok := r.Message.(*corev3.TypedExtensionConfig); ok && slot.GetName() == rbac.HTTPSlot {
				s.HTTP = slot
			} else if ok && slot.GetName() == rbac.TCPSlot {
				s.TCP = slot
			}
		}
		out[w.Workload.Namespace] = s
	}
	return out
}
