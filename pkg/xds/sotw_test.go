package xds_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// worldClient is a raw state-of-the-world client on the generated stubs. As Envoy does, it names the version that it accepted last in every request.
type worldClient struct {
	t        testing.TB
	stream   discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	in       chan *discoveryv3.DiscoveryResponse
	accepted string
}

func connectWorld(t testing.TB, path string) *worldClient {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := dial(t, path).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &worldClient{t: t, stream: stream, in: make(chan *discoveryv3.DiscoveryResponse)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case c.in <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func (c *worldClient) send(r *discoveryv3.DiscoveryRequest) {
	c.t.Helper()
	r.Node, r.VersionInfo = &corev3.Node{Id: node}, c.accepted
	if err := c.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

func (c *worldClient) subscribe(typeURL string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: names})
}

func (c *worldClient) receive() *discoveryv3.DiscoveryResponse {
	c.t.Helper()
	select {
	case r := <-c.in:
		return r
	case <-time.After(10 * time.Second):
		c.t.Fatal("nothing came within 10 s")
	}
	return nil
}

func (c *worldClient) ack(r *discoveryv3.DiscoveryResponse, names ...string) {
	c.t.Helper()
	c.accepted = r.GetVersionInfo()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ResourceNames: names})
}

func (c *worldClient) nack(r *discoveryv3.DiscoveryResponse, text string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ResourceNames: names, ErrorDetail: &statuspb.Status{Message: text}})
}

// slotNames are the slots in a response.
func slotNames(t testing.TB, r *discoveryv3.DiscoveryResponse) []string {
	t.Helper()
	var out []string
	for _, a := range r.GetResources() {
		var s corev3.TypedExtensionConfig
		if err := a.UnmarshalTo(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s.GetName())
	}
	return out
}

// The version that a proxy names as it reconnects does not vouch for a slot that it refused, however many others it acknowledged since.
func TestAStateOfTheWorldVersionNamesNothingRefused(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	slots := []string{rbac.HTTPSlot, rbac.TCPSlot}
	u := update(t, slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny))
	r.cache.Set(u)
	c := connectWorld(t, r.path)
	c.subscribe(xds.ExtensionConfigType, slots...)
	c.nack(c.receive(), "bad slot", slots...)
	c.ack(c.receive(), slots...)
	r.eventually(rbac.HTTPSlot, xds.StateRefused)
	r.eventually(rbac.TCPSlot, xds.StateEnforced)

	for _, replica := range []*replica{r, start(t, socket(t), salter(true))} {
		replica.cache.Set(u)
		again := connectWorld(t, replica.path)
		again.accepted = c.accepted
		again.subscribe(xds.ExtensionConfigType, slots...)
		if got := slotNames(t, again.receive()); len(got) != 1 || got[0] != rbac.HTTPSlot {
			t.Errorf("got %q, want the slot that was refused", got)
		}
		if got := replica.status(rbac.HTTPSlot).State; got == xds.StateEnforced {
			t.Error("the refused slot is taken to be in force")
		}
	}
}

// A proxy that reconnects before the first complete snapshot, with all that there will be, is sent nothing of it.
func TestAStateOfTheWorldVersionIsBelievedLate(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	u := update(t, cluster("a"), cluster("b"))
	r.cache.Set(u)
	c := connectWorld(t, r.path)
	c.subscribe(xds.ClusterType)
	c.ack(c.receive())

	late := start(t, socket(t), salter(true))
	again := connectWorld(t, late.path)
	again.accepted = c.accepted
	again.subscribe(xds.ClusterType)
	late.connected(node)
	late.cache.Set(u)
	late.cache.Set(update(t, cluster("a"), cluster("c")))
	if got := again.receive(); got.GetVersionInfo() == c.accepted {
		t.Error("the first thing that came is what it had")
	}
}

// A name that was given up and is asked for again is sent again.
func TestAStateOfTheWorldNameIsSentAgain(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow), slot(t, rbac.TCPSlot, deny)))
	c := connectWorld(t, r.path)
	c.subscribe(xds.ExtensionConfigType, rbac.HTTPSlot)
	first := c.receive()
	c.ack(first, rbac.TCPSlot)
	second := c.receive()
	if got := slotNames(t, second); len(got) != 1 || got[0] != rbac.TCPSlot {
		t.Fatalf("got %q", got)
	}
	c.ack(second, rbac.HTTPSlot, rbac.TCPSlot)
	if got := slotNames(t, c.receive()); len(got) != 1 || got[0] != rbac.HTTPSlot {
		t.Errorf("got %q, want the slot that was given up", got)
	}
}

// A refused state of the world leaves what is new in it unproved, and what was acknowledged before as it was; nothing is sent until something changes.
func TestARefusedStateOfTheWorld(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a"), cluster("b")))
	c := connectWorld(t, r.path)
	c.subscribe(xds.ClusterType)
	c.ack(c.receive())
	changed := cluster("b")
	changed.AltStatName = "x"
	r.cache.Set(update(t, cluster("a"), changed))
	c.nack(c.receive(), "no b")
	r.becomes("b", xds.StateRefused)
	if got := r.resource("b"); got.Text != "no b" {
		t.Errorf("got %+v", got)
	}
	if got := r.resource("a"); got.State != xds.StateEnforced {
		t.Errorf("what was acknowledged before is %s", got.State)
	}
	r.cache.Set(update(t, cluster("a"), changed, slot(t, rbac.HTTPSlot, allow)))
	r.cache.Set(update(t, cluster("a"), cluster("b")))
	last := c.receive()
	if len(last.GetResources()) != 2 {
		t.Errorf("got %d clusters", len(last.GetResources()))
	}
	c.ack(last)
	r.becomes("b", xds.StateEnforced)
}

// A removal is said also when the response that would have said it was dropped by the server, since a request overtook it.
func TestARemovalFromTheStateOfTheWorldIsNotLost(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	one, two := update(t, cluster("a")), update(t, cluster("a"), cluster("b"))
	r.cache.Set(two)
	c := connectWorld(t, r.path)
	c.subscribe(xds.ClusterType)
	last := c.receive()
	for i := range 400 {
		next := one
		if i%2 == 1 {
			next = two
		}
		c.ack(last)
		set := make(chan struct{})
		go func() { defer close(set); r.cache.Set(next) }()
		c.ack(last) // says nothing new
		last = c.receive()
		if got, want := len(last.GetResources()), len(next.Workloads["w"]); got != want {
			t.Fatalf("round %d: got %d clusters, want %d", i, got, want)
		}
		<-set
	}
}

// What was refused in a state of the world stays at what was acknowledged, so that later changes of its neighbours are proved one by one.
func TestARefusedResourceStaysAtItsLastGoodContent(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	named := func(name, content string) *clusterv3.Cluster {
		return &clusterv3.Cluster{Name: name, AltStatName: content}
	}
	c := connectWorld(t, r.path)
	c.subscribe(xds.ClusterType)
	said := func(want ...string) *discoveryv3.DiscoveryResponse {
		t.Helper()
		response := c.receive()
		var got []string
		for _, a := range response.GetResources() {
			var cluster clusterv3.Cluster
			if err := a.UnmarshalTo(&cluster); err != nil {
				t.Fatal(err)
			}
			got = append(got, cluster.GetName()+cluster.GetAltStatName())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("clusters (-want +got):\n%s", diff)
		}
		return response
	}
	r.cache.Set(update(t, named("a", "1"), named("b", "1")))
	c.ack(said("a1", "b1"))
	r.cache.Set(update(t, named("a", "1"), named("b", "bad")))
	c.nack(said("a1", "bbad"), "b is bad")
	r.becomes("b", xds.StateRefused)

	r.cache.Set(update(t, named("a", "2"), named("b", "bad")))
	c.ack(said("a2", "b1"))
	r.becomes("a", xds.StateEnforced)
	if got := r.resource("b"); got.State != xds.StateRefused || got.Text != "b is bad" {
		t.Errorf("what was refused is now %+v", got)
	}
	r.cache.Set(update(t, named("a", "2"), named("b", "bad"), named("c", "bad")))
	c.nack(said("a2", "b1", "cbad"), "c is bad")
	r.becomes("c", xds.StateRefused)
	r.cache.Set(update(t, named("a", "3"), named("b", "2"), named("c", "bad")))
	c.ack(said("a3", "b2"))
	r.becomes("a", xds.StateEnforced)
	r.becomes("b", xds.StateEnforced)
	r.becomes("c", xds.StateRefused)
}
