package report_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/report"
	"github.com/pilot-lite/pilot-lite/pkg/status"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plane is a control plane: replicas with one authority.
type plane struct {
	t        *testing.T
	identity *identity.Manager
	key      []byte
	replicas []*replica
}

type replica struct {
	cache   *xds.Cache
	address string
	stop    func()
}

func newPlane(t *testing.T, replicas int) *plane {
	t.Helper()
	p := &plane{t: t, key: make([]byte, xds.MinKey), identity: identity.New(identity.Config{
		Secrets: fake.NewClientset().CoreV1().Secrets("system"), Namespace: "system", Names: []string{"pilot-lite"},
		ID: &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/system/sa/pilot-lite"},
	})}
	if err := p.identity.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range replicas {
		p.replicas = append(p.replicas, p.start("127.0.0.1:0"))
	}
	return p
}

func (p *plane) start(address string) *replica {
	p.t.Helper()
	authenticator, err := xds.NewTokenAuthenticator(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	r := &replica{cache: xds.NewCache(xds.Config{})}
	server, err := xds.NewServer(r.cache, xds.ServerConfig{TLS: p.identity.PeerTLS(), Authenticator: authenticator, IsPeer: identity.IsPeer})
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := xds.Listen(p.t.Context(), address)
	if err != nil {
		p.t.Fatal(err)
	}
	r.address = l.Addr().String()
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	r.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Stop(ctx)
		if ctx.Err() != nil {
			p.t.Error("a stop waits for those who follow reports")
		}
		<-done
	})
	p.t.Cleanup(r.stop)
	return r
}

// set has every replica know some pods, whose proxies run one resource under a generation of a policy.
func (p *plane) set(generation int64, pods ...string) {
	p.t.Helper()
	for _, r := range p.replicas {
		r.set(p.t, generation, pods...)
	}
}

func (r *replica) set(t *testing.T, generation int64, pods ...string) {
	t.Helper()
	resource, err := xds.NewResource(&clusterv3.Cluster{Name: "a", AltStatName: fmt.Sprint(generation)}, []model.PolicyRef{{Namespace: "shop", Name: "cart", UID: "1", Generation: generation}})
	if err != nil {
		t.Fatal(err)
	}
	u := xds.Update{Workloads: map[string][]*xds.Resource{"w": {resource}}, Nodes: map[string][]xds.Node{}}
	for _, pod := range pods {
		u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: pod, UID: "uid of " + pod})
	}
	r.cache.Set(u)
}

// proxy connects one to a replica, which acknowledges whatever it is sent, and returns what disconnects it.
func (p *plane) proxy(node string, r *replica) (disconnect func()) {
	p.t.Helper()
	token, err := xds.Token(p.key, node)
	if err != nil {
		p.t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+r.address, grpc.WithTransportCredentials(credentials.NewTLS(p.sidecarTLS())))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.ClusterType}); err != nil {
		p.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			got, err := stream.Recv()
			if err != nil {
				return
			}
			if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: got.GetTypeUrl(), ResponseNonce: got.GetNonce()}); err != nil {
				return
			}
		}
	}()
	disconnect = sync.OnceFunc(func() { cancel(); _ = conn.Close(); <-done })
	p.t.Cleanup(disconnect)
	return disconnect
}

// sidecarTLS shows no certificate.
func (p *plane) sidecarTLS() *tls.Config {
	c := p.identity.ClientTLS()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	return c
}

// sum is what a replica's collector knows.
type sum struct {
	t         *testing.T
	collector *report.Collector
	known     map[string]status.Proxy
}

func (p *plane) collect(own *replica, others func() []string) *sum {
	p.t.Helper()
	s := &sum{t: p.t, known: map[string]status.Proxy{}, collector: report.New(report.Config{Own: own.cache, Replicas: others, TLS: p.identity.ClientTLS()})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.collector.Run(ctx) }()
	p.t.Cleanup(func() { cancel(); <-done })
	return s
}

// until waits until something holds of what is known, and returns how many proxies were told of meanwhile.
func (s *sum) until(what string, holds func() bool) (told int) {
	s.t.Helper()
	timeout := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-s.collector.Changed():
		case <-time.After(10 * time.Millisecond): // Complete changes with time alone
		case <-timeout:
			s.t.Fatalf("not within 20 s: %s: %+v", what, s.known)
		}
		for _, p := range s.collector.Take() {
			told++
			s.known[p.Node] = *p
			if p.Gone {
				delete(s.known, p.Node)
			}
		}
	}
	return told
}

// runs says that a proxy runs a generation now.
func (s *sum) runs(node string, generation int64) func() bool {
	return func() bool {
		p := s.known[node]
		return p.Connected && len(p.Policies) == 1 && p.Policies[0].Current && p.Policies[0].Running == generation
	}
}

// A leader knows what every proxy runs, whichever replica it is connected to, and is told of what changed alone.
func TestReplicasAreSummed(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.set(1, "shop/a", "shop/b", "shop/c")
	leader, other := p.replicas[0], p.replicas[1]
	p.proxy("shop/a", leader)
	leave := p.proxy("shop/b", other)
	s := p.collect(leader, func() []string { return []string{other.address} })
	s.until("both run generation 1", func() bool { return s.runs("shop/a", 1)() && s.runs("shop/b", 1)() && s.collector.Complete(time.Now()) })
	if c := s.known["shop/c"]; c.Connected || c.UID == "" {
		t.Errorf("a pod without a proxy: %+v", c)
	}

	p.set(2, "shop/a", "shop/b", "shop/c")
	s.until("both run generation 2", func() bool { return s.runs("shop/a", 2)() && s.runs("shop/b", 2)() })

	leave()
	s.until("b is lost", func() bool { return !s.known["shop/b"].Connected })
	if b := s.known["shop/b"]; b.Since.IsZero() || b.Policies[0].Running != 2 || b.Policies[0].Current {
		t.Errorf("one that went away tells since when, and what it ran: %+v", b)
	}
	p.proxy("shop/b", leader)
	if told := s.until("b is back at another replica", s.runs("shop/b", 2)); told > 10 {
		t.Errorf("%d proxies were told of, where one changed", told)
	}
	p.set(2, "shop/a", "shop/b")
	s.until("a pod that is gone is forgotten", func() bool { _, known := s.known["shop/c"]; return !known })
}

// The proxies of a replica that cannot be read are lost, and found again at any other, or at the same once it is back.
func TestAReplicaGoesAndComes(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.set(1, "shop/a")
	leader, other := p.replicas[0], p.replicas[1]
	p.proxy("shop/a", other)
	s := p.collect(leader, func() []string { return []string{other.address} })
	s.until("it runs generation 1", s.runs("shop/a", 1))
	other.stop()
	s.until("its proxy is lost", func() bool { return !s.known["shop/a"].Connected })
	back := p.start(other.address)
	back.set(t, 1, "shop/a")
	p.proxy("shop/a", back)
	s.until("it is found again", s.runs("shop/a", 1))
}

// A replica that was never read keeps the sum incomplete for a while, and no longer.
func TestAReplicaThatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	p.set(1)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // it accepts, and says nothing
	s := p.collect(p.replicas[0], func() []string { return []string{l.Addr().String()} })
	s.until("own proxies are known", func() bool { return true })
	if s.collector.Complete(time.Now()) {
		t.Error("nothing was read yet, and the sum counts as complete")
	}
	if !s.collector.Complete(time.Now().Add(time.Minute)) {
		t.Error("one replica that never answers keeps everybody from knowing anything")
	}
}

// Whoever is not the control plane follows nothing: not with a pod's token, and not without a certificate.
func TestReportsAreForReplicas(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 1)
	p.set(1, "shop/a")
	token, err := xds.Token(p.key, "shop/a")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///"+p.replicas[0].address, grpc.WithTransportCredentials(credentials.NewTLS(p.sidecarTLS())))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	err = xds.FollowReports(ctx, conn, func(changed []xds.ProxyStatus, _ bool) { t.Errorf("told of %v", changed) })
	if grpcstatus.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "other replicas") {
		t.Errorf("got %v", err)
	}
}

// Whoever asks once is shown every replica's proxies, and told of a replica that cannot be read.
func TestEveryReplicaIsReadOnce(t *testing.T) {
	t.Parallel()
	p := newPlane(t, 2)
	p.set(1, "shop/a", "shop/b")
	nobody := porttest.Address(t)
	c := report.Config{Own: p.replicas[0].cache, TLS: p.identity.ClientTLS(), Replicas: func() []string { return []string{p.replicas[1].address, nobody} }}
	p.proxy("shop/b", p.replicas[1])
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		all := report.Sum(t.Context(), c)
		if len(all) != 3 || all[0].Node != "replica "+nobody || all[0].Problem == "" || all[1].Node != "shop/a" || all[1].Connected || all[2].Node != "shop/b" {
			t.Fatalf("got %+v", all)
		}
		if all[2].Connected && all[2].Resources[0].State == xds.StateEnforced {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %+v", all)
		}
	}
}
