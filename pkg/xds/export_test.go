package xds

import "google.golang.org/protobuf/types/known/anypb"

// Any is the resource without a salt.
func (r *Resource) Any() *anypb.Any { return &anypb.Any{TypeUrl: r.Type, Value: r.plain} }

// LimitRefusals makes the memory of refused content smaller.
func (c *Cache) LimitRefusals(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals.max = n
}
