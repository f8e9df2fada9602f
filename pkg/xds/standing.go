package xds

import (
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// Standing is how policies are at the proxy.
func (p *ProxyStatus) Standing() *status.Proxy {
	out := &status.Proxy{Node: p.Node, UID: p.UID, Connected: p.Connected, Since: p.Since, Problem: p.Problem, Gone: p.Gone()}
	slots := make([]status.Slot, 0, len(p.Resources))
	for i := range p.Resources {
		r := &p.Resources[i]
		if len(r.Policies) == 0 {
			continue
		}
		slot := status.Slot{Desired: r.Policies, Running: r.Running, Current: r.State == StateEnforced}
		if r.State == StateRefused {
			slot.Refused = r.Text
		}
		slots = append(slots, slot)
	}
	out.Policies = status.OverSlots(slots)
	return out
}

// policiesAt is how policies are at a node's proxy. Most proxies run all that they should, or have no stream here: it is the same of all of a workload.
func (c *Cache) policiesAt(id string) *status.Proxy {
	n := c.nodes[id]
	w := c.workloads[n.workload]
	s, connected, since := c.seen(id)
	if w == nil || s != nil && (!connected || !w.runs(s)) {
		p := c.proxyStatus(id)
		return p.Standing()
	}
	p := &status.Proxy{Node: id, UID: n.UID, Connected: connected, Since: since, Problem: c.turnedAway[id]}
	if connected {
		p.Policies = w.enforced()
	}
	return p
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
