package bench_test

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// fleet is the sidecars of a cluster, and what they were told together.
type fleet struct {
	t        testing.TB
	cluster  *cluster
	address  string
	tls      *tls.Config
	sidecars []*sidecar

	messages, bytes atomic.Int64 // responses, and their size as messages
	wireIn, wireOut atomic.Int64 // bytes of the TCP connections, TLS among them

	mu    sync.Mutex
	names map[string][]string // slots that a listener refers to, by the listener's bytes
	watch *arrivals
}

// arrivals are when sidecars acknowledged the first slot that came after the start.
type arrivals struct {
	start time.Time
	want  int
	seen  map[*sidecar]struct{}
	times []time.Duration
	done  chan struct{}
}

// sidecar is a proxy as the control plane sees it: it asks for what Envoy asks for, in that order, and acknowledges it.
type sidecar struct {
	fleet  *fleet
	pod    *pod
	cancel context.CancelFunc
	done   chan struct{}
	stall  atomic.Bool // it does not read any more

	mu       sync.Mutex
	held     map[string]map[string]*discoveryv3.Resource // by type and name, as they came last; written by the stream alone
	complete chan struct{}                               // closed when the slots of every listener have come
	markers  []sighting
}

// sighting is when a marker came.
type sighting struct {
	marker int64
	at     time.Time
}

func newFleet(t testing.TB, c *cluster, address string, trust *tls.Config) *fleet {
	t.Helper()
	f := &fleet{t: t, cluster: c, address: address, tls: trust, names: map[string][]string{}}
	for i := range c.pods {
		f.sidecars = append(f.sidecars, &sidecar{fleet: f, pod: &c.pods[i], held: map[string]map[string]*discoveryv3.Resource{}})
	}
	return f
}

// connect starts every sidecar at once, and waits until each has everything. Those that hold something say so, and are not waited for: they may be told nothing.
func (f *fleet) connect(within time.Duration) {
	f.t.Helper()
	for _, s := range f.sidecars {
		s.start()
	}
	deadline := time.After(within)
	for _, s := range f.sidecars {
		select {
		case <-s.complete:
		case <-deadline:
			f.t.Fatalf("%s has not everything after %s; %d responses came", s.pod.node(), within, f.messages.Load())
		}
	}
}

func (f *fleet) disconnect() {
	for _, s := range f.sidecars {
		s.cancel()
	}
	for _, s := range f.sidecars {
		<-s.done
	}
}

// expect begins to wait for some sidecars' next slot.
func (f *fleet) expect(want int) *arrivals {
	a := &arrivals{start: time.Now(), want: want, seen: map[*sidecar]struct{}{}, done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watch = a
	return a
}

// wait returns when every one of them has come.
func (a *arrivals) wait(t testing.TB, within time.Duration) {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(within):
		t.Fatalf("a slot came to %d of %d sidecars within %s", len(a.times), a.want, within)
	}
}

func (f *fleet) arrived(s *sidecar, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.watch
	if a == nil {
		return
	}
	if _, again := a.seen[s]; again {
		return
	}
	a.seen[s] = struct{}{}
	a.times = append(a.times, at.Sub(a.start))
	if len(a.times) == a.want {
		close(a.done)
	}
}

func (s *sidecar) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done, s.complete = cancel, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		for ctx.Err() == nil {
			if err := s.run(ctx); err != nil && ctx.Err() == nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}()
}

// window is the flow control's, and fixed, as Envoy's is: a client of gRPC's own would ask the server for the round trip with a ping after almost every response.
const window = 1 << 20

// run is one stream, from its connection to its end.
func (s *sidecar) run(ctx context.Context) error {
	f := s.fleet
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(credentials.NewTLS(f.tls)), grpc.WithContextDialer(f.dial),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10), grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: time.Minute}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.pod.token))
	if err != nil {
		return err
	}
	for _, typeURL := range []string{xds.ClusterType, xds.ListenerType} {
		if err := stream.Send(s.subscription(typeURL, "*")); err != nil {
			return err
		}
	}
	if names := slices.Collect(maps.Keys(s.held[xds.ExtensionConfigType])); len(names) > 0 {
		if err := stream.Send(s.subscription(xds.ExtensionConfigType, names...)); err != nil {
			return err
		}
		s.completed()
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if s.stall.Load() {
			<-ctx.Done()
			return ctx.Err()
		}
		if err := s.take(stream, r); err != nil {
			return err
		}
	}
}

func (f *fleet) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	return &countedConn{Conn: c, fleet: f}, err
}

// countedConn counts what passes.
type countedConn struct {
	net.Conn
	fleet *fleet
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.fleet.wireIn.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.fleet.wireOut.Add(int64(n))
	return n, err
}

// subscription is the first request of a type, which says what is held.
func (s *sidecar) subscription(typeURL string, names ...string) *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: s.pod.node()}, TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: map[string]string{}}
	for name, resource := range s.held[typeURL] {
		r.InitialResourceVersions[name] = resource.GetVersion()
	}
	return r
}

// take keeps a response, acknowledges it, and asks for the slots of listeners that are new.
func (s *sidecar) take(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, r *discoveryv3.DeltaDiscoveryResponse) error {
	f := s.fleet
	f.messages.Add(1)
	f.bytes.Add(int64(proto.Size(r)))
	s.keep(r)
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}); err != nil {
		return err
	}
	now := time.Now()
	switch r.GetTypeUrl() {
	case xds.ListenerType:
		if names := s.missing(); len(names) > 0 {
			return stream.Send(s.subscription(xds.ExtensionConfigType, names...))
		}
	case xds.ExtensionConfigType:
		s.sight(r, now)
		f.arrived(s, now)
		if len(s.missing()) == 0 {
			s.completed()
		}
	}
	return nil
}

func (s *sidecar) keep(r *discoveryv3.DeltaDiscoveryResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[r.GetTypeUrl()]
	if held == nil {
		held = map[string]*discoveryv3.Resource{}
		s.held[r.GetTypeUrl()] = held
	}
	for _, resource := range r.GetResources() {
		held[resource.GetName()] = resource
	}
	for _, name := range r.GetRemovedResources() {
		delete(held, name)
	}
}

// snapshot is what the sidecar holds now.
func (s *sidecar) snapshot() map[string]map[string]*discoveryv3.Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]map[string]*discoveryv3.Resource{}
	for typeURL, held := range s.held {
		out[typeURL] = maps.Clone(held)
	}
	return out
}

func (s *sidecar) completed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.complete:
	default:
		close(s.complete)
	}
}

// sight notes the newest marker of a response.
func (s *sidecar) sight(r *discoveryv3.DeltaDiscoveryResponse, now time.Time) {
	newest := int64(0)
	for _, resource := range r.GetResources() {
		newest = max(newest, newestMarker(resource.GetResource().GetValue()))
	}
	if newest > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.markers = append(s.markers, sighting{newest, now})
	}
}

func (s *sidecar) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.markers = nil
}

// when is the time at which a marker, or one that came after it, was there.
func (s *sidecar) when(marker int64) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.markers {
		if m.marker >= marker {
			return m.at, true
		}
	}
	return time.Time{}, false
}

// missing are the slots that listeners refer to and that have not come.
func (s *sidecar) missing() []string {
	var out []string
	for _, l := range s.held[xds.ListenerType] {
		for _, name := range s.fleet.slots(l.GetResource().GetValue()) {
			if s.held[xds.ExtensionConfigType][name] == nil {
				out = append(out, name)
			}
		}
	}
	return out
}

// slots are the names of the extension configurations that a listener asks for. Most sidecars have the same listeners.
func (f *fleet) slots(listener []byte) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	names, known := f.names[string(listener)]
	if !known {
		names = slotsOf(f.t, listener)
		f.names[string(listener)] = names
	}
	return names
}

func slotsOf(t testing.TB, listener []byte) []string {
	t.Helper()
	var l listenerv3.Listener
	if err := proto.Unmarshal(listener, &l); err != nil {
		t.Errorf("a listener: %v", err)
	}
	found := map[string]struct{}{}
	for _, chain := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
		for _, filter := range chain.GetFilters() {
			if filter.GetConfigDiscovery() != nil {
				found[filter.GetName()] = struct{}{}
			}
			var h hcmv3.HttpConnectionManager
			if !filter.GetTypedConfig().MessageIs(&h) {
				continue
			}
			if err := filter.GetTypedConfig().UnmarshalTo(&h); err != nil {
				t.Errorf("a connection manager: %v", err)
			}
			for _, inner := range h.GetHttpFilters() {
				if inner.GetConfigDiscovery() != nil {
					found[inner.GetName()] = struct{}{}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
