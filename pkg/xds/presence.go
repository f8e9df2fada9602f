package xds

import (
	"slices"
	"time"
)

// keepDeparted is how long a proxy that went away stays in the status.
const keepDeparted = 10 * time.Minute

// departed is the last stream of a proxy that went away.
type departed struct {
	stream *stream
	at     time.Time
}

// joined takes a stream in, now that it is known whose it is. Several streams of one node are served alike; the newest is what the status shows, since the
// proxy behind an older one may be gone, and its connection half open.
func (c *Cache) joined(s *stream) {
	c.order++
	s.order, s.since = c.order, c.now()
	c.byNode[s.node] = append(c.byNode[s.node], s)
	delete(c.departed, s.node)
	delete(c.turnedAway, s.node)
	c.metrics.setProxies(len(c.byNode))
	c.touch(s.node)
}

// left takes a stream out. A proxy without a pod is forgotten with its last stream.
func (c *Cache) left(s *stream) {
	c.byNode[s.node] = slices.DeleteFunc(c.byNode[s.node], func(other *stream) bool { return other == s })
	c.touch(s.node)
	c.learnt(s)
	if len(c.byNode[s.node]) > 0 {
		return
	}
	delete(c.byNode, s.node)
	c.metrics.setProxies(len(c.byNode))
	if _, known := c.nodeOf(s); known {
		c.departed[s.node] = departed{stream: s, at: c.now()}
	}
}

// newest is the newest stream of a node; nil where it has none. What an earlier pod of its name runs says nothing of it.
func (c *Cache) newest(node string) *stream {
	var newest *stream
	for _, s := range c.byNode[node] {
		if !c.stray(s) && (newest == nil || s.order > newest.order) {
			newest = s
		}
	}
	return newest
}

func (c *Cache) forgetDeparted() {
	for id, d := range c.departed {
		if c.now().Sub(d.at) > keepDeparted {
			delete(c.departed, id)
		}
	}
}
