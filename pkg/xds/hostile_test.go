package xds_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// rawBytes is a codec that sends bytes as they are.
type rawBytes struct{}

func (rawBytes) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, errors.New("not bytes")
	}
	return b, nil
}
func (rawBytes) Unmarshal([]byte, any) error { return nil }
func (rawBytes) Name() string                { return "proto" }

// stillServes wants a well-behaved client to be served.
func (r *replica) stillServes() {
	r.t.Helper()
	c := connect(r.t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	if got := c.receive(); names(got) != "a" {
		r.t.Errorf("got %q", names(got))
	}
	c.cancel()
}

// deeplyNested is a request whose node's metadata is a list in a list in a list.
func deeplyNested(depth int) []byte {
	const nodeField, metadataField, fieldsField, valueField, listField, valuesField = 1, 4, 1, 2, 6, 1
	reversed := make([]byte, 0, depth*12) // from the inside to the outside, so that nothing is copied
	wrap := func(field protowire.Number) {
		head := protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.BytesType), uint64(len(reversed)))
		for _, b := range slices.Backward(head) {
			reversed = append(reversed, b)
		}
	}
	for range depth {
		wrap(listField)
		wrap(valuesField)
	}
	for _, field := range []protowire.Number{listField, valueField, fieldsField, metadataField, nodeField} {
		wrap(field)
	}
	slices.Reverse(reversed)
	return reversed
}

// What is no request ends its own stream, and costs nobody else anything.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	noise := make([]byte, 1<<16)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"random bytes": noise, "a truncated field": {0x0a, 0xff, 0x01}, "100 MB": make([]byte, 100<<20), "deep nesting": deeplyNested(100_000), "nothing": {},
	} {
		for _, method := range []string{"DeltaAggregatedResources", "StreamAggregatedResources"} {
			conn, err := grpc.NewClient(r.path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawBytes{})))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
				"/envoy.service.discovery.v3.AggregatedDiscoveryService/"+method)
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.SendMsg(body) // the server may refuse it before it is through
			var got []byte
			if err := stream.RecvMsg(&got); err == nil {
				t.Errorf("%s: %s got an answer", name, method)
			}
			_ = conn.Close()
			r.stillServes()
		}
	}
	// And what is no HTTP/2 at all.
	path := strings.TrimPrefix(r.path, "unix:")
	for _, start := range []string{"", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(append([]byte(start), noise...))
		_ = conn.Close()
	}
	r.stillServes()
}

// Names come and go without a trace: what a stream costs is what it holds.
func TestNamesComeAndGo(t *testing.T) { // not in parallel: it looks at the heap
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.ack(c.receive())
	var before []string
	const rounds, each = 250, 400 // 100,000 names
	churn := func(rounds, from int) {
		for i := range rounds {
			var batch []string
			for j := range each {
				batch = append(batch, fmt.Sprintf("name-%d-%d", from+i, j))
			}
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ExtensionConfigType, ResourceNamesSubscribe: batch, ResourceNamesUnsubscribe: before})
			before = batch
		}
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ExtensionConfigType, ResourceNamesSubscribe: []string{rbac.HTTPSlot}})
		c.ack(c.receive()) // asked for again, sent again: all before it was taken
	}
	churn(10, 0)
	start := heap()
	churn(rounds, 10)
	if grown := heap() - start; grown > 8<<20 {
		t.Errorf("%d names left %d bytes", rounds*each, grown)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a stream may make the server remember is bounded: names, claims, types, and the size of each.
func TestWhatAStreamMayClaim(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := startWith(t, socket(t), xds.Config{Salter: salter(true), Metrics: xds.NewMetrics(registry)}, xds.ServerConfig{})
	r.cache.Set(update(t, cluster("a")))
	claims := map[string]string{}
	for i := range 20_000 {
		claims[fmt.Sprintf("name-%d", i)] = "v"
	}
	long := strings.Repeat("x", 4096)
	for _, wrong := range []struct {
		want    string
		request *discoveryv3.DeltaDiscoveryRequest
	}{
		{"ResourceExhausted", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, InitialResourceVersions: claims}},
		{"InvalidArgument", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, InitialResourceVersions: map[string]string{long: "v"}}},
		{"InvalidArgument", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, InitialResourceVersions: map[string]string{"a": long}}},
		{"InvalidArgument", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResourceNamesSubscribe: []string{long}}},
		{"InvalidArgument", &discoveryv3.DeltaDiscoveryRequest{TypeUrl: long}},
		{"InvalidArgument", &discoveryv3.DeltaDiscoveryRequest{}},
	} {
		c := connect(t, r.path)
		wrong.request.Node = &corev3.Node{Id: node}
		c.send(wrong.request)
		c.fails(wrong.want)
	}
	// A type that is not served is never answered, whatever is claimed of it, and adds nothing to the metrics.
	c := connect(t, r.path)
	c.subscribe(node, "x", map[string]string{"a": "1"})
	c.subscribe(node, "made.up", map[string]string{"a": "1"})
	c.subscribe(node, xds.ClusterType, nil)
	if got := c.receive(); names(got) != "a" {
		t.Errorf("got %q", names(got))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); n > 3 && f.GetName() != "pilot_lite_streams_ended_total" { // whose series are the statuses of gRPC
			t.Errorf("%s has %d series, want those of the served types", f.GetName(), n)
		}
	}
}

// A proxy that refuses everything gets each content once.
func TestRefusalsAreNotALoop(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := newLogger(&log)
	r := startWith(t, socket(t), xds.Config{Salter: salter(true), Logger: logger}, xds.ServerConfig{Logger: logger})
	one, two := update(t, slot(t, rbac.HTTPSlot, allow), cluster("a"), cluster("b")), update(t, slot(t, rbac.HTTPSlot, deny), cluster("a"), cluster("b"))
	r.cache.Set(one)
	sent := 0
	for range 5 { // connections
		c := connect(t, r.path)
		c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
		c.subscribe(node, xds.ClusterType, nil)
		seen := 0
		for seen < 4 { // the slot; the clusters together, then each on its own
			got := c.receive()
			c.nack(got, "no")
			seen++
		}
		r.becomes(rbac.HTTPSlot, xds.StateRefused)
		r.becomes("a", xds.StateRefused)
		r.becomes("b", xds.StateRefused)
		r.cache.Set(two)
		c.nack(c.receive(), "no")
		r.becomes(rbac.HTTPSlot, xds.StateRefused)
		sent += seen + 1
		select {
		case got := <-c.in:
			t.Fatalf("got %q once more", names(got))
		default:
		}
		c.cancel()
		r.until("the stream is gone", func() bool { return !r.cache.Status()[0].Connected })
		r.cache.Set(one)
	}
	if n := strings.Count(log.String(), "refused its configuration"); n != 4 {
		t.Errorf("%d refusals were logged, want one for each of 4 contents:\n%s", n, log.String())
	}
}

// A proxy that neither reads nor answers is dropped; the others are not.
func TestASilentProxyIsDropped(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := startWith(t, socket(t), xds.Config{Salter: salter(true), Metrics: xds.NewMetrics(registry)}, xds.ServerConfig{SendTimeout: time.Second}) // long enough for the good one on a busy machine
	r.cache.Set(update(t, cluster("a")))
	good := connect(t, r.path)
	good.subscribe(node, xds.ClusterType, nil)
	good.ack(good.receive())

	silent := connect(t, r.path)
	silent.subscribe(node, xds.ClusterType, nil)
	silent.receive() // and no answer
	silent.fails("DeadlineExceeded")

	large := cluster("a")
	large.AltStatName = strings.Repeat("x", 1<<20) // more than fits into any buffer on the way
	deaf, err := dial(t, r.path).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.cache.Set(update(t, large))
	good.ack(good.receive())
	if err := deaf.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.ClusterType}); err != nil {
		t.Fatal(err)
	}
	r.until("two streams are open", func() bool { return gauge(t, registry, "pilot_lite_streams") == 2 })
	r.until("the deaf one is dropped", func() bool { return gauge(t, registry, "pilot_lite_streams") == 1 })

	r.cache.Set(update(t, cluster("b")))
	if got := good.receive(); names(got) != "b -a" {
		t.Errorf("got %q", names(got))
	}
}

func gauge(t testing.TB, registry *prometheus.Registry, name string) int {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

// A panic ends the stream that it happens on; the others are served.
func TestAPanicEndsOneStream(t *testing.T) {
	t.Parallel()
	boom := func(*corev3.TypedExtensionConfig, string) [][]byte { panic("boom") }
	registry := prometheus.NewRegistry()
	r := startWith(t, socket(t), xds.Config{Salter: boom, Metrics: xds.NewMetrics(registry)}, xds.ServerConfig{})
	r.cache.Set(update(t, cluster("a")))
	waiting := connect(t, r.path)
	waiting.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	r.connected(node)
	r.cache.Set(update(t, cluster("a"), slot(t, rbac.HTTPSlot, allow))) // panics for the one that waits

	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.fails("Internal")
	r.stillServes()
	if n := gauge(t, registry, "pilot_lite_xds_panics_total"); n != 2 {
		t.Errorf("%d panics were counted, want 2", n)
	}
}

// Many connections that come and go leave nothing behind.
func TestConnectionsComeAndGo(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	for i := range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := dial(t, r.path).DeltaAggregatedResources(ctx)
		if err != nil {
			t.Fatal(err)
		}
		id := node
		if i%2 == 1 {
			id = fmt.Sprintf("shop/stranger-%d", i)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: id}, TypeUrl: xds.ClusterType}); err != nil {
			t.Fatal(err)
		}
		r.connected(id)
		cancel()
	}
	r.until("only the known node is left", func() bool {
		s := r.cache.Status()
		return len(s) == 1 && s[0].Node == node && !s[0].Connected
	})
}

// Floods of frames end their own connection, or are taken in without harm; the others are served.
func TestFloodsOfFrames(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":authority", Value: "x"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
		{Name: ":path", Value: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"},
	} {
		if err := encoder.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	for _, flood := range map[string]func(f *http2.Framer, i uint32) error{
		"pings": func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) },
		"settings": func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		},
		"resets": func(f *http2.Framer, i uint32) error {
			id := 2*i + 1
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"continuations": func(f *http2.Framer, i uint32) error {
			if i == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()})
			}
			return f.WriteContinuation(1, false, bytes.Repeat([]byte{0x82}, 1024))
		},
	} {
		r.flood(func(f *http2.Framer) {
			for i := range uint32(20_000) {
				if flood(f, i) != nil {
					return // the server has had enough
				}
			}
		})
		r.stillServes()
	}
}

// flood opens a connection, reads what comes and lets write do its worst.
func (r *replica) flood(write func(f *http2.Framer)) {
	r.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(r.t.Context(), "unix", strings.TrimPrefix(r.path, "unix:"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	framer := http2.NewFramer(conn, nil)
	if err := framer.WriteSettings(); err != nil {
		r.t.Fatal(err)
	}
	write(framer)
}
