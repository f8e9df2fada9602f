package xds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// claims know streams by the word in their header "who".
type claims map[string]xds.Claim

func (c claims) Authenticate(ctx context.Context) (xds.Claim, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, who := range md.Get("who") {
		if claim, known := c[who]; known {
			return claim, nil
		}
	}
	return xds.Claim{}, status.Error(codes.Unauthenticated, "nobody")
}

// connectAs opens a stream with a word in its header.
func connectAs(t testing.TB, path, who string) *client {
	t.Helper()
	return connect(t, path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStreamInterceptor(
		func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(metadata.AppendToOutgoingContext(ctx, "who", who), d, cc, method, o...)
		}))
}

// A stream ends when what it proved does not hold any more, with the reason; the others stay.
func TestAStreamEndsWithItsClaim(t *testing.T) {
	t.Parallel()
	var gone atomic.Bool
	standing := func() error {
		if gone.Load() {
			return status.Error(codes.Unauthenticated, "the pod is gone")
		}
		return nil
	}
	r := startWith(t, socket(t), xds.Config{Salter: salter(true)}, xds.ServerConfig{ClaimInterval: 5 * time.Millisecond, Authenticator: claims{
		"cart": {Node: node, Standing: standing}, "other": {Node: "shop/other", Expires: time.Now().Add(time.Hour)}, "late": {Node: "shop/late", Expires: time.Now().Add(-2 * time.Minute)},
	}})
	u := update(t, cluster("a"))
	for _, id := range []string{"shop/other", "shop/late"} {
		u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: id})
	}
	r.cache.Set(u)
	cart, other := connectAs(t, r.path, "cart"), connectAs(t, r.path, "other")
	cart.subscribe(node, xds.ClusterType, nil)
	cart.ack(cart.receive())
	other.subscribe("shop/other", xds.ClusterType, nil)
	other.ack(other.receive())
	late := connectAs(t, r.path, "late")
	late.fails("has expired")
	gone.Store(true)
	cart.fails("the pod is gone")
	u = update(t, cluster("a"), cluster("b"))
	u.Nodes["w"] = append(u.Nodes["w"], xds.Node{ID: "shop/other"})
	r.cache.Set(u)
	if got := other.receive(); names(got) != "b" {
		t.Errorf("the other proxy got %q", names(got))
	}
}

// A token holds for its grace beyond its end, and not longer.
func TestExpiry(t *testing.T) {
	t.Parallel()
	end := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	claim := xds.Claim{Expires: end}
	for after, want := range map[time.Duration]codes.Code{
		-time.Hour: codes.OK, 0: codes.OK, 59 * time.Second: codes.OK, time.Minute + time.Second: codes.Unauthenticated, 1000 * time.Hour: codes.Unauthenticated,
	} {
		if got := status.Code(claim.Check(end.Add(after))); got != want {
			t.Errorf("%s after its end: %s, want %s", after, got, want)
		}
	}
}

// A pod is made anew under the same name, as another workload: the earlier pod's stream is shut by the very update that knows of the new one, is never sent
// anything of it, and says nothing of it in the status. The new one's is served.
func TestAnEarlierPodsStreamIsShut(t *testing.T) {
	t.Parallel()
	r := startWith(t, socket(t), xds.Config{Salter: salter(true), Shut: shutSlots(t), HoldTime: time.Millisecond}, xds.ServerConfig{Authenticator: claims{
		"old": {Node: node, UID: "1"}, "new": {Node: node, UID: "2"},
	}})
	first := update(t, slot(t, rbac.HTTPSlot, allow))
	r.cache.Set(first)
	old := connectAs(t, r.path, "old")
	old.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	old.ack(old.receive())
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)

	early := connectAs(t, r.path, "new") // the token was checked against what is newer than the snapshot
	early.subscribe(node, xds.ClusterType, nil)
	r.until("both are connected", func() bool { return r.cache.Status()[0].Connected })

	second := update(t, cluster("secret"), slot(t, rbac.HTTPSlot, allow))
	second.Nodes = map[string][]xds.Node{"w": {{ID: node, UID: "2"}}}
	r.cache.Set(second)
	secret := early.receive()
	if names(secret) != "secret" {
		t.Errorf("the new pod got %q", names(secret))
	}
	old.subscribe(node, xds.ClusterType, nil)
	shut := old.receive()
	want := resource(t, slot(t, rbac.HTTPSlot, deny)).Version
	if len(shut.GetResources()) != 1 || shut.GetResources()[0].GetVersion() != want {
		t.Errorf("the earlier pod got %v, want the slot that denies", shut)
	}
	old.ack(shut)
	if got := r.status(rbac.HTTPSlot); got.State != xds.StatePending || got.Enforced != "" {
		t.Errorf("the earlier pod's slot counts as the new one's: %+v", got)
	}
	late := connectAs(t, r.path, "old")
	late.subscribe(node, xds.ClusterType, nil)
	late.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	third := update(t, cluster("secret"), cluster("another secret"), slot(t, rbac.HTTPSlot, allow))
	third.Nodes = second.Nodes
	r.cache.Set(third)
	early.ack(secret)
	if got := early.receive(); names(got) != "another secret" {
		t.Errorf("the new pod got %q", names(got))
	}
	for _, c := range []*client{old, late} {
		select {
		case got := <-c.in:
			t.Errorf("an earlier pod got %q", names(got))
		default:
		}
	}
}

// Who is refused leaves nothing behind but a line a second in the log, which names the peer and nothing that it sent.
func TestStrangersLeaveNoTrace(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	logger := newLogger(&log)
	server, err := xds.NewServer(xds.NewCache(xds.Config{Salter: salter(true), Metrics: xds.NewMetrics(registry)}), xds.ServerConfig{Authenticator: claims{}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	l, err := xds.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	const strangers = 200
	for range strangers {
		c := connectAs(t, l.Addr().String(), "a-secret-word")
		c.subscribe("shop/a-secret-name", xds.ClusterType, nil)
		c.fails("Unauthenticated")
	}
	server.Stop(t.Context())
	<-done
	lines := strings.Count(log.String(), "a stream was ended")
	if lines == 0 || lines > 20 || strings.Contains(log.String(), "secret") {
		t.Errorf("%d lines for %d strangers:\n%s", lines, strangers, log.String())
	}
	if host, _, err := net.SplitHostPort(l.Addr().String()); err != nil || !strings.Contains(log.String(), "peer="+host) {
		t.Errorf("the peer's address is not logged:\n%s", log.String())
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pilot_lite_streams_ended_total" {
				if m.GetLabel()[0].GetValue() != "Unauthenticated" || m.GetCounter().GetValue() != strangers {
					t.Errorf("want %d strangers: %v", strangers, m)
				}
				continue
			}
			if m.GetGauge().GetValue() != 0 || m.GetCounter().GetValue() != 0 {
				t.Errorf("%s: %v", f.GetName(), m)
			}
		}
	}
}

// A connection that does not get as far as a stream is told of as well, with the peer's address.
func TestRefusedConnectionsAreTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	web := httptest.NewUnstartedServer(nil) // for its certificate
	web.StartTLS()
	defer web.Close()
	server, err := xds.NewServer(xds.NewCache(xds.Config{}), xds.ServerConfig{
		TLS: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS13}, Authenticator: claims{}, Logger: newLogger(&log),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := xds.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn) // until the server hangs up
	server.Stop(t.Context())
	<-done
	if want := "peer=" + conn.LocalAddr().String(); !strings.Contains(log.String(), "a connection was refused") || !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log.String())
	}
}
