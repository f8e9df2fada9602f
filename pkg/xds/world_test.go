package xds_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const node = "shop/cart"

// content is what a test puts into a slot.
type content string

const (
	allow  content = "allow"
	deny   content = "deny"
	refuse content = "refuse" // Envoy refuses it: its expression repeats more than the engine takes
)

// slot is an RBAC slot with a content.
func slot(t testing.TB, name string, c content) *corev3.TypedExtensionConfig {
	t.Helper()
	action := &rbacconfigv3.Action{Name: string(c), Action: rbacconfigv3.RBAC_ALLOW}
	if c == deny {
		action.Action = rbacconfigv3.RBAC_DENY
	}
	m := &xdsmatcherv3.Matcher{OnNoMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
		Action: &xdscorev3.TypedExtensionConfig{Name: "action", TypedConfig: pack(t, action)},
	}}}
	if c == refuse {
		slots := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Action: model.Deny, Rules: []rbac.Rule{{Name: "r", Ports: []model.PortRange{{Protocol: model.TCP, From: 80, To: 80}}}}}}})
		tooLarge(t, slots.TCP, m)
	}
	var config proto.Message = &rbacv3.RBAC{Matcher: m}
	if name == rbac.TCPSlot {
		config = &networkrbacv3.RBAC{StatPrefix: "tcp", Matcher: m}
	}
	return &corev3.TypedExtensionConfig{Name: name, TypedConfig: pack(t, config)}
}

// tooLarge puts a predicate into m that a compiled slot has, with an expression that Envoy refuses.
func tooLarge(t testing.TB, compiled *corev3.TypedExtensionConfig, m *xdsmatcherv3.Matcher) {
	t.Helper()
	var config networkrbacv3.RBAC
	if err := compiled.GetTypedConfig().UnmarshalTo(&config); err != nil {
		t.Fatal(err)
	}
	matchers := config.GetMatcher().GetMatcherList().GetMatchers()
	if len(matchers) == 0 {
		t.Fatalf("no matcher list to start from: %v", &config)
	}
	predicate := matchers[0].GetPredicate().GetSinglePredicate()
	predicate.Matcher = &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &xdsmatcherv3.StringMatcher{
		MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
			EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}}, Regex: "(?:a{900}){2}",
		}},
	}}
	m.MatcherType = &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{Matchers: matchers[:1]}}
}

func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	out, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func resource(t testing.TB, m proto.Message) *xds.Resource {
	t.Helper()
	r, err := xds.NewResource(m, []model.PolicyRef{{Namespace: "shop", Name: "cart", UID: "1", Generation: 7}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// update is the state in which the node runs some messages.
func update(t testing.TB, messages ...proto.Message) xds.Update {
	t.Helper()
	u := xds.Update{Workloads: map[string][]*xds.Resource{"w": nil}, Nodes: map[string][]xds.Node{"w": {{ID: node, UID: "1"}}}}
	for _, m := range messages {
		u.Workloads["w"] = append(u.Workloads["w"], resource(t, m))
	}
	return u
}

// shutSlots deny everything.
func shutSlots(t testing.TB) []*xds.Resource {
	t.Helper()
	return []*xds.Resource{resource(t, slot(t, rbac.HTTPSlot, deny)), resource(t, slot(t, rbac.TCPSlot, deny))}
}

// replica is a control plane process, as far as a proxy can tell.
type replica struct {
	t      testing.TB
	path   string // unix:PATH
	cache  *xds.Cache
	config xds.ServerConfig
	stop   func()
	kill   func() // as SIGKILL does: connections end in the middle of anything
}

// socket is an address that replicas can take over from each other.
func socket(t testing.TB) string {
	t.Helper()
	return "unix:" + filepath.Join(filepath.Dir(envoytest.AdminSocket(t)), "xds")
}

// start serves a cache of its own at an address. Without a salter two replicas send the same bytes.
func start(t testing.TB, path string, salter xds.Salter) *replica {
	t.Helper()
	return startWith(t, path, xds.Config{Salter: salter, Shut: shutSlots(t)}, xds.ServerConfig{})
}

func startWith(t testing.TB, path string, config xds.Config, server xds.ServerConfig) *replica {
	t.Helper()
	r := &replica{t: t, path: path, cache: xds.NewCache(config), config: server}
	r.serve()
	return r
}

func (r *replica) serve() {
	r.t.Helper()
	server, err := xds.NewServer(r.cache, r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := xds.Listen(r.t.Context(), r.path)
	if err != nil {
		r.t.Fatal(err)
	}
	cut := &cutListener{Listener: l}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(cut) }()
	stopped := false
	r.kill = func() { cut.cut(); r.stop() }
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
		<-done
	}
	r.t.Cleanup(r.stop)
}

// cutListener can end its connections without a farewell.
type cutListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *cutListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *cutListener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.Close()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// reconnect cuts every stream; the process stays the same.
func (r *replica) reconnect() {
	r.t.Helper()
	r.stop()
	r.serve()
}

// all is what all proxies run. How policies are at them is told without it, and must say the same; of those that nobody has seen it says nothing.
func (r *replica) all() []xds.ProxyStatus {
	r.t.Helper()
	told, want := r.cache.Standings()
	for _, p := range want {
		if !p.Connected && p.Since.IsZero() {
			p.Policies = nil
		}
	}
	if diff := cmp.Diff(want, told); diff != "" {
		r.t.Errorf("how policies are at proxies (-by their status +as told):\n%s", diff)
	}
	return r.cache.Status()
}

// status is what the node runs of a slot.
func (r *replica) status(name string) xds.ResourceStatus {
	r.t.Helper()
	for _, p := range r.all() {
		for _, s := range p.Resources {
			if p.Node == node && s.Name == name && s.Type == xds.ExtensionConfigType {
				return s
			}
		}
	}
	return xds.ResourceStatus{}
}

// eventually waits until a slot has a state.
func (r *replica) eventually(name string, want xds.State) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if r.status(name).State == want {
			return
		}
	}
	r.t.Fatalf("%s is not %s: %+v", name, want, r.status(name))
}

// resource is what the node runs under a name, of any type.
func (r *replica) resource(name string) xds.ResourceStatus {
	r.t.Helper()
	for _, p := range r.all() {
		for _, s := range p.Resources {
			if p.Node == node && s.Name == name {
				return s
			}
		}
	}
	return xds.ResourceStatus{}
}

// becomes waits until a resource has a state.
func (r *replica) becomes(name string, want xds.State) {
	r.t.Helper()
	r.until(name+" is "+string(want), func() bool { return r.resource(name).State == want })
}

// connected waits until a node has a stream.
func (r *replica) connected(id string) {
	r.t.Helper()
	r.until(id+" is connected", func() bool {
		return slices.ContainsFunc(r.all(), func(p xds.ProxyStatus) bool { return p.Node == id && p.Connected })
	})
}

func (r *replica) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 20 s: %s: %+v", what, r.cache.Status())
		}
	}
}

// newLogger writes to a buffer, one writer at a time.
func newLogger(w *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// salted is a resource whose own bytes hold a salt.
func salted(t testing.TB, slot *corev3.TypedExtensionConfig, salt string) *xds.Resource {
	t.Helper()
	var out corev3.TypedExtensionConfig
	if err := proto.Unmarshal(bytes.Join(translate.Salt(slot, salt), nil), &out); err != nil {
		t.Fatal(err)
	}
	return resource(t, &out)
}

// salter is the remedy, none is its absence.
func salter(remedy bool) xds.Salter {
	if remedy {
		return translate.Salt
	}
	return nil
}
