package xds

import (
	"maps"
	"time"
)

// holdTime is how long a new proxy waits at most for others to learn its pod's address.
const holdTime = 5 * time.Second

// hold keeps a new proxy's first configuration back. The application behind it starts when the configuration has come, and calls others, who know it by its
// address: so they are told first.
type hold struct {
	waiting map[*stream]struct{} // those that have yet to acknowledge what names the pod's address; nil while the address is not known
	timer   *time.Timer
}

// holdNew holds the nodes that came into being, or got their address, with the state that is just being set. moved are those that were others before, and wake those whose
// configuration it changes: what changed there may name the new address.
func (c *Cache) holdNew(moved map[string]node, wake map[string]struct{}) {
	if !c.complete {
		return // after a restart everybody is new, and everybody knows everybody
	}
	var fresh []string
	for id := range wake {
		n, known := c.nodes[id]
		old, isMoved := moved[id]
		switch {
		case !known:
			c.release(id)
		case n.Unaddressed, isMoved && (old.ID == "" || old.Unaddressed || old.UID != n.UID):
			c.hold(id)
			fresh = append(fresh, id)
		}
	}
	if len(fresh) == 0 {
		return
	}
	waiting := map[*stream]struct{}{}
	for id := range wake {
		for _, s := range c.byNode[id] {
			if !c.withheld(s) && !c.upToDate(s) {
				waiting[s] = struct{}{}
			}
		}
	}
	for _, id := range fresh {
		if c.nodes[id].Unaddressed {
			continue
		}
		c.holds[id].waiting = maps.Clone(waiting)
		if len(waiting) == 0 {
			c.release(id)
		}
	}
}

func (c *Cache) hold(id string) {
	if c.holds[id] != nil {
		return
	}
	h := &hold{}
	h.timer = time.AfterFunc(c.holdTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.holds[id] != h {
			return
		}
		c.metrics.holdExpired()
		c.logger.Warn("a new proxy is served before everybody knows its address: for a moment its calls may be denied", "node", id, "unanswered", len(h.waiting),
			"address known", h.waiting != nil)
		c.release(id)
		for _, s := range c.byNode[id] {
			c.wake(s)
		}
	})
	c.holds[id] = h
}

func (c *Cache) release(id string) {
	if h := c.holds[id]; h != nil {
		h.timer.Stop()
		delete(c.holds, id)
	}
}

// withheld says whether a stream is told nothing for now: its node is held, and it has nothing yet.
func (c *Cache) withheld(s *stream) bool {
	if c.holds[s.node] == nil {
		return false
	}
	for _, sub := range s.subs {
		if sub != nil && (len(sub.held) > 0 || sub.claim != "") {
			return false
		}
	}
	return true
}

// learnt takes note that a stream has acknowledged, or went away: who waited for it alone waits no more.
func (c *Cache) learnt(s *stream) {
	for id, h := range c.holds {
		if _, waits := h.waiting[s]; !waits {
			continue
		}
		delete(h.waiting, s)
		if len(h.waiting) > 0 {
			continue
		}
		c.release(id)
		for _, other := range c.byNode[id] {
			c.wake(other)
		}
	}
}

// upToDate says whether a stream has answered for everything that it should run. What it refused it will not run, however long anybody waits.
func (c *Cache) upToDate(s *stream) bool {
	for _, sub := range s.subs {
		if sub == nil {
			continue
		}
		if sub.flying != nil {
			return false
		}
		set := c.desired(s, sub)
		if set == nil {
			continue
		}
		if changed, _ := sub.difference(set); len(changed) > 0 {
			return false
		}
	}
	return true
}
