package xds

import (
	"cmp"
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
	Problem   string    // why it was turned away as it came last; "" once it was taken
	Resources []ResourceStatus
}

// ResourceStatus is one resource at one proxy.
type ResourceStatus struct {
	Type, Name string
	State      State
	Desired    string            // version
	Enforced   string            // version; "" where none was ever acknowledged
	Refused    string            // version that was refused last
	Text       string            // the proxy's words
	Policies   []model.PolicyRef // that the present content was built from
	// Running are the policies that what the proxy runs was built from, or ran as it was connected last; those of the present content where it is enforced.
	Running []model.PolicyRef
	Changed time.Time
}

// proxyStatus tells of all resources, or of those alone that policies are in.
func (c *Cache) proxyStatus(id string, ruledAlone bool) ProxyStatus {
	n := c.nodes[id]
	p := ProxyStatus{Node: id, UID: n.UID, Workload: n.workload}
	p.Problem = c.turnedAway[id]
	s := c.newest(id)
	if s != nil {
		p.Connected, p.Since, p.Build = true, s.since, s.build
	} else if d, lately := c.departed[id]; lately && !c.stray(d.stream) {
		s = d.stream
		p.Since, p.Build = d.at, s.build
	}
	w := c.workloads[n.workload]
	if w == nil {
		return p
	}
	resources := w.source
	if ruledAlone {
		resources = w.ruled
	}
	p.Resources = make([]ResourceStatus, 0, len(resources))
	for _, r := range resources {
		status := ResourceStatus{Type: r.Type, Name: r.Name, State: StatePending, Desired: r.Version, Policies: r.Policies}
		if h := s.holding(r); h != nil {
			status.of(h)
			// What a proxy ran before it disconnected proves nothing any more.
			if status.State == StateEnforced && !p.Connected {
				status.State = StatePending
			}
		}
		p.Resources = append(p.Resources, status)
	}
	slices.SortStableFunc(p.Resources, func(a, b ResourceStatus) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
	return p
}

// holding is what is known of a resource at the stream's proxy; nil where nothing is.
func (s *stream) holding(r *Resource) *holding {
	if s == nil || s.types[r.Type] == nil {
		return nil
	}
	return s.types[r.Type].held[r.Name]
}

// of fills in what a holding proves. A refusal outweighs: content that was acknowledged once may have been refused since.
func (s *ResourceStatus) of(h *holding) {
	s.Enforced, s.Refused, s.Text, s.Changed = h.enforced, h.refused, h.text, h.changed
	if h.good != nil && h.good.Version == h.enforced {
		s.Running = h.good.Policies
	}
	switch s.Desired {
	case h.refused:
		s.State = StateRefused
	case h.enforced:
		s.State = StateEnforced
	}
}
