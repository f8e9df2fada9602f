package xds

// LimitRefusals makes the memory of refused content smaller.
func (c *Cache) LimitRefusals(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals.max = n
}
