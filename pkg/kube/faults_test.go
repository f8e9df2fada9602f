package kube_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

func TestOnAnAPIServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	noticed := c.halfOpen(t)
	t.Run("what others need not know of", func(t *testing.T) {
		t.Run("quiet", c.quiet)
		t.Run("networks", c.networks)
		t.Run("rights", c.rights)
		t.Run("lists", c.lists)
		t.Run("loads", c.loads)
	})
	noticed(t)
	t.Run("etcd away", c.etcdAway)
	t.Run("compaction", c.compaction)
	t.Run("a restored backup", c.restored)
	t.Run("definitions", c.definitions)
}

// quiet: watches without an event show progress all the same.
func (c *cluster) quiet(t *testing.T) {
	t.Parallel()
	v := c.view(t)
	v.tells(t, "at first", c.story(t, "quiet"))
	for range 3 {
		began := time.Now()
		apitest.Eventually(t, patience, "every kind shows progress", func() error {
			if silent := v.Stale(began.Add(staleAfter)); len(silent) > 0 {
				return fmt.Errorf("nothing of %v", silent)
			}
			return nil
		})
	}
}

// networks: whatever stands between, what was read last stays, whole, and it is told that it is old. When it is over, what happened meanwhile is known.
func (c *cluster) networks(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(p *apitest.Proxy){
		"refused":     (*apitest.Proxy).Refuse,
		"partition":   func(p *apitest.Proxy) { p.Hold(apitest.ToServer, apitest.ToClient) },
		"no-way-back": func(p *apitest.Proxy) { p.Hold(apitest.ToClient) },
		"no-way-out":  func(p *apitest.Proxy) { p.Hold(apitest.ToServer) }, // what is watched goes on until each watch ends
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, s := c.view(t), c.story(t, name)
			v.tells(t, "at first", s)
			v.stale(t, "at first")
			fault(v.proxy)
			if name == "no-way-out" {
				v.stale(t, "meanwhile", kinds()...)
			}
			before := *s
			s.next(t)
			v.stale(t, "meanwhile", kinds()...)
			if err := v.told(&before); err != nil {
				t.Errorf("what was read last does not stay: %v", err)
			}
			if len(v.Waiting()) > 0 {
				t.Errorf("what was listed once is waited for: %v", v.Waiting())
			}
			v.proxy.Heal()
			v.tells(t, "afterwards", s)
			v.stale(t, "afterwards")
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		v, s := c.view(t), c.story(t, "slow")
		v.tells(t, "at first", s)
		v.proxy.Slow(time.Second)
		s.next(t)
		v.tells(t, "late", s)
		v.proxy.Cut()
		s.next(t)
		v.tells(t, "over a new connection", s)
		v.proxy.Heal() // a second each way is much of the three after which a kind counts as stale here
		v.stale(t, "then")
	})
}

// halfOpen: a connection whose other end is gone is noticed by the client's own pings, as production has them, and what was missed is read. It is waited for by what
// is returned: it takes 45 s.
func (c *cluster) halfOpen(t *testing.T) (noticed func(t *testing.T)) {
	t.Helper()
	v, s := c.view(t), c.story(t, "half-open")
	v.tells(t, "at first", s)
	v.proxy.Orphan()
	s.next(t)
	return func(t *testing.T) {
		t.Helper()
		v.tells(t, "over another connection", s)
		v.stale(t, "then")
		v.stop() // what happens from here on is not its story
	}
}
