// Package mutants_test holds what is sent to sidecars against what policies mean, on random worlds and without any proxy: the reference evaluator over the model on one side, the evaluator of
// generated configuration on the other. It then plants bugs, one after the other, and fails where the properties do not notice one.
package mutants_test

import (
	"net/netip"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/worldgen"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// world is one callee with its policies, and what is asked about it.
type world struct {
	snapshot *model.Snapshot
	index    *model.Index
	callee   *model.Workload
	dry      bool // a DryRun policy governs the callee
	asks     []ask
	sent     []proto.Message // what the callee's sidecar gets
}

// ask is a question, and the answers that the policies give.
type ask struct {
	request   model.Request
	sent      string // the target of an HTTP request as it is sent; empty where it could not be sent so
	want, dry model.Verdict
}

// bound has sockets whose numbers are other ports', and one that stands for a port of the sidecar's own.
func bound() []model.BoundPort {
	socket := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.77.0.1"), port) }
	return []model.BoundPort{
		{Port: worldgen.HTTPPort, Listen: socket(8085), Application: socket(1)},
		{Port: worldgen.TCPPort, Listen: socket(worldgen.HTTPPort), Application: socket(2)},
		{Port: model.ReservedFirst + 50, Listen: socket(9000), Application: socket(3)},
	}
}

// socket is the port that a connection for a policy's port has.
func (w *world) socket(port uint16) uint16 {
	for _, b := range w.callee.Proxy.Bound {
		if b.Port == port {
			return b.Listen.Port()
		}
	}
	return port
}

func drawWorld(t *rapid.T) *world {
	var sockets []model.BoundPort
	ports := []uint16{worldgen.TCPPort, 1, 7999, 8000, 8079, 8081, 8090, 8091, 65535, model.ReservedFirst, model.InboundPort, model.ReservedLast, model.ReservedLast + 1}
	if rapid.IntRange(0, 2).Draw(t, "mode") == 0 {
		sockets = bound()
		ports = []uint16{worldgen.TCPPort, model.ReservedFirst + 50}
	}
	s := worldgen.Cast(sockets)
	s.Policies = worldgen.Policies(t)
	return newWorld(s, drawAsks(t, ports))
}

func drawAsks(t *rapid.T, ports []uint16) []ask {
	const requests, connections = 40, 8
	var out []ask
	for range requests {
		r, sent := worldgen.Request(t)
		if rapid.IntRange(0, 7).Draw(t, "lower case") == 0 { // as HTTP/2 lets through
			r.HTTP.Method, sent = "get", ""
		}
		out = append(out, ask{request: r, sent: sent})
	}
	for range connections {
		out = append(out, ask{request: model.Request{
			Source: rapid.SampledFrom(worldgen.Callers()).Draw(t, "caller"), Port: rapid.SampledFrom(ports).Draw(t, "port"),
		}})
	}
	return out
}

// newWorld answers the questions from the policies.
func newWorld(s *model.Snapshot, asks []ask) *world {
	w := &world{snapshot: s, index: model.NewIndex(s), asks: asks}
	w.callee = w.index.WorkloadOf("shop", "cart")
	for _, p := range s.Policies {
		w.dry = w.dry || p.DryRun && p.IsolatesIngress && p.Namespace == "shop" && p.Selector.Matches(labelsOf(w.callee))
	}
	for i := range w.asks {
		a := &w.asks[i]
		a.want, a.dry = eval.Ingress(w.index, w.callee, a.request), eval.IngressDryRun(w.index, w.callee, a.request)
	}
	w.sent = translated(s)
	return w
}

// translated are the callee's resources for a snapshot.
func translated(s *model.Snapshot) []proto.Message {
	ix := model.NewIndex(s)
	callee := ix.WorkloadOf("shop", "cart")
	var out []proto.Message
	for _, w := range translate.Translate(ix).Workloads {
		if w.Workload != callee {
			continue
		}
		for _, r := range w.Resources {
			out = append(out, r.Message)
		}
	}
	return out
}
