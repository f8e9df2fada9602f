package xds_test

import (
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const newcomer = "shop/newcomer"

// callee is the state in which the known node runs a cluster of a name, which stands for the addresses that it lets in.
func callee(t *testing.T, name string, with ...xds.Node) xds.Update {
	t.Helper()
	u := update(t, cluster(name))
	for _, n := range with {
		n.ID = newcomer
		u.Nodes["new"] = []xds.Node{n}
		u.Workloads["new"] = []*xds.Resource{resource(t, cluster("its-own"))}
	}
	return u
}

// held starts a callee that has what it should, and a newcomer that asks.
func held(t *testing.T, patience time.Duration) (r *replica, known, fresh *client) {
	t.Helper()
	r = startWith(t, socket(t), xds.Config{Salter: salter(true), HoldTime: patience}, xds.ServerConfig{})
	r.cache.Set(callee(t, "nobody"))
	known = connect(t, r.path)
	known.subscribe(node, xds.ClusterType, nil)
	known.ack(known.receive())
	fresh = connect(t, r.path)
	fresh.subscribe(newcomer, xds.ClusterType, nil)
	r.connected(newcomer)
	return r, known, fresh
}

func (c *client) nothing(why string) {
	c.t.Helper()
	select {
	case r := <-c.in:
		c.t.Fatalf("%s: got %q", why, names(r))
	case <-time.After(100 * time.Millisecond): // a wrong answer would come within a millisecond
	}
}

// A new pod's sidecar is served, and with it the application started, once those who know callers by address know this one.
func TestANewProxyWaitsUntilItsAddressIsKnown(t *testing.T) {
	t.Parallel()
	r, known, fresh := held(t, time.Hour)
	r.cache.Set(callee(t, "nobody", xds.Node{UID: "7", Unaddressed: true}))
	fresh.nothing("its address is not known")
	r.cache.Set(callee(t, "newcomer-allowed", xds.Node{UID: "7"}))
	news := known.receive()
	fresh.nothing("the callee has not acknowledged it")
	known.ack(news)
	if got := fresh.receive(); names(got) != "its-own" {
		t.Errorf("got %q", names(got))
	}
}

// Nobody waits for a proxy that refuses, goes away or has nothing to learn.
func TestANewProxyWaitsForNobodyInParticular(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(known *client){
		"refused": func(known *client) { known.nack(known.receive(), "no") },
		"gone":    func(known *client) { known.cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, known, fresh := held(t, time.Hour)
			r.cache.Set(callee(t, "newcomer-allowed", xds.Node{UID: "7"}))
			happens(known)
			if got := fresh.receive(); names(got) != "its-own" {
				t.Errorf("got %q", names(got))
			}
		})
	}
	t.Run("nothing to learn", func(t *testing.T) {
		t.Parallel()
		r, _, fresh := held(t, time.Hour)
		r.cache.Set(callee(t, "nobody", xds.Node{UID: "7"}))
		if got := fresh.receive(); names(got) != "its-own" {
			t.Errorf("got %q", names(got))
		}
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		r, known, fresh := held(t, 50*time.Millisecond)
		r.cache.Set(callee(t, "newcomer-allowed", xds.Node{UID: "7"}))
		known.receive() // and never acknowledged
		if got := fresh.receive(); names(got) != "its-own" {
			t.Errorf("got %q", names(got))
		}
	})
}
