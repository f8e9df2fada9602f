package xds_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const (
	benchWorkloads = 100
	benchNodes     = 10 // of each workload
)

// sized is a slot of about 4 KiB.
func sized(t testing.TB, n int) *xds.Resource {
	t.Helper()
	body, err := anypb.New(wrapperspb.String(fmt.Sprintf("%d-%4000d", n, n)))
	if err != nil {
		t.Fatal(err)
	}
	return resource(t, &corev3.TypedExtensionConfig{Name: rbac.HTTPSlot, TypedConfig: body})
}

// mesh is a state, its proxies connected, each with a stream of its own.
type mesh struct {
	cache    *xds.Cache
	state    xds.Update
	registry *prometheus.Registry
	acked    chan struct{}
}

func newMesh(b *testing.B) *mesh {
	b.Helper()
	m := &mesh{registry: prometheus.NewRegistry(), acked: make(chan struct{}, benchWorkloads*benchNodes)}
	r := startWith(b, socket(b), xds.Config{Metrics: xds.NewMetrics(m.registry)}, xds.ServerConfig{})
	m.cache = r.cache
	m.state = xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: map[string][]xds.Node{}}
	var streams sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(func() { cancel(); streams.Wait() })
	connections := make([]discoveryv3.AggregatedDiscoveryServiceClient, 10)
	for i := range connections {
		connections[i] = dial(b, r.path)
	}
	for w := range benchWorkloads {
		key := fmt.Sprint("w", w)
		m.state.Workloads[key] = []*xds.Resource{sized(b, w)}
		for p := range benchNodes {
			id := fmt.Sprintf("shop/%s-%d", key, p)
			m.state.Nodes[key] = append(m.state.Nodes[key], xds.Node{ID: id})
			stream, err := connections[p%len(connections)].DeltaAggregatedResources(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				Node: &corev3.Node{Id: id}, TypeUrl: xds.ExtensionConfigType, ResourceNamesSubscribe: []string{rbac.HTTPSlot},
			}); err != nil {
				b.Fatal(err)
			}
			streams.Go(func() { m.acknowledge(stream) })
		}
	}
	m.cache.Set(m.state)
	m.wait(benchWorkloads * benchNodes)
	return m
}

func (m *mesh) acknowledge(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
	for {
		r, err := stream.Recv()
		if err != nil {
			return
		}
		if stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}) != nil {
			return
		}
		m.acked <- struct{}{}
	}
}

func (m *mesh) wait(n int) {
	for range n {
		<-m.acked
	}
}

// edit is the state with other content in some workloads.
func (m *mesh) edit(b *testing.B, n int, workloads ...int) xds.Update {
	b.Helper()
	next := xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: m.state.Nodes}
	maps.Copy(next.Workloads, m.state.Workloads)
	for _, w := range workloads {
		next.Workloads[fmt.Sprint("w", w)] = []*xds.Resource{sized(b, n)}
	}
	return next
}

// One workload of a hundred changes; a thousand proxies are connected, ten get it. Nothing is said to the others.
func BenchmarkSetOneWorkload(b *testing.B) {
	m := newMesh(b)
	before := gauge(b, m.registry, "pilot_lite_push_bytes_total")
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		m.cache.Set(m.edit(b, 1000+n, 7))
		m.wait(benchNodes)
	}
	b.ReportMetric(float64(gauge(b, m.registry, "pilot_lite_push_bytes_total")-before)/float64(n), "sentB/op")
}

// Every workload changes, and a thousand proxies get it.
func BenchmarkSetEveryWorkload(b *testing.B) {
	m := newMesh(b)
	var all []int
	for w := range benchWorkloads {
		all = append(all, w)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		m.cache.Set(m.edit(b, 1000+n, all...))
		m.wait(benchWorkloads * benchNodes)
	}
}

// Nothing changes: what a rebuild without an effect costs.
func BenchmarkSetNothing(b *testing.B) {
	m := newMesh(b)
	b.ReportAllocs()
	for b.Loop() {
		m.cache.Set(m.edit(b, 0))
	}
}

// A policy of every workload is another, and what a thousand proxies run is the same: what it costs to tell how policies are at them.
func BenchmarkTakeStanding(b *testing.B) {
	cache := xds.NewCache(xds.Config{})
	state := func(generation int64) xds.Update {
		u := xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: map[string][]xds.Node{}}
		for w := range benchWorkloads {
			key := fmt.Sprint("w", w)
			refs := []model.PolicyRef{{Namespace: "shop", Name: "all", UID: "all", Generation: generation}, {Namespace: "shop", Name: key, UID: key, Generation: 1}}
			for _, name := range []string{rbac.HTTPSlot, rbac.TCPSlot} {
				u.Workloads[key] = append(u.Workloads[key], resource(b, &corev3.TypedExtensionConfig{Name: name}).WithPolicies(refs))
			}
			for p := range benchNodes {
				u.Nodes[key] = append(u.Nodes[key], xds.Node{ID: fmt.Sprintf("shop/%s-%d", key, p), UID: fmt.Sprintf("%s-%d", key, p)})
			}
		}
		return u
	}
	first := state(1)
	cache.Set(first)
	for key, nodes := range first.Nodes {
		for _, n := range nodes {
			cache.Connect(n.ID, first.Workloads[key]...)
		}
	}
	follower := cache.Follow()
	defer follower.Stop()
	b.ReportAllocs()
	for generation := int64(2); b.Loop(); generation++ {
		b.StopTimer()
		next := state(generation)
		next.Nodes = first.Nodes
		cache.Set(next)
		b.StartTimer()
		for more := true; more; {
			_, more = follower.TakeStanding(200)
		}
	}
}
