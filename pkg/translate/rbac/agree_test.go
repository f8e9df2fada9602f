package rbac_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
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
	r.HTTP = translate.Restored(got.Seen)
	want := eval.Ingress(ix, callee, r)
	rule := func(name string) bool { return strings.Contains(name, "/") }
	switch {
	case got.Err != nil:
		difference = "the sidecar's configuration cannot be evaluated: " + got.Err.Error()
	case got.Refusal != nil:
		difference = "the sidecar refuses the request: " + got.Refusal.Reason
	case got.Allowed != want.Allowed, got.Name != want.Decider && (!rule(got.Name) || !rule(want.Decider)):
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

// request reads a case's request where it is one of HTTP/1.1 with nothing odd about its framing, which is nothing that the evaluator looks at.
func (c bypass) request() *model.HTTPRequest {
	var raw string
	if json.Unmarshal(c.RawRequest, &raw) != nil {
		return nil
	}
	head, body, ended := strings.Cut(string(latin1(raw)), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	start := strings.Split(lines[0], " ")
	if !ended || body != "" || len(start) != 3 || start[2] != "HTTP/1.1" {
		return nil
	}
	out := &model.HTTPRequest{Method: start[0], Path: start[1]}
	hosts := 0
	for _, l := range lines[1:] {
		name, value, found := strings.Cut(l, ":")
		switch lower := strings.ToLower(name); {
		case !found || strings.ContainsAny(l, "\r\n") || lower == "content-length" || lower == "transfer-encoding":
			return nil
		case lower == "host":
			hosts++
			out.Host = value
		default:
			out.Headers = append(out.Headers, model.Header{Name: name, Value: value})
		}
	}
	if hosts != 1 {
		return nil
	}
	return out
}

// evaluate holds the evaluator against what the real Envoy did with a case's request, and says whether it could.
func (c bypass) evaluate(t *testing.T, s *envoy.Sidecar, f *fixture) bool {
	t.Helper()
	r := c.request()
	if r == nil {
		return false
	}
	source := netip.MustParseAddr("127.0.0.1")
	if c.SourceAddr != "" {
		source = netip.MustParseAddr(c.SourceAddr)
	}
	got := s.Decide(&envoy.Call{Source: source, Port: f.listen.Port(), HTTP: r})
	hits := f.app.seen()
	if got.Err != nil || got.Allowed != (len(hits) > 0) || got.Allowed && (got.Seen.Path != hits[0].Target || got.Seen.Host != hits[0].Host) {
		t.Errorf("%s: the evaluator says %+v of %+v, seen as %+v; the application saw %+v", c.ID, got, r, got.Seen, hits)
	}
	return true
}
