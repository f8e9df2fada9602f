package kube_test

import (
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// etcdAway: without its store an API server tells nothing new, and what was read last stays.
func (c *cluster) etcdAway(t *testing.T) {
	v, s := c.view(t), c.story(t, "etcd")
	v.tells(t, "at first", s)
	c.KillEtcd()
	v.stale(t, "meanwhile", kinds()...) // although its watches go on, from its memory
	if err := v.told(s); err != nil {
		t.Errorf("what was read last does not stay: %v", err)
	}
	c.RestartEtcd()
	s.next(t)
	v.tells(t, "afterwards", s)
	v.stale(t, "afterwards")
}

// compaction: a watch that cannot go on where it was is followed by a list, and there is nothing in between.
func (c *cluster) compaction(t *testing.T) {
	var g gate
	who := c.User(account)
	who.Wrap(g.wrap)
	v, s := c.viewBy(t, who, staleAfter), c.story(t, "compaction")
	v.tells(t, "at first", s)
	g.shut.Store(true)
	v.proxy.Cut()
	for range 3 {
		s.next(t)
	}
	c.Compact(t)
	c.Stop()
	c.Restart() // it has forgotten what it remembered
	g.shut.Store(false)
	v.tells(t, "afterwards", s)
	v.says(t, "too old resource version")
}

// gate refuses connections while it is shut, so that watches wait to go on where they were.
type gate struct{ shut atomic.Bool }

func (g *gate) wrap(next http.RoundTripper) http.RoundTripper { return gated{next, g} }

type gated struct {
	http.RoundTripper
	g *gate
}

func (x gated) RoundTrip(r *http.Request) (*http.Response, error) {
	if x.g.shut.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return x.RoundTripper.RoundTrip(r)
}

// restored: resource versions go back. What is missing in the backup is gone, and that is told.
func (c *cluster) restored(t *testing.T) {
	s := c.story(t, "restored")
	before := *s
	restore := c.Backup(t)
	v := c.viewBy(t, c.User(account, "system:masters"), staleAfter)
	c.policy(t, "later", 1)
	for range 5 {
		s.next(t)
	}
	v.tells(t, "at first", s)
	restore()
	began := time.Now()
	v.tells(t, "after the restoration", &before)
	t.Logf("noticed after %s", time.Since(began).Round(100*time.Millisecond))
	v.says(t, "objects are gone", "kind=l7policies")
	s.chapter = before.chapter
	s.next(t)
	v.tells(t, "in the end", s)
}

func crd() string { return "l7policies.policy.pilot-lite.io" }

var _ = apitest.Start
var _ = metav1.GetOptions{}
