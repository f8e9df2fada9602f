// Package sidecartest runs what an injected pod runs, a real Envoy with a sidecar's bootstrap, against a plain xDS server over TLS, in tests. Input:
// resources, probes, an address. Output: a running Pod. One entry point each: NewControl and Start.
package sidecartest

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/certtest"
)

const serverName = "pilot-lite.pilot-lite-system.svc"

// Control is a plain xDS server over TLS that remembers the credentials of each stream.
type Control struct {
	t           testing.TB
	address     string
	certificate tls.Certificate
	ca          []byte
	cache       cachev3.SnapshotCache
	version     int
	server      *grpc.Server
	refused     atomic.Int64 // NACKs

	mu      sync.Mutex
	streams []metadata.MD
}

// NewControl starts a server on a loopback port.
func NewControl(t testing.TB) *Control {
	t.Helper()
	pair := certtest.SelfSigned(t, serverName)
	c := &Control{t: t, certificate: pair.TLS, ca: pair.CertPEM, cache: cachev3.NewSnapshotCache(true, anyNode{}, nil)}
	c.address = "127.0.0.1:0"
	c.serve()
	return c
}

func (c *Control) serve() {
	c.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{c.certificate}, MinVersion: tls.VersionTLS13})))
	callbacks := serverv3.CallbackFuncs{
		DeltaStreamOpenFunc: func(ctx context.Context, _ int64, _ string) error {
			md, _ := metadata.FromIncomingContext(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.streams = append(c.streams, md)
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.GetErrorDetail() != nil {
				c.refused.Add(1)
			}
			return nil
		},
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(c.server, serverv3.NewServer(context.Background(), c.cache, callbacks))
	server := c.server
	go func() { _ = server.Serve(l) }()
	c.t.Cleanup(server.Stop)
	c.address = l.Addr().String()
}

// Stop ends every stream and listens no more.
func (c *Control) Stop() { c.server.Stop() }

// Restart stops, and listens again at the same address.
func (c *Control) Restart() {
	c.t.Helper()
	c.Stop()
	c.serve()
}

// Refused counts the refusals (NACKs) so far.
func (c *Control) Refused() int64 { return c.refused.Load() }

// Authorizations are the credentials of the streams so far.
func (c *Control) Authorizations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, md := range c.streams {
		out = append(out, strings.Join(md.Get("authorization"), "|"))
	}
	return out
}

// Give replaces what the proxies are given.
func (c *Control) Give(messages ...proto.Message) {
	c.t.Helper()
	c.version++
	byType := map[resourcev3.Type][]types.Resource{resourcev3.ClusterType: nil, resourcev3.ListenerType: nil, resourcev3.ExtensionConfigType: nil}
	for _, m := range messages {
		switch m := m.(type) {
		case *clusterv3.Cluster:
			byType[resourcev3.ClusterType] = append(byType[resourcev3.ClusterType], m)
		case *listenerv3.Listener:
			byType[resourcev3.ListenerType] = append(byType[resourcev3.ListenerType], m)
		case *corev3.TypedExtensionConfig:
			byType[resourcev3.ExtensionConfigType] = append(byType[resourcev3.ExtensionConfigType], m)
		}
	}
	s, err := cachev3.NewSnapshot(strconv.Itoa(c.version), byType)
	if err == nil {
		err = c.cache.SetSnapshot(context.Background(), "", s)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// anyNode gives every node the same snapshot.
type anyNode struct{}

func (anyNode) ID(*corev3.Node) string { return "" }
