package translate_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// proxy is a real Envoy with a plain xDS server behind it, which serves whatever resources a test gives it.
type proxy struct {
	*envoytest.Envoy
	t       *testing.T
	cache   cachev3.SnapshotCache
	version int
}

// startProxy runs an Envoy that is given the resources of one workload, and waits until it is ready.
func startProxy(t *testing.T, resources []translate.Resource) *proxy {
	t.Helper()
	p := launchProxy(t, resources)
	p.Eventually("the proxy is ready", func() error { _, err := p.Admin(http.MethodGet, "/ready"); return err })
	return p
}

// launchProxy does not wait for more than the listeners.
func launchProxy(t *testing.T, resources []translate.Resource) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &proxy{t: t, cache: cachev3.NewSnapshotCache(true, anyNode{}, nil)}
	p.set(resources)

	socket := filepath.Join(dir, "xds")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(context.Background(), p.cache, nil))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)

	admin := envoytest.AdminSocket(t)
	config, err := bootstrap.Build(bootstrap.Config{Namespace: "shop", Pod: "cart-1", Server: "unix:" + socket, Admin: "unix:" + admin})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p.Envoy = envoytest.Start(t, string(text), admin)
	listeners := len(p.of(resources, resourcev3.ListenerType))
	p.Eventually("the listeners have come", func() error {
		return p.want("listener_manager.listener_added", int64(listeners))
	})
	return p
}

func (p *proxy) want(stat string, want int64) error {
	if got := p.Stat(stat); got != want {
		return errorf("%s is %d, want %d", stat, got, want)
	}
	return nil
}

// set replaces what the proxy is given.
func (p *proxy) set(resources []translate.Resource) {
	p.t.Helper()
	p.version++
	byType := map[resourcev3.Type][]types.Resource{}
	for _, typ := range []string{resourcev3.ClusterType, resourcev3.ListenerType, resourcev3.ExtensionConfigType} {
		byType[typ] = p.of(resources, typ)
	}
	s, err := cachev3.NewSnapshot(strconv.Itoa(p.version), byType)
	if err == nil {
		err = p.cache.SetSnapshot(p.t.Context(), "", s)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) of(resources []translate.Resource, typ string) []types.Resource {
	var out []types.Resource
	for _, r := range resources {
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			if typ == resourcev3.ClusterType {
				out = append(out, m)
			}
		case *listenerv3.Listener:
			if typ == resourcev3.ListenerType {
				out = append(out, m)
			}
		case *corev3.TypedExtensionConfig:
			if typ == resourcev3.ExtensionConfigType {
				out = append(out, m)
			}
		default:
			p.t.Fatalf("a resource of type %T", r.Message)
		}
	}
	return out
}

// withoutSlots leaves out the slots, as for a proxy to which they have not come yet.
func withoutSlots(resources []translate.Resource) []translate.Resource {
	return slices.DeleteFunc(slices.Clone(resources), func(r translate.Resource) bool {
		_, isSlot := r.Message.(*corev3.TypedExtensionConfig)
		return isSlot
	})
}

// anyNode gives every node the same snapshot.
type anyNode struct{}

func (anyNode) ID(*corev3.Node) string { return "" }
