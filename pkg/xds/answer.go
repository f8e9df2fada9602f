package xds

import (
	"slices"
	"strconv"
	"time"
)

// serve sends what the stream may be told now.
func (c *Cache) serve(s *stream) {
	for _, sub := range s.subs {
		if sub == nil {
			continue
		}
		if set := c.desired(s, sub); set != nil && set != sub.quiet {
			sub.confirm(set)
			c.answer(s, sub, set)
		}
	}
}

// answer sends the next response of a subscription, if there is something to say. One response of a type is under way at a time, so that its ACK or NACK speaks
// of it alone.
func (c *Cache) answer(s *stream, sub *subscription, desired *resourceSet) {
	if sub.flying != nil {
		return
	}
	f := c.next(s, sub, desired)
	if f == nil {
		return
	}
	for _, r := range f.resources {
		f.bodies = append(f.bodies, c.body(s.node, r))
	}
	sub.take(f, c.now())
	if s.protocol == stateOfTheWorld {
		f.version = sub.version(f)
	}
	s.nonces++
	f.nonce, f.left = strconv.FormatInt(s.nonces, 10), time.Now()
	c.metrics.pushed(sub.kind, f)
	s.link.send(f.encode(s.protocol, sub.kind.typeURL()))
}

// next is the difference between what the stream should run and what it was told, or the part of it that may travel together; nil where there is none.
func (c *Cache) next(s *stream, sub *subscription, set *resourceSet) *flight {
	sub.quiet = nil
	if sub.claim != "" {
		c.resume(s, sub, set)
	}
	changed, removed := sub.difference(set)
	slices.Sort(removed)
	good := c.standing(s)
	switch {
	case sub.kind == slots && good != nil && c.changes(s, listeners):
		return &flight{resources: []*Resource{good}}
	case len(changed) == 0 && len(removed) == 0:
		if sub.kind != slots || good == nil { // a slot that is to be restored as soon as a listener changes
			sub.quiet = set
		}
		return nil
	case sub.kind == slots:
		return c.nextSlot(s, sub, changed, removed)
	case sub.kind == listeners && len(changed) > 0 && good != nil:
		return nil // until the slot is restored
	case s.protocol == stateOfTheWorld:
		return nextWorld(sub, set, removed)
	}
	if sub.kind == clusters && len(removed) > 0 && !c.settled(s, listeners) {
		// A cluster goes after the listeners that led to it.
		removed = nil
	}
	for _, r := range changed {
		if _, alone := sub.solo[r.Name]; alone {
			return &flight{resources: []*Resource{r}}
		}
	}
	if len(changed) == 0 && len(removed) == 0 {
		return nil
	}
	return &flight{resources: changed, removed: removed}
}

// nextSlot: one slot a response. Envoy refuses a response as a whole, and a bad slot must not take a good one with it. Those that the proxy has nothing of yet go
// together, since there is nothing that a refusal could keep back longer than until each goes on its own.
func (c *Cache) nextSlot(s *stream, sub *subscription, changed []*Resource, removed []string) *flight {
	if len(changed) > 1 && s.protocol == incremental {
		first := slices.DeleteFunc(slices.Clone(changed), func(r *Resource) bool { return sub.held[r.Name] != nil || c.refusals.has(s.node, r) })
		if len(first) > 1 {
			return &flight{resources: first}
		}
	}
	if len(changed) > 0 {
		return &flight{resources: changed[:1]}
	}
	if len(removed) == 0 {
		return nil
	}
	if s.protocol == stateOfTheWorld {
		// Its words for this type have none for a removal.
		for _, name := range removed {
			delete(sub.held, name)
		}
		return nil
	}
	return &flight{removed: removed}
}

// nextWorld: in a state of the world a listener or cluster that is left out is removed, so everything is said every time. None at all is never said.
func nextWorld(sub *subscription, set *resourceSet, removed []string) *flight {
	f := &flight{removed: removed}
	for _, r := range set.list {
		if !sub.wants(r.Name) {
			continue
		}
		if good, instead := sub.held[r.Name].standIn(r); instead {
			r = good
		}
		if r != nil {
			f.resources = append(f.resources, r)
		}
	}
	if len(f.resources) == 0 {
		return nil
	}
	return f
}

// standing is the last good content of a slot whose last content stands refused at the proxy; nil where there is none. Envoy refuses every listener that comes
// while it does, so the good content is sent again before a listener is.
func (c *Cache) standing(s *stream) *Resource {
	sub := s.subs[slots]
	if sub == nil || !sub.refusing {
		return nil
	}
	set := c.desired(s, sub)
	if set == nil {
		return nil
	}
	for _, r := range set.list {
		if h := sub.held[r.Name]; h != nil && h.standing && h.good != nil && h.told == h.refused {
			return h.good
		}
	}
	return nil
}

// changes says whether the proxy is to be told something of a kind.
func (c *Cache) changes(s *stream, k kind) bool {
	sub := s.subs[k]
	if sub == nil {
		return false
	}
	set := c.desired(s, sub)
	if set == nil {
		return false
	}
	changed, _ := sub.difference(set)
	return len(changed) > 0
}

// retryListeners lets what a proxy refused of its listeners go out once more: a slot that has been mended may have been why.
func (s *stream) retryListeners() {
	sub := s.subs[listeners]
	if sub == nil || !sub.refusing {
		return
	}
	for _, h := range sub.held {
		if h.refused != "" && h.told == h.refused {
			h.told, sub.quiet = "", nil
		}
	}
}

// settled says whether the proxy runs all that it should of a kind, if it wants that kind at all.
func (c *Cache) settled(s *stream, k kind) bool {
	sub := s.subs[k]
	if sub == nil {
		return true
	}
	set := c.desired(s, sub)
	if set == nil || sub.flying != nil {
		return false
	}
	changed, removed := sub.difference(set)
	refused := slices.ContainsFunc(set.list, func(r *Resource) bool {
		h := sub.held[r.Name]
		return h != nil && h.refused == r.Version
	})
	return len(changed) == 0 && len(removed) == 0 && !refused
}

// body is a resource as it is sent to a node: one that refused this content gets it in bytes that it never saw, since it acknowledges the bytes that
// it refused without running them.
func (c *Cache) body(node string, r *Resource) *body {
	if c.refusals.has(node, r) {
		return c.salting.fresh(r)
	}
	return c.salting.body(r)
}

// answered takes an ACK or a NACK of the response that is under way.
func (c *Cache) answered(s *stream, sub *subscription, refusal string) {
	f := sub.flying
	sub.flying = nil
	if refusal != "" {
		c.refused(s, sub, f, refusal)
		return
	}
	c.metrics.acked(sub.kind)
	if sub.kind == slots {
		s.retryListeners()
	}
	for _, r := range f.resources {
		c.refusals.forget(s.node, r)
		if h := sub.held[r.Name]; sub.wants(r.Name) && (h == nil || !h.standsIn(r)) {
			h = sub.at(r.Name)
			*h = holding{told: h.told, enforced: r.Version, good: r, changed: c.now()}
		}
	}
	for _, name := range f.removed {
		if h := sub.held[name]; h != nil && h.told == "" {
			delete(sub.held, name)
		}
	}
}

// maxText bounds a refusal's text, which the proxy writes.
const maxText = 4096

// refused takes a NACK. What stood in the response and was acknowledged before is not meant; which of several others is, the text does not say. In the
// incremental protocol each of them goes out again on its own. A state of the world cannot be split: none of them is proved, and each is shown as refused
// (Envoy applies the good listeners and clusters of such a response all the same).
func (c *Cache) refused(s *stream, sub *subscription, f *flight, text string) {
	c.metrics.nacked(sub.kind)
	text, sub.refusing = text[:min(len(text), maxText)], true
	suspects := slices.DeleteFunc(slices.Clone(f.resources), func(r *Resource) bool {
		h := sub.held[r.Name]
		return h != nil && (h.standsIn(r) || len(f.resources) > 1 && h.enforced == r.Version)
	})
	if s.protocol == incremental && len(suspects) > 1 {
		for _, r := range suspects {
			sub.alone(r.Name)
			sub.at(r.Name).told = ""
			if sub.kind == slots {
				c.doubt(s.node, r)
			}
		}
		c.logger.Debug("a proxy refused a response: its resources are sent again one by one", "node", s.node, "type", sub.kind.typeURL(), "text", text)
		return
	}
	for _, r := range suspects {
		h := sub.at(r.Name)
		h.refused, h.text, h.blamed, h.standing, h.changed = r.Version, text, len(suspects) == 1, r.Type == ExtensionConfigType, c.now()
		if c.doubt(s.node, r) {
			c.logger.Warn("a proxy refused its configuration and keeps what it had", "node", s.node, "type", r.Type, "resource", r.Name, "version", r.Version,
				"suspects", len(suspects), "text", text)
		}
	}
}

// doubt has a resource go to a node in bytes that it never saw, and says whether it did not before.
func (c *Cache) doubt(node string, r *Resource) (news bool) {
	news, full := c.refusals.remember(node, r)
	if full {
		// What is forgotten must not be met again in the same bytes.
		c.salting.redraw()
	}
	return news
}
