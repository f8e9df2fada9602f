package xds

import (
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// Any is the resource without a salt.
func (r *Resource) Any() *anypb.Any { return &anypb.Any{TypeUrl: r.Type, Value: r.wire()} }

// Body is the resource as it is sent.
func (c *Cache) Body(r *Resource) *anypb.Any { return c.salting.body(r) }

// LimitRefusals makes the memory of refused content smaller.
func (c *Cache) LimitRefusals(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals.max = n
}

// Check says why a claim does not stand at a time.
func (c *Claim) Check(now time.Time) error { return c.check(now) }
