package xds

import (
	"bytes"
	"maps"
	"slices"
	"time"

	gcpstream "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// Any is the resource without a salt.
func (r *Resource) Any() *anypb.Any {
	return &anypb.Any{TypeUrl: r.Type, Value: bytes.Join(r.wire(), nil)}
}

// Body is how much the resource is as it is sent.
func (c *Cache) Body(r *Resource) int { return c.salting.body(r).size }

// LimitRefusals makes the memory of refused content smaller.
func (c *Cache) LimitRefusals(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals.max = n
}

// Check says why a claim does not stand at a time.
func (c *Claim) Check(now time.Time) error { return c.check(now) }

// Connect has a node's proxy be connected, and say that it runs some resources already.
func (c *Cache) Connect(node string, runs ...*Resource) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &stream{protocol: incremental, node: node}
	for _, r := range runs {
		sub := s.subs[r.kind]
		if sub == nil {
			sub = &subscription{kind: r.kind, held: map[string]*holding{}, wanted: gcpstream.NewDeltaSubscription(nil, nil, nil, true)}
			s.subs[r.kind] = sub
		}
		sub.held[r.Name] = &holding{told: r.Version, enforced: r.Version, changed: c.now()}
	}
	c.joined(s)
}

// Standings are how policies are at each proxy, as those who follow are told, and as it follows from its status.
func (c *Cache) Standings() (told, follows []*status.Proxy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.listed())) {
		p := c.proxyStatus(id)
		told, follows = append(told, c.policiesAt(id)), append(follows, p.Standing())
	}
	return told, follows
}
