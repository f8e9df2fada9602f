package xds_test

import (
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A response and its answer are one piece of news; a proxy that does not answer is news, too, though it keeps its stream for now.
func TestNewsOfAResponse(t *testing.T) {
	t.Parallel()
	r := startWith(t, socket(t), xds.Config{Salter: salter(true)}, xds.ServerConfig{SendTimeout: 10 * time.Second}) // which is looked at once a second
	r.cache.Set(update(t, cluster("a")))
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	c.ack(c.receive())
	r.becomes("a", xds.StateEnforced)
	follower := r.cache.Follow()
	defer follower.Stop()
	states := func() (out []xds.State) {
		changed, _ := follower.Take(10)
		for _, p := range changed {
			for _, s := range p.Resources {
				out = append(out, s.State)
			}
		}
		return out
	}
	<-follower.Changed()
	states() // as it begins

	edited := cluster("a")
	edited.AltStatName = "edited"
	r.cache.Set(update(t, edited))
	if got := states(); len(got) > 0 {
		t.Errorf("before the proxy answered: %q", got)
	}
	answer := c.receive()
	<-follower.Changed()
	if got := states(); len(got) != 1 || got[0] != xds.StatePending {
		t.Errorf("of a proxy that does not answer: %q", got)
	}
	c.ack(answer)
	<-follower.Changed()
	if got := states(); len(got) != 1 || got[0] != xds.StateEnforced {
		t.Errorf("after it answered: %q", got)
	}
}

// A pod that is made anew, or goes, is news at once, whatever its predecessor's proxy still owes an answer for.
func TestNewsOfAPod(t *testing.T) {
	t.Parallel()
	r := startWith(t, socket(t), xds.Config{Salter: salter(true)}, xds.ServerConfig{})
	r.cache.Set(update(t, cluster("a")))
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	c.receive() // and no answer
	follower := r.cache.Follow()
	defer follower.Stop()
	follower.Take(10)
	for what, nodes := range map[string]map[string][]xds.Node{"another pod": {"w": {{ID: node, UID: "2"}}}, "none": {}} {
		u := update(t, cluster("a"))
		u.Nodes = nodes
		r.cache.Set(u)
		if changed, _ := follower.Take(10); len(changed) != 1 || changed[0].Node != node {
			t.Errorf("%s: told of %v", what, changed)
		}
	}
}
