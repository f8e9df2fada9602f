package xds_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A new proxy behind a node's name does not inherit what the old one, whose connection is half open, acknowledged.
func TestANewProxyStartsItsOwnAccount(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	old := connect(t, r.path)
	old.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	old.ack(old.receive())
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)

	restarted := connect(t, r.path)
	restarted.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	got := restarted.receive()
	if s := r.status(rbac.HTTPSlot); s.State != xds.StatePending || s.Enforced != "" {
		t.Errorf("before the new proxy answers: %+v", s)
	}
	restarted.nack(got, "not me")
	r.eventually(rbac.HTTPSlot, xds.StateRefused)

	// The old one is served all the same, and counts again when it is alone.
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, deny)))
	old.ack(old.receive())
	restarted.receive()
	restarted.cancel()
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
}

// What a proxy refused comes back in other bytes, also when the memory of refusals was too small to know it.
func TestForgottenRefusalsComeInOtherBytes(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.LimitRefusals(2)
	sent := map[string][][]byte{} // by version
	for range 3 {
		for _, c := range []content{"one", "two", "three", "four", "five"} {
			r.cache.Set(update(t, slot(t, rbac.HTTPSlot, c)))
			c := connect(t, r.path)
			c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
			got := c.receive()
			res := got.GetResources()[0]
			body := res.GetResource().GetValue()
			if slices.ContainsFunc(sent[res.GetVersion()], func(b []byte) bool { return bytes.Equal(b, body) }) {
				t.Fatal("the proxy was sent the bytes that it refused")
			}
			sent[res.GetVersion()] = append(sent[res.GetVersion()], body)
			c.nack(got, "no")
			r.eventually(rbac.HTTPSlot, xds.StateRefused)
			c.cancel()
		}
	}
}

// Only a proxy that refused a content gets it in bytes of its own: the others share one form.
func TestOthersShareOneForm(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	u := update(t, slot(t, rbac.HTTPSlot, allow))
	u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: "shop/other"})
	r.cache.Set(u)
	get := func(id string) (*client, []byte) {
		c := connect(t, r.path)
		c.subscribe(id, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
		got := c.receive()
		if id == node {
			c.nack(got, "no")
			r.eventually(rbac.HTTPSlot, xds.StateRefused)
		}
		c.cancel()
		return c, got.GetResources()[0].GetResource().GetValue()
	}
	_, first := get(node)
	_, second := get(node)
	_, other := get("shop/other")
	_, another := get("shop/other")
	if bytes.Equal(first, second) {
		t.Error("the proxy was sent the bytes that it refused")
	}
	if !bytes.Equal(first, other) || !bytes.Equal(other, another) {
		t.Error("the proxies that refused nothing got different bytes")
	}
}

// A claim to hold what the proxy is known to have refused is not believed.
func TestAClaimToHoldWhatWasRefused(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	got := c.receive()
	c.nack(got, "no")
	r.eventually(rbac.HTTPSlot, xds.StateRefused)
	liar := connect(t, r.path)
	liar.subscribe(node, xds.ExtensionConfigType, map[string]string{rbac.HTTPSlot: got.GetResources()[0].GetVersion()}, rbac.HTTPSlot)
	again := liar.receive()
	liar.ack(again)
	r.eventually(rbac.HTTPSlot, xds.StateEnforced) // in bytes that it had not seen
}

// A cluster goes after the listener that leads to it, and comes before: no request meets a listener without its cluster.
func TestAClusterGoesAfterItsListener(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	listener := func(prefix string) *listenerv3.Listener { return &listenerv3.Listener{Name: "l", StatPrefix: prefix} }
	r.cache.Set(update(t, cluster("a"), listener("to a")))
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	c.ack(c.receive())
	c.subscribe(node, xds.ListenerType, nil)
	c.ack(c.receive())
	r.becomes("l", xds.StateEnforced)

	r.cache.Set(update(t, cluster("b"), listener("to b")))
	comes := c.receive()
	if names(comes) != "b" {
		t.Fatalf("got %q, want the cluster that comes", names(comes))
	}
	changes := c.receive()
	if names(changes) != "l" {
		t.Fatalf("got %q, want the listener", names(changes))
	}
	c.ack(comes)
	c.nack(changes, "no such listener") // it leads to a still
	r.becomes("l", xds.StateRefused)
	r.cache.Set(update(t, cluster("b"), listener("to b at last")))
	again := c.receive()
	if names(again) != "l" {
		t.Fatalf("got %q, want the listener, and a stays", names(again))
	}
	c.ack(again)
	if goes := c.receive(); names(goes) != "-a" {
		t.Fatalf("got %q, want the cluster to go", names(goes))
	}
}

// The status service says what Status says.
func TestStatusService(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	bad := &clusterv3.Cluster{Name: "bad"}
	u := update(t, slot(t, rbac.HTTPSlot, allow), bad, slot(t, rbac.TCPSlot, deny))
	u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: "shop/absent", UID: "2"})
	r.cache.Set(u)
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.ack(c.receive())
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	c.subscribe(node, xds.ClusterType, nil)
	c.nack(c.receive(), "bad: no such \x1b[31m thing")
	r.becomes("bad", xds.StateRefused)

	l, err := xds.Listen(t.Context(), socket(t))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	statusv3.RegisterClientStatusDiscoveryServiceServer(server, xds.NewStatusService(func(context.Context) []xds.ProxyStatus { return r.cache.Status() }))
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).StreamClientStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&statusv3.ClientStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	got, err := xds.StatusFrom(answer)
	if err != nil {
		t.Fatal(err)
	}
	want := r.cache.Status()
	for i := range want {
		if !want[i].Since.IsZero() {
			want[i].Since = want[i].Since.UTC().Round(0)
		}
		for j := range want[i].Resources {
			want[i].Resources[j].Changed = want[i].Resources[j].Changed.UTC().Round(0)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("over the wire (-want +got):\n%s", diff)
	}
	states := map[string]xds.State{}
	for _, p := range got {
		for _, s := range p.Resources {
			states[p.Node+" "+s.Name] = s.State
			if diff := cmp.Diff([]model.PolicyRef{{Namespace: "shop", Name: "cart", UID: "1", Generation: 7}}, s.Policies); diff != "" {
				t.Errorf("policies of %s: %s", s.Name, diff)
			}
		}
	}
	if diff := cmp.Diff(map[string]xds.State{
		"shop/cart " + rbac.HTTPSlot: xds.StateEnforced, "shop/cart bad": xds.StateRefused, "shop/cart " + rbac.TCPSlot: xds.StatePending,
		"shop/absent " + rbac.HTTPSlot: xds.StatePending, "shop/absent bad": xds.StatePending, "shop/absent " + rbac.TCPSlot: xds.StatePending,
	}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// A proxy that went away is shown for ten minutes, with what it refused, and nothing of it counts as in force.
func TestDepartedProxies(t *testing.T) {
	t.Parallel()
	now := make(chan time.Time, 1)
	now <- time.Unix(1000, 0)
	clock := func() time.Time { t := <-now; now <- t; return t }
	r := startWith(t, socket(t), xds.Config{Salter: salter(true), Now: clock}, xds.ServerConfig{})
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.ack(c.receive())
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	c.cancel()
	r.eventually(rbac.HTTPSlot, xds.StatePending)
	if got := r.status(rbac.HTTPSlot); got.Enforced == "" {
		t.Error("what it ran last is forgotten at once")
	}
	<-now
	now <- time.Unix(1000+11*60, 0)
	if got := r.status(rbac.HTTPSlot); got.Enforced != "" {
		t.Errorf("it is remembered for ever: %+v", got)
	}
}

// Stop ends within its bound, whatever the proxies do.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	stream, err := dial(t, r.path).DeltaAggregatedResources(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	c.receive()
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Of two resources with one name the first is served, and the proxy is not sent from one to the other.
func TestTwoResourcesWithOneName(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	first := slot(t, rbac.HTTPSlot, deny)
	r.cache.Set(update(t, first, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	got := c.receive()
	if got.GetResources()[0].GetVersion() != resource(t, first).Version {
		t.Error("the second came")
	}
	c.ack(got)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	if again := c.receive(); again.GetResources()[0].GetVersion() != got.GetResources()[0].GetVersion() {
		t.Error("the second came after the first")
	}
}

// However workloads and nodes come, go and move, every proxy ends up with what the last state says, as if it had been set at once.
func TestEveryProxyFollowsTheState(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), nil)
	const proxies, workloads, rounds = 6, 4, 150
	random := rand.New(rand.NewPCG(1, 2))
	held := make([]atomic.Pointer[string], proxies)
	for i := range proxies {
		c := connect(t, r.path)
		c.subscribe(fmt.Sprint("shop/p", i), xds.ExtensionConfigType, nil, rbac.HTTPSlot)
		done := make(chan struct{})
		t.Cleanup(func() { close(done) })
		go func() {
			for {
				var got *discoveryv3.DeltaDiscoveryResponse
				select {
				case got = <-c.in:
				case <-done:
					return
				}
				version := got.GetResources()[0].GetVersion()
				if c.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}) != nil {
					return
				}
				held[i].Store(&version)
			}
		}()
	}
	shut := resource(t, slot(t, rbac.HTTPSlot, deny)).Version
	for round := range rounds {
		u, of := xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: map[string][]xds.Node{}}, make([]string, proxies)
		for w := range workloads {
			if random.IntN(4) > 0 {
				u.Workloads[fmt.Sprint("w", w)] = []*xds.Resource{resource(t, slot(t, rbac.HTTPSlot, content(fmt.Sprint("c", random.IntN(3)))))}
			}
		}
		for i := range proxies {
			if id := fmt.Sprint("shop/p", i); random.IntN(4) > 0 {
				of[i] = fmt.Sprint("w", random.IntN(workloads))
				u.Nodes[of[i]] = append(u.Nodes[of[i]], xds.Node{ID: id})
			}
		}
		r.cache.Set(u)
		for i := range proxies {
			want := shut
			if w := u.Workloads[of[i]]; w != nil {
				want = w[0].Version
			}
			r.until(fmt.Sprintf("round %d: proxy %d has %s", round, i, want), func() bool {
				got := held[i].Load()
				return got == nil && want == shut || got != nil && *got == want
			})
		}
	}
}

// A proxy that comes back with configuration, and whose pod is gone from a complete snapshot, is shut: what it runs is not anybody's any more.
func TestAReturningProxyWithoutAPodIsShut(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(xds.Update{})
	want := resource(t, slot(t, rbac.HTTPSlot, deny)).Version

	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, map[string]string{rbac.HTTPSlot: "old", "l7policy/old": "old"}, rbac.HTTPSlot, "l7policy/old")
	got := c.receive()
	if names(got) != rbac.HTTPSlot || got.GetResources()[0].GetVersion() != want {
		t.Errorf("got %v, want the slot that denies everything", got)
	}
	c.ack(got)
	if got := c.receive(); names(got) != "-l7policy/old" {
		t.Errorf("got %q, want the slot that shut proxies do not have to go", names(got))
	}

	w := connectWorld(t, r.path)
	w.accepted = "old"
	w.subscribe(xds.ExtensionConfigType, rbac.HTTPSlot)
	if got := slotNames(t, w.receive()); len(got) != 1 || got[0] != rbac.HTTPSlot {
		t.Errorf("got %q, want the slot that denies everything", got)
	}

	// One that runs nothing is told nothing: its listeners' default denies.
	stranger := connect(t, r.path)
	stranger.subscribe("shop/stranger", xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	r.connected("shop/stranger")
	u := update(t, slot(t, rbac.HTTPSlot, allow))
	u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: "shop/stranger"})
	r.cache.Set(u)
	if got := stranger.receive(); got.GetResources()[0].GetVersion() == want {
		t.Error("the stranger was shut before it was known")
	}
}

// A listener that was refused is tried again, once, when a slot has been taken: what stood in the slot may have been why.
func TestARefusedListenerIsTriedAgainWithASlot(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	listener := &listenerv3.Listener{Name: "l"}
	r.cache.Set(update(t, listener, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ListenerType, nil)
	c.nack(c.receive(), "no")
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.ack(c.receive())
	again := c.receive()
	if names(again) != "l" {
		t.Fatalf("got %q, want the listener", names(again))
	}
	c.nack(again, "no")
	r.becomes("l", xds.StateRefused)
	r.cache.Set(update(t, listener, slot(t, rbac.HTTPSlot, allow), cluster("a")))
	r.cache.Set(update(t, listener, slot(t, rbac.HTTPSlot, deny), cluster("a")))
	edit := c.receive()
	if names(edit) != rbac.HTTPSlot {
		t.Fatalf("got %q, want the edit of the slot and nothing before", names(edit))
	}
	c.ack(edit)
	c.ack(c.receive())
	r.becomes("l", xds.StateEnforced)

	w := connectWorld(t, r.path)
	w.subscribe(xds.ListenerType)
	w.nack(w.receive(), "no")
	w.accepted = ""
	w.subscribe(xds.ExtensionConfigType, rbac.HTTPSlot)
	w.ack(w.receive(), rbac.HTTPSlot)
	last := w.receive()
	if last.GetTypeUrl() != xds.ListenerType || len(last.GetResources()) != 1 {
		t.Fatalf("got %v, want the listener", last)
	}
	w.nack(last, "no")
	r.becomes("l", xds.StateRefused)
	select {
	case got := <-w.in:
		t.Errorf("and again: %v", got)
	default:
	}
}

// A listener that comes while a slot stands refused, long after, has the slot's good content sent before it: Envoy refuses every listener until then. The slot itself is the very
// same, of which there was nothing to say.
func TestARefusedSlotIsRestoredBeforeALaterListener(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	u := update(t, &listenerv3.Listener{Name: "l"}, slot(t, rbac.HTTPSlot, allow))
	r.cache.Set(u)
	c := connect(t, r.path)
	c.subscribe(node, xds.ListenerType, nil)
	c.ack(c.receive())
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	good := c.receive()
	c.ack(good)
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)

	refused := resource(t, slot(t, rbac.HTTPSlot, deny))
	of := func(listener *xds.Resource) xds.Update {
		return xds.Update{Workloads: map[string][]*xds.Resource{"w": {listener, refused}}, Nodes: u.Nodes}
	}
	r.cache.Set(of(u.Workloads["w"][0]))
	c.nack(c.receive(), "no")
	r.eventually(rbac.HTTPSlot, xds.StateRefused)

	r.cache.Set(of(resource(t, &listenerv3.Listener{Name: "l", StatPrefix: "other"})))
	restored := c.receive()
	if names(restored) != rbac.HTTPSlot || restored.GetResources()[0].GetVersion() != good.GetResources()[0].GetVersion() {
		t.Fatalf("before the listener comes %q, want the slot's good content", names(restored))
	}
	c.ack(restored)
	if next := c.receive(); names(next) != "l" {
		t.Errorf("then comes %q, want the listener", names(next))
	}
}
