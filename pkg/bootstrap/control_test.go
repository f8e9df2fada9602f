package bootstrap_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

const serverName = "pilot-lite.pilot-lite-system.svc"

// control is a plain xDS server over TLS that remembers the credentials of each stream.
type control struct {
	t       *testing.T
	address string
	ca      []byte
	cache   cachev3.SnapshotCache
	version int
	server  *grpc.Server
	refused atomic.Int64 // NACKs

	mu      sync.Mutex
	streams []metadata.MD
}

func newControl(t *testing.T) *control {
	t.Helper()
	certificate, ca := selfSigned(t)
	c := &control{t: t, ca: ca, cache: cachev3.NewSnapshotCache(true, anyNode{}, nil)}
	c.address = c.serve("127.0.0.1:0", certificate)
	return c
}

func (c *control) serve(address string, certificate tls.Certificate) string {
	c.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(c.t.Context(), "tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})))
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
	return l.Addr().String()
}

// authorizations are the credentials of the streams so far.
func (c *control) authorizations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, md := range c.streams {
		out = append(out, fmt.Sprint(md.Get("authorization")))
	}
	return out
}

// give replaces what the proxies are given.
func (c *control) give(messages ...any) {
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
		err = c.cache.SetSnapshot(c.t.Context(), "", s)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// anyNode gives every node the same snapshot.
type anyNode struct{}

func (anyNode) ID(*corev3.Node) string { return "" }

// selfSigned is a server's certificate that is its own CA.
func selfSigned(t *testing.T) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serverName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// shut is what a workload with HTTP on port 8080 is given when a policy lets nobody in: clusters and listeners, and then slots.
func shut(t *testing.T, ip string) (listeners, slots []any) {
	t.Helper()
	app := labels.SelectorFromSet(labels.Set{"app": "cart"})
	ix := model.NewIndex(&model.Snapshot{
		Pods: []model.Pod{{
			Namespace: "shop", Name: "cart-1", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{netip.MustParseAddr(ip)},
			Ports: []model.ContainerPort{{Number: 8080, Protocol: model.TCP}},
		}},
		Services: []model.Service{{
			Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"},
			Ports: []model.ServicePort{{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: 8080}},
		}},
		Policies: []model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: "nobody", UID: "1", Generation: 1},
			Action:    model.Allow, IsolatesIngress: true, Selector: app, Accepted: true,
		}},
	})
	for _, r := range translate.Translate(ix).Workloads[0].Resources {
		switch m := r.Message.(type) {
		case *corev3.TypedExtensionConfig:
			slots = append(slots, m)
		case *listenerv3.Listener:
			// Pods of one machine without network namespaces differ by address alone.
			l := proto.CloneOf(m)
			l.GetAddress().GetSocketAddress().Address = ip
			listeners = append(listeners, l)
		default:
			listeners = append(listeners, m)
		}
	}
	return listeners, slots
}

// pod is a running sidecar at a loopback address of its own.
type pod struct {
	*envoytest.Envoy
	t       *testing.T
	ip      string
	token   string
	started time.Time
}

// nextAddress gives each pod of a test run an address of its own, so that tests run side by side although the sidecar's ports are fixed.
var nextAddress atomic.Uint32

func newAddress() string {
	n := nextAddress.Add(1)
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8&0x7f, 1+pid&0x7f, n)
}

func startPod(t *testing.T, c *control, ip string, probes ...bootstrap.Probe) *pod {
	t.Helper()
	p := &pod{t: t, ip: ip, token: filepath.Join(t.TempDir(), "token")}
	admin := envoytest.AdminSocket(t)
	p.writeToken("first")
	b, err := bootstrap.BuildSidecar(bootstrap.Sidecar{
		Server: c.address, ServerName: serverName, CABundle: c.ca, TokenPath: p.token, AdminPath: admin, Probes: probes,
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := bootstrap.Args(b)
	if err != nil {
		t.Fatal(err)
	}
	p.started = time.Now()
	p.Envoy = envoytest.StartArgs(t, expanded(a, ip), admin)
	return p
}

// writeToken replaces the token as the kubelet does: a symbolic link to the folder with the files is swapped.
func (p *pod) writeToken(token string) {
	p.t.Helper()
	dir := filepath.Dir(p.token)
	fresh, err := os.MkdirTemp(dir, "..2026_") //nolint:usetesting // the kubelet makes it beside the file
	if err != nil {
		p.t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(fresh, "token"), []byte(token), 0o600))
	must(os.Symlink(filepath.Base(fresh), filepath.Join(dir, "..data_tmp")))
	must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if _, err := os.Lstat(p.token); err != nil {
		must(os.Symlink(filepath.Join("..data", "token"), p.token))
	}
}

// ask is what the kubelet gets.
func (p *pod) ask(path string) int {
	p.t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, fmt.Sprintf("http://%s:%d%s", p.ip, bootstrap.HealthPort, path), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// becomes waits until the kubelet gets an answer.
func (p *pod) becomes(path string, want int) {
	p.t.Helper()
	p.Eventually(fmt.Sprintf("%s becomes %d", path, want), func() error {
		if got := p.ask(path); got != want {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
}
