package podauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/podauth"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const serverName = "pilot-lite.pilot-lite-system.svc"

// pods is podauth as the xDS server sees it.
type pods struct{ *podauth.Authenticator }

func (p pods) Authenticate(ctx context.Context) (xds.Claim, error) {
	proof, err := p.Authenticator.Authenticate(ctx)
	return xds.Claim{Node: proof.Node, UID: proof.UID, Expires: proof.Expires, Standing: func() error { return p.Standing(proof) }}, err
}

// controlPlane is an xDS server with a certificate of its own authority, that knows pods by their tokens.
type controlPlane struct {
	t        testing.TB
	identity *identity.Manager
	cache    *xds.Cache
	config   podauth.Config
	address  string
	log      bytes.Buffer // to be read after stop
	stop     func()
}

func serve(t testing.TB, cache *xds.Cache, config podauth.Config) *controlPlane {
	t.Helper()
	return serveAs(t, cache, config, identity.Config{})
}

// serveAs is serve with settings of the test's own for the authority.
func serveAs(t testing.TB, cache *xds.Cache, config podauth.Config, authority identity.Config) *controlPlane {
	t.Helper()
	p := &controlPlane{t: t, cache: cache, config: config, address: "127.0.0.1:0"}
	authority.Secrets, authority.Namespace, authority.Names = fake.NewClientset().CoreV1().Secrets("pilot-lite-system"), "pilot-lite-system", []string{serverName}
	authority.ID = &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/pilot-lite-system/sa/pilot-lite"}
	p.identity = identity.New(authority)
	if err := p.identity.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.listen()
	return p
}

// listen serves at the address until stop.
func (p *controlPlane) listen() {
	p.t.Helper()
	logger := slog.New(slog.NewTextHandler(&p.log, nil))
	p.config.Logger = logger
	server, err := xds.NewServer(p.cache, xds.ServerConfig{TLS: p.identity.PeerTLS(), Authenticator: pods{podauth.New(p.config)}, Logger: logger, ClaimInterval: 5 * time.Millisecond})
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := xds.Listen(p.t.Context(), p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.address = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
		<-done
	}
	p.t.Cleanup(p.stop)
}

// tls is what a sidecar's bootstrap says.
func (p *controlPlane) tls() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.identity.Bundle())
	return &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS12}
}

// handshake connects and hangs up.
func (p *controlPlane) handshake() (tls.ConnectionState, error) {
	c := p.tls()
	c.NextProtos = []string{"h2"}
	conn, err := (&tls.Dialer{Config: c}).DialContext(p.t.Context(), "tcp", p.address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	secured, _ := conn.(*tls.Conn)
	return secured.ConnectionState(), nil
}

// open opens a stream as a sidecar does, and asks for its clusters in a node's name.
func (p *controlPlane) open(c credentials.TransportCredentials, header, node string) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	p.t.Helper()
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(c))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	p.t.Cleanup(cancel)
	if header != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return failed{err: err}
	}
	// What the server has ended cannot be sent to; Recv says why.
	_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.ClusterType})
	return stream
}

// failed is a stream that did not open.
type failed struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	err error
}

func (f failed) Recv() (*discoveryv3.DeltaDiscoveryResponse, error) { return nil, f.err }

// cacheOf serves each node one cluster that bears its name.
func cacheOf(t testing.TB, uids map[string]string) *xds.Cache {
	t.Helper()
	cache := xds.NewCache(xds.Config{})
	cache.Set(updateOf(t, uids))
	return cache
}

func updateOf(t testing.TB, uids map[string]string) xds.Update {
	t.Helper()
	u := xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: map[string][]xds.Node{}}
	for node, uid := range uids {
		r, err := xds.NewResource(&clusterv3.Cluster{Name: node}, nil)
		if err != nil {
			t.Fatal(err)
		}
		u.Workloads[node] = []*xds.Resource{r}
		u.Nodes[node] = []xds.Node{{ID: node, UID: uid}}
	}
	return u
}

// A sidecar is served what is its own over TLS with its pod's token, and whatever else comes is refused before anything is sent.
func TestOnlyAPodsOwnConfigurationIsServed(t *testing.T) {
	t.Parallel()
	key, stranger := newEC(t, "1"), newEC(t, "1")
	api := newAPIServer(key)
	api.pods["shop/cart-2"] = podauth.Pod{UID: "pod-uid-2", ServiceAccount: "cart"}
	api.pods["bank/vault"] = podauth.Pod{UID: "vault-uid", ServiceAccount: "vault"}
	p := serve(t, cacheOf(t, map[string]string{"shop/cart-1": "pod-uid", "shop/cart-2": "pod-uid-2", "bank/vault": "vault-uid"}), api.config())
	now := time.Now()
	good := "Bearer " + key.token(t, bound(now))
	secure := credentials.NewTLS(p.tls())
	got, err := p.open(secure, good, "shop/cart-1").Recv()
	if err != nil || len(got.GetResources()) != 1 || got.GetResources()[0].GetName() != "shop/cart-1" {
		t.Fatalf("its own: %v, %v", got, err)
	}
	old := p.tls()
	old.MaxVersion = tls.VersionTLS12
	untrusting := p.tls()
	untrusting.RootCAs = x509.NewCertPool()
	for name, c := range map[string]struct {
		want         codes.Code
		credentials  credentials.TransportCredentials
		header, node string
	}{
		"another pod of its account":         {codes.PermissionDenied, secure, good, "shop/cart-2"},
		"a pod of another namespace":         {codes.PermissionDenied, secure, good, "bank/vault"},
		"a pod that nobody knows":            {codes.PermissionDenied, secure, good, "shop/cart-3"},
		"no node":                            {codes.InvalidArgument, secure, good, ""},
		"a node with a path in it":           {codes.InvalidArgument, secure, good, "../shop/cart-1"},
		"a node with parts missing":          {codes.InvalidArgument, secure, good, "/cart-1"},
		"no token":                           {codes.Unauthenticated, secure, "", "shop/cart-1"},
		"somebody else's signature":          {codes.Unauthenticated, secure, "Bearer " + stranger.token(t, bound(now)), "shop/cart-1"},
		"a token for the API server":         {codes.Unauthenticated, secure, "Bearer " + key.token(t, bound(now, set("aud", issuer))), "shop/cart-1"},
		"a token that has ended":             {codes.Unauthenticated, secure, "Bearer " + key.token(t, bound(now.Add(-2*time.Hour))), "shop/cart-1"},
		"clear text":                         {codes.Unavailable, insecure.NewCredentials(), good, "shop/cart-1"},
		"TLS 1.2":                            {codes.Unavailable, credentials.NewTLS(old), good, "shop/cart-1"},
		"a client that trusts somebody else": {codes.Unavailable, credentials.NewTLS(untrusting), good, "shop/cart-1"},
	} {
		got, err := p.open(c.credentials, c.header, c.node).Recv()
		wants(t, name, c.want, err)
		if got != nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	p.stop()
	for _, secret := range []string{good[7:60], good[len(good)-40:]} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("a token is in the log:\n%s", p.log.String())
		}
	}
}

// An open stream ends when its pod, or its account, is gone or made anew.
func TestStreamsEndWithTheirPods(t *testing.T) {
	t.Parallel()
	key := newEC(t, "1")
	for name, c := range map[string]struct {
		want   codes.Code
		change func(*apiServer)
	}{
		"the pod is gone":       {codes.Unavailable, func(s *apiServer) { delete(s.pods, "shop/cart-1") }},
		"the pod was made anew": {codes.Unauthenticated, func(s *apiServer) { s.pods["shop/cart-1"] = podauth.Pod{UID: "new", ServiceAccount: "cart"} }},
		"the pod has ended": {codes.Unauthenticated, func(s *apiServer) {
			s.pods["shop/cart-1"] = podauth.Pod{UID: "pod-uid", ServiceAccount: "cart", Ended: true}
		}},
		"the account is gone":       {codes.Unavailable, func(s *apiServer) { delete(s.accounts, "shop/cart") }},
		"the account was made anew": {codes.Unauthenticated, func(s *apiServer) { s.accounts["shop/cart"] = "new" }},
	} {
		api := newAPIServer(key)
		p := serve(t, cacheOf(t, map[string]string{"shop/cart-1": "pod-uid"}), api.config())
		token := "Bearer " + key.token(t, bound(time.Now()))
		stream := p.open(credentials.NewTLS(p.tls()), token, "shop/cart-1")
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		api.change(c.change)
		_, err := stream.Recv()
		wants(t, name, c.want, err)
		_, err = p.open(credentials.NewTLS(p.tls()), token, "shop/cart-1").Recv()
		wants(t, name+", as it comes back", c.want, err)
	}
}
