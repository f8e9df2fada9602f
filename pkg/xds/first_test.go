package xds_test

import (
	"bytes"
	"fmt"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A new proxy gets its slots in one response. Where it refuses that, each goes on its own, in bytes that it never saw: Envoy takes those that it refused for
// its present ones. An edit of both goes one by one.
func TestFirstSlotsGoTogether(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot, rbac.TCPSlot)
	first := c.receive()
	if got, want := names(first), rbac.HTTPSlot+" "+rbac.TCPSlot; got != want {
		t.Fatalf("a new proxy is sent %q, want %q", got, want)
	}
	c.nack(first, "one of them is wrong")
	content := func(r *discoveryv3.DeltaDiscoveryResponse, i int) []byte {
		return r.GetResources()[i].GetResource().GetValue()
	}
	for i, name := range []string{rbac.HTTPSlot, rbac.TCPSlot} {
		if state := r.status(name).State; state != xds.StatePending {
			t.Errorf("%s is %s after a refusal that may mean the other", name, state)
		}
		alone := c.receive()
		if names(alone) != name {
			t.Fatalf("after a refusal %q comes, want %q", names(alone), name)
		}
		if bytes.Equal(content(alone, 0), content(first, i)) {
			t.Errorf("%s comes in the bytes that were refused", name)
		}
		if name == rbac.HTTPSlot {
			c.ack(alone)
			r.eventually(name, xds.StateEnforced)
		} else {
			c.nack(alone, "this one")
			r.eventually(name, xds.StateRefused)
		}
	}
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, deny), slot(t, rbac.TCPSlot, allow)))
	for _, name := range []string{rbac.HTTPSlot, rbac.TCPSlot} {
		edited := c.receive()
		if names(edited) != name {
			t.Fatalf("of an edit comes %q, want %q", names(edited), name)
		}
		c.ack(edited)
		r.eventually(name, xds.StateEnforced)
	}
}

// What a node refused of its first slots stays apart when it comes again.
func TestARefusedSlotComesAloneAgain(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny)))
	for i, want := range []string{rbac.HTTPSlot + " " + rbac.TCPSlot, rbac.HTTPSlot} {
		c := connect(t, r.path)
		c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot, rbac.TCPSlot)
		got := c.receive()
		if names(got) != want {
			t.Errorf("connection %d is sent %q, want %q", i+1, names(got), want)
		}
		c.nack(got, "no")
		c.receive()
		c.cancel()
	}
}

// A real Envoy whose first slots include one that it refuses runs the other, and is known to refuse that one, whichever it is.
func TestABadSlotAmongTheFirst(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{rbac.HTTPSlot, rbac.TCPSlot} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			p := newProxied(t, bootstrap.DeltaGRPC)
			r := start(t, p.path, salter(true))
			state, good, runs := p.state(refuse, allow), rbac.TCPSlot, denied
			if bad == rbac.TCPSlot {
				state, good, runs = p.state(allow, refuse), rbac.HTTPSlot, admitted
			}
			r.cache.Set(state)
			r.eventually(bad, xds.StateRefused)
			r.eventually(good, xds.StateEnforced)
			p.answers(runs)
			p.Eventually("the good slot has a content", func() error {
				for _, kind := range []string{"http_filter", "network_filter"} {
					if p.Stat(fmt.Sprintf("extension_config_discovery.%s.%s.config_reload", kind, good)) > 0 {
						return nil
					}
				}
				return fmt.Errorf("%s was never loaded", good)
			})
			r.cache.Set(p.state(allow, allow))
			r.eventually(bad, xds.StateEnforced)
			p.answers(admitted)
		})
	}
}
