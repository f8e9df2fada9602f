package xds

import (
	"cmp"
	"slices"
	"strings"
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
	Restart   string    // why its pod should be created again; "" where it need not, or nobody knows
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

func (c *Cache) proxyStatus(id string) ProxyStatus {
	n := c.nodes[id]
	p := ProxyStatus{Node: id, UID: n.UID, Workload: n.workload, Problem: c.turnedAway[id]}
	var s *stream
	if s, p.Connected, p.Since = c.seen(id); s != nil {
		p.Build = s.build
	}
	w := c.workloads[n.workload]
	if w == nil {
		return p
	}
	p.Resources = make([]ResourceStatus, 0, len(w.source))
	for _, r := range w.source {
		if w.sets[r.kind].byName[r.Name] != r {
			continue // another has the name, and this one is never told
		}
		p.Resources = append(p.Resources, s.status(r, p.Connected))
	}
	slices.SortStableFunc(p.Resources, func(a, b ResourceStatus) int { return byTypeAndName(a.Type, a.Name, b.Type, b.Name) })
	return p
}

func byTypeAndName(aType, aName, bType, bName string) int {
	return cmp.Or(strings.Compare(aType, bType), strings.Compare(aName, bName))
}

// status is how far a resource is in force at the stream's proxy; nil is one of which nothing is known.
func (s *stream) status(r *Resource, connected bool) ResourceStatus {
	out := ResourceStatus{Type: r.Type, Name: r.Name, State: StatePending, Desired: r.Version, Policies: r.Policies}
	if h := s.holding(r); h != nil {
		out.of(h)
		// What a proxy ran before it disconnected proves nothing any more.
		if out.State == StateEnforced && !connected {
			out.State = StatePending
		}
	}
	return out
}

// seen is the stream by which a node's proxy is known: the newest, or the last of one that went away lately. since is when it came, or went.
func (c *Cache) seen(id string) (s *stream, connected bool, since time.Time) {
	if s = c.newest(id); s != nil {
		return s, true, s.since
	}
	if d, lately := c.departed[id]; lately && !c.stray(d.stream) {
		return d.stream, false, d.at
	}
	return nil, false, since
}

// holding is what is known of a resource at the stream's proxy; nil where nothing is.
func (s *stream) holding(r *Resource) *holding {
	if s == nil || s.subs[r.kind] == nil {
		return nil
	}
	return s.subs[r.kind].held[r.Name]
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
