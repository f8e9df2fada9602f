package controlplane_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const patience = 10 * time.Second

// gate is a source that tells when it is asked.
type gate struct {
	*source
	asked func()
}

func (g *gate) Snapshot() (*model.Snapshot, bool) {
	if g.asked != nil {
		g.asked()
	}
	return g.source.Snapshot()
}

// rig is the loop between a source that a test sets and a real server.
type rig struct {
	*gate
	t        *testing.T
	loop     *controlplane.Loop
	registry *prometheus.Registry
	cache    *xds.Cache
	path     string
	rebuilds int64 // that were waited for
}

func start(t *testing.T) *rig {
	t.Helper()
	return startWith(t, translate.Salt)
}

func startWith(t *testing.T, salter xds.Salter) *rig {
	t.Helper()
	r := &rig{
		gate: &gate{source: &source{changed: make(chan struct{}, 1)}}, t: t, registry: prometheus.NewRegistry(),
		cache: xds.NewCache(xds.Config{Salter: salter}), path: "unix:" + filepath.Join(filepath.Dir(envoytest.AdminSocket(t)), "xds"),
	}
	r.loop = controlplane.New(r.gate, r.cache, slog.New(slog.DiscardHandler), controlplane.NewMetrics(r.registry))
	server, err := xds.NewServer(r.cache, xds.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := xds.Listen(t.Context(), r.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.loop.Run(ctx) })
	running.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		cancel()
		stopping, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		server.Stop(stopping)
		running.Wait()
	})
	return r
}

// apply sets a snapshot and returns when it was rebuilt, for good or for bad.
func (r *rig) apply(s *model.Snapshot) {
	r.t.Helper()
	r.set(s)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	r.rebuilds++
	if got := r.loop.WaitFor(ctx, r.rebuilds); got != r.rebuilds {
		r.t.Fatalf("%d rebuilds, want %d", got, r.rebuilds)
	}
}

// proxy is a raw delta client that acknowledges everything, in the name of a pod.
type proxy struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in     chan *discoveryv3.DeltaDiscoveryResponse
	held   map[string]string // bytes by type and name
}

// connect opens a proxy's stream, asks as Envoy does and waits for the first answers.
func (r *rig) connect(pod string) *proxy {
	r.t.Helper()
	conn, err := grpc.NewClient(r.path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &proxy{t: r.t, stream: stream, in: make(chan *discoveryv3.DeltaDiscoveryResponse), held: map[string]string{}}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case p.in <- response:
			case <-ctx.Done():
				return
			}
		}
	})
	r.t.Cleanup(func() { cancel(); receiving.Wait(); _ = conn.Close() })
	slots := []string{rbac.HTTPSlot, rbac.TCPSlot, translate.ConnectSlot}
	p.send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "shop/" + pod}, TypeUrl: xds.ClusterType})
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ListenerType})
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ExtensionConfigType, ResourceNamesSubscribe: slots})
	for len(p.held) < len(slots)+2 {
		p.next()
	}
	return p
}

func (p *proxy) send(r *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	if err := p.stream.Send(r); err != nil {
		p.t.Fatal(err)
	}
}

// next takes, acknowledges and names what comes next.
func (p *proxy) next() string {
	p.t.Helper()
	select {
	case r := <-p.in:
		p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
		var out []string
		for _, resource := range r.GetResources() {
			p.held[r.GetTypeUrl()+" "+resource.GetName()] = string(resource.GetResource().GetValue())
			out = append(out, resource.GetName())
		}
		for _, name := range r.GetRemovedResources() {
			out = append(out, "-"+name)
		}
		return strings.Join(out, " ")
	case <-time.After(patience):
		p.t.Fatal("nothing came")
	}
	return ""
}

// expect wants the next responses to be those, in any order, and nothing else before them.
func (p *proxy) expect(what string, want ...string) {
	p.t.Helper()
	var got []string
	for range want {
		got = append(got, p.next())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

// plumbing are the bytes of clusters and listeners.
func (p *proxy) plumbing() string {
	var out []string
	for key, bytes := range p.held {
		if !strings.HasPrefix(key, xds.ExtensionConfigType) {
			out = append(out, key+" "+bytes)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// world is cart and web, each with a port for HTTP and one for TCP, and callers.
func world(policies ...*model.Policy) *model.Snapshot {
	ports := []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}, {Name: "db", Number: 5432, Protocol: model.TCP}}
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop"}}},
		Services: []model.Service{
			{Namespace: "shop", Name: "all", Selector: map[string]string{"tier": "server"}, Ports: []model.ServicePort{{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: 8080}}},
		},
		Policies: policies,
	}
	for i, name := range []string{"cart", "front", "web"} {
		p := &model.Pod{
			Namespace: "shop", Name: name, Labels: map[string]string{"app": name}, Expected: true,
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}, Proxy: model.ProxySettings{Injected: true},
		}
		if name != "front" {
			p.Labels["tier"], p.Ports = "server", ports
		}
		s.Pods = append(s.Pods, p)
	}
	return s
}

// with is a world with its pods changed.
func with(s *model.Snapshot, change func(pods []*model.Pod) []*model.Pod) *model.Snapshot {
	s.Pods = change(s.Pods)
	return s
}

// allow is a policy for an app, whose rule lets callers with a label in, to read.
func allow(app string, generation int64, caller string) *model.Policy {
	return &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: app, Generation: generation}, Action: model.Allow, Accepted: true, IsolatesIngress: true,
		Selector: labels.SelectorFromSet(labels.Set{"app": app}),
		Ingress: []model.Rule{{
			Name: "reads", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": caller})}},
			HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/v%d", generation)}}}},
		}},
	}
}
