// Package worlds_test holds a real Envoy against the reference evaluator, and against the evaluator of its configuration, on random policies and requests.
package worlds_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/internal/worldgen"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// For every world that is drawn, a real Envoy gives the verdict of both evaluators, of the policies and of its own configuration, on every request that is drawn.
func TestEnvoyAgreesWithTheEvaluator(t *testing.T) {
	mesh := newMesh(t)
	rapid.Check(t, func(t *rapid.T) {
		s := worldgen.Cast(mesh.bound)
		s.Policies = worldgen.Policies(t)
		ix, sidecar := mesh.apply(t, s)
		callee := ix.WorkloadOf("shop", "cart")
		for range 8 {
			r, sent := worldgen.Request(t)
			want := eval.Ingress(ix, callee, r)
			got := mesh.allows(t, r, sent)
			asSent := *r.HTTP
			asSent.Path = sent
			evaluated := sidecar.Decide(&envoy.Call{Source: r.Source, Port: mesh.bound[0].Listen.Port(), HTTP: &asSent})
			if evaluated.Err != nil || evaluated.Allowed != got || evaluated.Seen != nil && evaluated.Seen.Path != r.HTTP.Path {
				t.Fatalf("Envoy allows: %t; the evaluator of its configuration: %+v; request %+v from %s", got, evaluated, asSent, r.Source)
			}
			if got != want.Allowed {
				t.Fatalf("Envoy allows: %t; the evaluator: %+v; request %s %s to %q from %s with %v", got, want, r.HTTP.Method, sent, r.HTTP.Host, r.Source, r.HTTP.Headers)
			}
		}
		plain := model.Request{Source: rapid.SampledFrom(worldgen.Callers()).Draw(t, "tcpCaller"), Port: worldgen.TCPPort}
		want := eval.Ingress(ix, callee, plain)
		got := mesh.echoes(t, plain.Source)
		if evaluated := sidecar.Decide(&envoy.Call{Source: plain.Source, Port: mesh.bound[1].Listen.Port()}); evaluated.Err != nil || evaluated.Allowed != got {
			t.Fatalf("Envoy allows TCP: %t; the evaluator of its configuration: %+v; from %s", got, evaluated, plain.Source)
		}
		if got != want.Allowed {
			t.Fatalf("Envoy allows TCP: %t; the evaluator: %+v; from %s", got, want, plain.Source)
		}
	})
}

// mesh is one callee behind a real Envoy, and its control plane.
type mesh struct {
	bound      []model.BoundPort
	cache      *xds.Cache
	translator translate.Translator
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	const address = "127.77.0.1"
	web, echo := webApplication(t), echoApplication(t)
	socket := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(porttest.Free(t, address)))
	}
	shut := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Action: model.Allow}}})
	m := &mesh{
		bound: []model.BoundPort{{Port: worldgen.HTTPPort, Listen: socket(), Application: web}, {Port: worldgen.TCPPort, Listen: socket(), Application: echo}},
		cache: xds.NewCache(xds.Config{Salter: translate.Salt, Shut: resources(t, shut.HTTP, shut.TCP), Logger: slog.New(slog.DiscardHandler)}),
	}
	server, err := xds.NewServer(m.cache, xds.ServerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	path := "unix:" + filepath.Join(filepath.Dir(envoytest.AdminSocket(t)), "xds")
	l, err := xds.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
	})
	admin := envoytest.AdminSocket(t)
	b, err := bootstrap.Build(bootstrap.Config{Namespace: "shop", Pod: "cart", Server: path, Admin: "unix:" + admin})
	if err != nil {
		t.Fatal(err)
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Start(t, string(text), admin)
	return m
}

func resources(t testing.TB, slots ...*corev3.TypedExtensionConfig) []*xds.Resource {
	t.Helper()
	var out []*xds.Resource
	for _, s := range slots {
		r, err := xds.NewResource(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// apply makes the proxy run a snapshot, and returns when it does, with the evaluator of what it runs.
func (m *mesh) apply(t *rapid.T, s *model.Snapshot) (*model.Index, *envoy.Sidecar) {
	ix := model.NewIndex(s)
	var callee []proto.Message
	u := xds.Update{Workloads: map[string][]*xds.Resource{}, Nodes: map[string][]xds.Node{}}
	for _, w := range m.translator.Translate(ix).Workloads {
		for _, r := range w.Resources {
			resource, err := xds.NewResource(r.Message, r.Policies)
			if err != nil {
				t.Fatal(err)
			}
			u.Workloads[w.Workload.Key] = append(u.Workloads[w.Workload.Key], resource)
			if w.Workload == ix.WorkloadOf("shop", "cart") {
				callee = append(callee, r.Message)
			}
		}
		for _, p := range w.Workload.Pods {
			id := p.Namespace + "/" + p.Name
			u.Nodes[w.Workload.Key] = append(u.Nodes[w.Workload.Key], xds.Node{ID: id, UID: p.UID})
		}
	}
	sidecar, err := envoy.NewSidecar(callee...)
	if err != nil {
		t.Fatal(err)
	}
	m.cache.Set(u)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		state := m.state()
		if state == xds.StateEnforced {
			return ix, sidecar
		}
		if state == xds.StateRefused || time.Now().After(deadline) {
			t.Fatalf("the proxy does not run the snapshot: %s", m.unenforced())
		}
	}
}

// state is the worst state of the callee's resources.
func (m *mesh) state() xds.State {
	worst := xds.StateEnforced
	for _, p := range m.cache.Status() {
		if p.Node != "shop/cart" {
			continue
		}
		for _, r := range p.Resources {
			if r.State == xds.StateRefused {
				return r.State
			}
			if r.State == xds.StatePending {
				worst = r.State
			}
		}
	}
	return worst
}

// unenforced lists what the callee does not run, for a failure's message.
func (m *mesh) unenforced() string {
	var b strings.Builder
	for _, p := range m.cache.Status() {
		for _, r := range p.Resources {
			if p.Node == "shop/cart" && r.State != xds.StateEnforced {
				fmt.Fprintf(&b, "%s %s: %s %s\n", r.Name, r.State, r.Desired, r.Text)
			}
		}
	}
	return b.String()
}

func (m *mesh) dial(t *rapid.T, from netip.Addr, to netip.AddrPort) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// allows sends the request as it is, byte for byte, and says whether the application answered it.
func (m *mesh) allows(t *rapid.T, r model.Request, target string) bool {
	c := m.dial(t, r.Source, m.bound[0].Listen)
	defer func() { _ = c.Close() }()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n", r.HTTP.Method, target, r.HTTP.Host)
	for _, h := range r.HTTP.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.Name, h.Value)
	}
	b.WriteString("\r\n")
	if _, err := c.Write(b.Bytes()); err != nil {
		t.Fatalf("write: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode == http.StatusOK && resp.Header.Get("x-application") == "web":
		return true
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusBadRequest:
		return false
	}
	t.Fatalf("an answer that is neither: %s", resp.Status)
	return false
}

func (m *mesh) echoes(t *rapid.T, from netip.Addr) bool {
	c := m.dial(t, from, m.bound[1].Listen)
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte("hello\n"))
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line) == "hello"
}

// webApplication answers whatever it is asked, without a look at the target: what is refused was refused by the proxy.
func webApplication(t *testing.T) netip.AddrPort {
	t.Helper()
	return application(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Application: web\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
}

func echoApplication(t *testing.T) netip.AddrPort {
	t.Helper()
	return application(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

func application(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer func() { _ = c.Close() }(); serve(c) }()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}
