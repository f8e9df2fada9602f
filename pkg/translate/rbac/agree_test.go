package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// TestSidecarsAgreeWithEval is TestEnvoyAgreesWithEval without Envoy: many more worlds in the same time.
func TestSidecarsAgreeWithEval(t *testing.T) {
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
		sidecars := sidecarsByNamespace(t, ix)
		for _, c := range callees {
			for range requests {
				r := g.request(c)
				if difference, decider := compareDecision(ix, sidecars[c.namespace], ix.WorkloadOf(c.namespace, "callee"), r, r.Port); difference != "" {
					t.Fatalf("seed %d, round %d: %s\nrequest %+v %+v\npolicies %s", seed, round, difference, r, r.HTTP, describe(snapshot.Policies, c.namespace, decider))
				}
			}
		}
	}
}

// compareDecision says where a sidecar does not decide as eval does about the request that arrives, and who decides; "" where it does. Where several rules match, another one than eval's
// may be named; an outcome that is no rule's is always the same.
func compareDecision(ix *model.Index, s *envoy.Sidecar, callee *model.Workload, r model.Request, socket uint16) (difference, decider string) {
	got := s.Decide(&envoy.Call{Source: r.Source, Port: socket, HTTP: r.HTTP})
	r.HTTP = got.Seen
	want := eval.Ingress(ix, callee, r)
	rule := func(name string) bool { return strings.Contains(name, "/") }
	switch {
	case got.Err != nil:
		difference = "the sidecar's configuration cannot be evaluated: " + got.Err.Error()
	case got.Refusal != nil:
		difference = "the sidecar refuses the request: " + got.Refusal.Reason
	case got.Allowed != want.Allowed, got.Name != want.Decider && !(rule(got.Name) && rule(want.Decider)):
		difference = fmt.Sprintf("the sidecar says %+v, eval %+v", got, want)
	}
	return difference, want.Decider
}

func sidecarsByNamespace(t *testing.T, ix *model.Index) map[string]*envoy.Sidecar {
	t.Helper()
	out := map[string]*envoy.Sidecar{}
	for _, w := range translate.Translate(ix).Workloads {
		var messages []proto.Message
		for _, r := range w.Resources {
			messages = append(messages, r.Message)
		}
		s, err := envoy.NewSidecar(messages...)
		if err != nil {
			t.Fatal(err)
		}
		out[w.Workload.Namespace] = s
	}
	return out
}
