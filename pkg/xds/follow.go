package xds

import (
	"maps"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// Follower is told which proxies' status changed. It costs the cache one name per proxy at most, however slowly it is read.
type Follower struct {
	cache   *Cache
	changed chan struct{}
	nodes   map[string]struct{} // guarded by the cache's lock
}

// Follow starts with every proxy that Status would list. Stop ends it.
func (c *Cache) Follow() *Follower {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := &Follower{cache: c, changed: make(chan struct{}, 1), nodes: c.listed()}
	c.followers[f] = struct{}{}
	f.tell()
	return f
}

// Stop ends it.
func (f *Follower) Stop() {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	delete(f.cache.followers, f)
}

// Changed receives a value when there is something to take.
func (f *Follower) Changed() <-chan struct{} { return f.changed }

// Take is the status of at most n proxies that changed since they were taken last, and whether there are more. One of which nothing is known any more is Gone.
func (f *Follower) Take(n int) (changed []ProxyStatus, more bool) {
	return take(f, n, f.cache.proxyStatus)
}

// TakeStanding is Take for one who asks how policies are at proxies, and no more.
func (f *Follower) TakeStanding(n int) (changed []*status.Proxy, more bool) {
	return take(f, n, f.cache.policiesAt)
}

func take[T any](f *Follower, n int, say func(node string) T) (changed []T, more bool) {
	f.cache.mu.Lock()
	defer f.cache.mu.Unlock()
	changed = make([]T, 0, min(n, len(f.nodes)))
	for id := range f.nodes {
		if len(changed) == n {
			return changed, true
		}
		delete(f.nodes, id)
		changed = append(changed, say(id))
	}
	return changed, false
}

func (f *Follower) tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// touch notes that a node's status changed.
func (c *Cache) touch(node string) {
	for f := range c.followers {
		f.nodes[node] = struct{}{}
		f.tell()
	}
}

// Gone says whether nothing is known of the proxy: it has no pod and no stream, and has not had one lately.
func (p *ProxyStatus) Gone() bool {
	return p.UID == "" && p.Workload == "" && !p.Connected && p.Since.IsZero() && p.Problem == ""
}

// listed are the nodes of every connected proxy, every expected one, and every one that went away lately.
func (c *Cache) listed() map[string]struct{} {
	c.forgetDeparted()
	ids := make(map[string]struct{}, len(c.nodes)+len(c.departed))
	for id := range c.nodes {
		ids[id] = struct{}{}
	}
	for id := range c.byNode {
		ids[id] = struct{}{}
	}
	for id := range c.departed {
		ids[id] = struct{}{}
	}
	return ids
}

// Status lists what every connected proxy, every expected one, and every one that went away lately runs: by node, type and name.
func (c *Cache) Status() []ProxyStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := slices.Sorted(maps.Keys(c.listed()))
	out := make([]ProxyStatus, 0, len(ids))
	for _, id := range ids {
		out = append(out, c.proxyStatus(id))
	}
	return out
}
