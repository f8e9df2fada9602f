package xds

import (
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// Standing is how policies are at the proxy.
func (p *ProxyStatus) Standing() *status.Proxy {
	slots := make([]status.Slot, 0, len(p.Resources))
	for i := range p.Resources {
		if r := &p.Resources[i]; len(r.Policies) > 0 {
			slots = append(slots, r.slot())
		}
	}
	return &status.Proxy{
		Node: p.Node, UID: p.UID, Connected: p.Connected, Since: p.Since, Problem: p.Problem, Gone: p.Gone(), Policies: status.OverSlots(slots),
	}
}

func (s *ResourceStatus) slot() status.Slot {
	out := status.Slot{Desired: s.Policies, Running: s.Running, Current: s.State == StateEnforced}
	if s.State == StateRefused {
		out.Refused = s.Text
	}
	return out
}

// policiesAt is how policies are at a node's proxy: Standing, without what nobody asks for.
func (c *Cache) policiesAt(id string) *status.Proxy {
	n := c.nodes[id]
	w := c.workloads[n.workload]
	if w == nil {
		p := c.proxyStatus(id)
		return p.Standing()
	}
	s, connected, since := c.seen(id)
	p := &status.Proxy{Node: id, UID: n.UID, Connected: connected, Since: since, Problem: c.turnedAway[id]}
	switch {
	case s == nil: // it has no stream here, as most have where there are other replicas
	case connected && w.runs(s): // most of those that have
		p.Policies = w.enforced()
	default:
		p.Policies = w.standingAt(s, connected)
	}
	return p
}

// standingAt is how policies stand at a stream's proxy.
func (w *workload) standingAt(s *stream, connected bool) []status.Standing {
	slots := make([]status.Slot, 0, len(w.ruled))
	for _, r := range w.ruled {
		is := s.status(r, connected)
		slots = append(slots, is.slot())
	}
	return status.OverSlots(slots)
}

// runs says whether a stream's proxy runs the present content of all that policies are in.
func (w *workload) runs(s *stream) bool {
	for _, r := range w.ruled {
		if h := s.holding(r); h == nil || h.good != r || h.refused == r.Version {
			return false
		}
	}
	return true
}

// enforced is how policies stand where all of that runs.
func (w *workload) enforced() []status.Standing {
	if w.standing == nil {
		slots := make([]status.Slot, 0, len(w.ruled))
		for _, r := range w.ruled {
			slots = append(slots, status.Slot{Desired: r.Policies, Running: r.Policies, Current: true})
		}
		w.standing = status.OverSlots(slots)
	}
	return w.standing
}
