package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// State is how far one resource is in force at one proxy.
type State string

const (
	// StateEnforced says that the proxy runs the present content.
	StateEnforced State = "enforced"
	// StatePending says that the proxy has not answered for the present content yet.
	StatePending State = "pending"
	// StateRefused says that the proxy refused the present content and runs what it had before.
	StateRefused State = "refused"
)

// ProxyStatus is what one proxy runs.
type ProxyStatus struct {
	Node, UID string
	Workload  string // "" where no pod of that name is known
	Build     string // the proxy's version, as it says
	Connected bool
	Since     time.Time // connected or disconnected
	Resources []ResourceStatus
}

// ResourceStatus is one resource at one proxy.
type ResourceStatus struct {
	Type, Name string
	State      State
	Desired    string // version
	Enforced   string // version; "" where none was ever acknowledged
	Refused    string // version that was refused last
	Text       string // the proxy's words
	Policies   []model.PolicyRef
	Changed    time.Time
}

// Status lists what every connected proxy, every expected one, and every one that went away lately runs: by node, type and name.
func (c *Cache) Status() []ProxyStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := map[string]struct{}{}
	for id := range c.nodes {
		ids[id] = struct{}{}
	}
	for id := range c.ledger.proxies {
		ids[id] = struct{}{}
	}
	out := make([]ProxyStatus, 0, len(ids))
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		out = append(out, c.proxyStatus(id))
	}
	return out
}

func (c *Cache) proxyStatus(id string) ProxyStatus {
	n := c.nodes[id]
	s := ProxyStatus{Node: id, UID: n.UID, Workload: n.Workload}
	p := c.ledger.proxies[id]
	if p != nil {
		s.Connected, s.Since, s.Build = p.streams > 0, p.since, p.build
	}
	w := c.workloads[n.Workload]
	if w == nil {
		return s
	}
	for _, r := range w.source {
		s.Resources = append(s.Resources, resourceStatus(r, p))
	}
	slices.SortStableFunc(s.Resources, func(a, b ResourceStatus) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return s
}

// resourceStatus: what a proxy ran before it disconnected proves nothing any more.
func resourceStatus(r *Resource, p *proxy) ResourceStatus {
	s := ResourceStatus{Type: r.Type, Name: r.Name, State: StatePending, Desired: r.Version, Policies: r.Policies}
	if p == nil {
		return s
	}
	h := p.held[r.Type][r.Name]
	if h == nil {
		return s
	}
	s.Enforced, s.Refused, s.Text, s.Changed = h.enforced, h.refused, h.text, h.changed
	switch {
	case p.streams > 0 && h.enforced == r.Version:
		s.State = StateEnforced
	case h.refused == r.Version:
		s.State = StateRefused
	}
	return s
}
