package xds_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

func cluster(name string) *clusterv3.Cluster { return &clusterv3.Cluster{Name: name} }

// Before the first complete snapshot nothing is served, and a proxy that nobody knows is never served; both are as soon as that changes.
func TestNothingBeforeTheProxyIsKnown(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	stranger := connect(t, r.path)
	stranger.subscribe("shop/stranger", xds.ClusterType, nil)
	r.cache.Set(xds.Update{}) // complete, and the node is not in it
	r.cache.Set(update(t, cluster("a")))
	if got := c.receive(); names(got) != "a" {
		t.Errorf("got %q", names(got))
	}
	both := update(t, cluster("a"))
	both.Nodes["w"] = append(both.Nodes["w"], xds.Node{ID: "shop/stranger"})
	r.cache.Set(both)
	if got := stranger.receive(); names(got) != "a" {
		t.Errorf("got %q", names(got))
	}
}

// Only what changed is sent, only to whom it concerns, and nothing when nothing changed.
func TestOnlyChangesAreSent(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	a, b := cluster("a"), cluster("b")
	r.cache.Set(update(t, a, b))
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	first := c.receive()
	if names(first) != "a b" {
		t.Fatalf("got %q", names(first))
	}
	c.ack(first)
	r.cache.Set(update(t, a, b)) // the same, built anew
	changed := proto.Clone(b).(*clusterv3.Cluster)
	changed.AltStatName = "x"
	r.cache.Set(update(t, a, changed))
	second := c.receive()
	if names(second) != "b" {
		t.Fatalf("got %q, want the one that changed", names(second))
	}
	c.ack(second)
	r.cache.Set(update(t, a))
	if third := c.receive(); names(third) != "-b" {
		t.Fatalf("got %q, want the removal", names(third))
	}
}

// A proxy that reconnects with all that there is gets nothing, from this replica or another; one that lies about it gets what it asks for anew.
func TestReconnect(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a"), slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	first := c.receive()
	c.ack(first)
	held := map[string]string{rbac.HTTPSlot: first.GetResources()[0].GetVersion()}

	other := start(t, socket(t), salter(true))
	other.cache.Set(update(t, cluster("a"), slot(t, rbac.HTTPSlot, allow)))
	again := connect(t, other.path)
	again.subscribe(node, xds.ExtensionConfigType, held, rbac.HTTPSlot)
	other.eventually(rbac.HTTPSlot, xds.StateEnforced) // it says so itself
	other.cache.Set(update(t, cluster("a"), slot(t, rbac.HTTPSlot, deny)))
	if got := again.receive(); got.GetResources()[0].GetVersion() == held[rbac.HTTPSlot] {
		t.Error("the first thing that came is what it had")
	}

	liar := connect(t, other.path)
	liar.subscribe(node, xds.ClusterType, map[string]string{"a": "I have it"})
	if got := liar.receive(); names(got) != "a" {
		t.Errorf("got %q", names(got))
	}
}

// Two replicas give the same content the same version, and other bytes.
func TestVersionsAreContent(t *testing.T) {
	t.Parallel()
	get := func() *discoveryv3.Resource {
		r := start(t, socket(t), salter(true))
		r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
		c := connect(t, r.path)
		c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
		return c.receive().GetResources()[0]
	}
	a, b := get(), get()
	if a.GetVersion() != b.GetVersion() {
		t.Errorf("versions %q and %q", a.GetVersion(), b.GetVersion())
	}
	if proto.Equal(a.GetResource(), b.GetResource()) {
		t.Error("two processes sent the same bytes")
	}
}

// A proxy that is to run what it runs already, for other policies, is told nothing, and is known to run it for those: also where they change while the content is on its
// way to it.
func TestOtherPoliciesOfTheSameContent(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	content := resource(t, slot(t, rbac.HTTPSlot, allow))
	set := func(generation int64) {
		u := update(t)
		u.Workloads["w"] = []*xds.Resource{content.WithPolicies([]model.PolicyRef{{Namespace: "shop", Name: "cart", Generation: generation}})}
		r.cache.Set(u)
	}
	running := func(want int64) {
		t.Helper()
		r.eventually(rbac.HTTPSlot, xds.StateEnforced)
		for _, p := range r.cache.Status() {
			if got := p.Resources[0].Running; len(got) != 1 || got[0].Generation != want {
				t.Errorf("runs the content of %+v, want generation %d", got, want)
			}
		}
	}
	set(1)
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	first := c.receive()
	set(2)
	c.ack(first)
	running(2)
	set(3)
	running(3)
}

// A NACK is recorded with its text, and what was refused is not sent again until it changes.
func TestRefusedContentIsNotSentAgain(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	c.nack(c.receive(), "no such thing")
	r.eventually(rbac.HTTPSlot, xds.StateRefused)
	if got := r.status(rbac.HTTPSlot); got.Text != "no such thing" {
		t.Errorf("got text %q", got.Text)
	}
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow), cluster("unrelated")))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, deny)))
	next := c.receive()
	if next.GetResources()[0].GetVersion() == r.status(rbac.HTTPSlot).Refused {
		t.Error("the refused content came again")
	}
	c.ack(next)
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
}

// An old nonce, an unknown one and a second ACK change nothing.
func TestStaleAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, allow)))
	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, rbac.HTTPSlot)
	first := c.receive()
	c.ack(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.ExtensionConfigType, Nonce: "4711"})
	c.ack(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.ClusterType, Nonce: "1"})
	c.ack(first)
	r.eventually(rbac.HTTPSlot, xds.StateEnforced)
	c.ack(first)
	c.nack(first, "too late")
	r.cache.Set(update(t, slot(t, rbac.HTTPSlot, deny)))
	if got := c.receive(); len(got.GetResources()) != 1 {
		t.Errorf("got %q", names(got))
	}
	if got := r.status(rbac.HTTPSlot); got.State != xds.StatePending {
		t.Errorf("got %+v", got)
	}
}

// A name is looked up among the node's own resources: no name leads to another's.
func TestNoNameLeadsToAnothersResources(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	u := update(t, slot(t, rbac.HTTPSlot, allow))
	u.Workloads["other"] = []*xds.Resource{resource(t, &corev3.TypedExtensionConfig{Name: "secret", TypedConfig: pack(t, cluster("x"))}), resource(t, cluster("secret"))}
	u.Nodes["other"] = append(u.Nodes["other"], xds.Node{ID: "shop/other"})
	r.cache.Set(u)
	warm := connect(t, r.path)
	warm.subscribe("shop/other", xds.ExtensionConfigType, nil, "secret")
	warm.receive()

	c := connect(t, r.path)
	c.subscribe(node, xds.ExtensionConfigType, nil, "secret", "l7policy/http@shop/other", "*", rbac.HTTPSlot)
	if got := c.receive(); names(got) != rbac.HTTPSlot {
		t.Errorf("got %q", names(got))
	}
	c.subscribe(node, xds.ClusterType, nil, "secret", "*")
	u = update(t, slot(t, rbac.HTTPSlot, allow), cluster("mine"))
	r.cache.Set(u)
	if got := c.receive(); names(got) != "mine" {
		t.Errorf("got %q", names(got))
	}
}

func TestStreamsThatAreNotTakenSeriously(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	for _, id := range []string{"", "~", "..", "a/b/c", "a", "/", "shop/", "/cart", "SHOP/cart", "shop/cart\x00", "shop/" + string(make([]byte, 1<<20)), "shop/../x", "shop/cart\n"} {
		c := connect(t, r.path)
		c.subscribe(id, xds.ClusterType, nil)
		c.fails("InvalidArgument")
	}
	changed := connect(t, r.path)
	changed.subscribe(node, xds.ClusterType, nil)
	changed.ack(changed.receive())
	changed.subscribe("shop/other", xds.ClusterType, nil)
	changed.fails("mid-stream")

	many := connect(t, r.path)
	var wanted []string
	for i := range 5000 {
		wanted = append(wanted, fmt.Sprintf("name-%d", i))
	}
	many.subscribe(node, xds.ExtensionConfigType, nil, wanted...)
	many.fails("ResourceExhausted")

	large := connect(t, r.path)
	large.subscribe(node, xds.ExtensionConfigType, nil, string(make([]byte, 5<<20)))
	large.fails("ResourceExhausted")

	curious := connect(t, r.path)
	for i := range 20 {
		curious.subscribe(node, fmt.Sprintf("type.googleapis.com/no.such.Type%d", i), nil, "a")
	}
	curious.fails("ResourceExhausted")

	unknown := connect(t, r.path)
	unknown.subscribe(node, "type.googleapis.com/no.such.Type", nil, "a")
	unknown.subscribe(node, xds.ClusterType, nil)
	if got := unknown.receive(); names(got) != "a" { // it is answered for the types that there are
		t.Errorf("got %q", names(got))
	}
}

// A reader that stalls costs nobody else anything, and is dropped; what is pending for it is the latest state, not the history.
func TestASlowReaderCostsNobodyElseAnything(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	state := func(i int) xds.Update {
		c := cluster("a")
		c.AltStatName = fmt.Sprintf("%d-%s", i, string(make([]byte, 1<<16)))
		return update(t, c)
	}
	r.cache.Set(state(0))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	slow, err := dial(t, r.path).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: node}, TypeUrl: xds.ClusterType}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, r.path)
	c.subscribe(node, xds.ClusterType, nil)
	c.ack(c.receive())
	for i := 1; i <= 50; i++ {
		r.cache.Set(state(i))
		c.ack(c.receive())
	}
	// The slow one reads at last: the first response, and after its ACK the latest.
	first, err := slow.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResponseNonce: first.GetNonce()}); err != nil {
		t.Fatal(err)
	}
	second, err := slow.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := resource(t, proto.Clone(clusterOf(t, state(50))).(*clusterv3.Cluster)).Version
	if got := second.GetResources()[0].GetVersion(); got != want {
		t.Errorf("got version %s, want the latest, %s", got, want)
	}
}

func clusterOf(t *testing.T, u xds.Update) proto.Message {
	t.Helper()
	c := cluster("a")
	c.AltStatName = fmt.Sprintf("50-%s", string(make([]byte, 1<<16)))
	if resource(t, c).Version != u.Workloads["w"][0].Version {
		t.Fatal("the test's own cluster is another")
	}
	return c
}

// With TLS every stream proves its node with a token, and gets that node's configuration only.
func TestTokens(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef0123456789abcdef")
	authenticator, err := xds.NewTokenAuthenticator(key)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(nil) // for its certificate
	web.StartTLS()
	defer web.Close()
	cache := xds.NewCache(xds.Config{Salter: salter(true)})
	cache.Set(update(t, cluster("a")))
	if _, err := xds.NewServer(cache, xds.ServerConfig{TLS: web.TLS}); err == nil {
		t.Error("TLS without an authenticator was taken")
	}
	server, err := xds.NewServer(cache, xds.ServerConfig{TLS: &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}, Authenticator: authenticator})
	if err != nil {
		t.Fatal(err)
	}
	l, err := xds.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
	})
	token, err := xds.Token(key, node)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := xds.Token([]byte("another key of the same length..."), node)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	secured := credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12})
	with := func(token string) *client {
		return connect(t, l.Addr().String(), grpc.WithTransportCredentials(secured), grpc.WithStreamInterceptor(
			func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
				if token != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
				}
				return streamer(ctx, d, cc, method, o...)
			}))
	}
	good := with(token)
	good.subscribe(node, xds.ClusterType, nil)
	if got := good.receive(); names(got) != "a" {
		t.Errorf("got %q", names(got))
	}
	stolen := with(token)
	stolen.subscribe("shop/other", xds.ClusterType, nil)
	stolen.fails("PermissionDenied")
	for _, bad := range []string{"", foreign, token + "x", "v1.", "v2" + token[2:]} {
		c := with(bad)
		c.subscribe(node, xds.ClusterType, nil)
		c.fails("Unauthenticated")
	}
}

// In clear text nothing is served to the network.
func TestClearTextStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	server, err := xds.NewServer(xds.NewCache(xds.Config{}), xds.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := xds.Listen(t.Context(), "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := server.Serve(l); err == nil {
		t.Error("served in clear text on every address")
	}
	server.Stop(t.Context())
}

// An Envoy that would read matchers otherwise gets nothing, and so stays shut.
func TestOldProxiesAreNotServed(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	r.cache.Set(update(t, cluster("a")))
	build := func(minor, patch uint32) *corev3.Node {
		return &corev3.Node{Id: node, UserAgentName: "envoy", UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{
			UserAgentBuildVersion: &corev3.BuildVersion{Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: minor, Patch: patch}},
		}}
	}
	for _, old := range []*corev3.Node{build(11, 0), build(35, 99), build(36, 9), build(39, 0)} {
		c := connect(t, r.path)
		c.send(&discoveryv3.DeltaDiscoveryRequest{Node: old, TypeUrl: xds.ClusterType})
		c.fails("not served")
		if got := r.cache.Status()[0].Problem; !strings.Contains(got, "not served") {
			t.Errorf("the status says %q", got)
		}
	}
	for _, good := range []*corev3.Node{build(36, 10), build(39, 1), build(40, 0), build(55, 0)} {
		c := connect(t, r.path)
		c.send(&discoveryv3.DeltaDiscoveryRequest{Node: good, TypeUrl: xds.ClusterType})
		if got := c.receive(); names(got) != "a" {
			t.Errorf("got %q", names(got))
		}
		if got := r.cache.Status()[0].Problem; got != "" {
			t.Errorf("the status says %q of a proxy that was taken", got)
		}
	}
}
