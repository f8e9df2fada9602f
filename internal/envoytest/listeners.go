package envoytest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// Pack wraps a message.
func Pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	out, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Listener is a listener with one filter chain.
func Listener(t testing.TB, address netip.AddrPort, filters ...*listenerv3.Filter) *listenerv3.Listener {
	t.Helper()
	return &listenerv3.Listener{
		Name: address.String(), FilterChains: []*listenerv3.FilterChain{{Filters: filters}},
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(address.Port())},
		}}},
	}
}

// Filter is a network filter.
func Filter(t testing.TB, name string, m proto.Message) *listenerv3.Filter {
	t.Helper()
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: Pack(t, m)}}
}

// WriteListeners writes the configuration of an Envoy that has these listeners and nothing else, and returns its path. Without a path for the admin interface it has none.
func WriteListeners(t testing.TB, admin string, listeners ...*listenerv3.Listener) string {
	t.Helper()
	runtime, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": 1000})
	if err != nil {
		t.Fatal(err)
	}
	b := &bootstrapv3.Bootstrap{
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Listeners: listeners},
		LayeredRuntime: &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
			Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: runtime},
		}}},
	}
	if admin != "" {
		b.Admin = &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: admin}}}}
	}
	text, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// StartListeners runs an Envoy with these listeners, which listen when it returns. Envoy's warnings are left out: what tests draw at random has many.
func StartListeners(t testing.TB, listeners ...*listenerv3.Listener) *Envoy {
	t.Helper()
	admin := AdminSocket(t)
	config := WriteListeners(t, admin, listeners...)
	e := StartArgs(t, []string{"-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"}, admin)
	e.Listening()
	return e
}

// Listening waits until every listener of the bootstrap listens: the admin interface answers, and says that Envoy is ready, before the last of a thousand does.
func (e *Envoy) Listening() {
	e.t.Helper()
	e.Eventually("every listener listens", func() error {
		if e.Stat("listener_manager.workers_started") != 1 {
			return errors.New("the workers have not started")
		}
		_, err := e.Admin(http.MethodGet, "/ready")
		return err
	})
}

// Client sends HTTP/1.1 requests byte for byte, over connections that it keeps.
type Client struct {
	t     testing.TB
	tls   *tls.Config
	conns map[string]*conn
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

// NewClient makes a client that speaks TLS as the configuration says; nil: plaintext.
func NewClient(t testing.TB, config *tls.Config) *Client {
	t.Helper()
	c := &Client{t: t, tls: config, conns: map[string]*conn{}}
	t.Cleanup(func() {
		for _, x := range c.conns {
			_ = x.Close()
		}
	})
	return c
}

// Dial opens a connection from an address of the test's own.
func Dial(t testing.TB, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 5 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// Send sends a request, and returns the answer's status and headers. Lines are header lines as they are.
func (c *Client) Send(from netip.Addr, to netip.AddrPort, method, target string, lines ...string) (int, http.Header) {
	c.t.Helper()
	key := from.String() + " " + to.String()
	x := c.conns[key]
	if x == nil {
		bytes := Dial(c.t, from, to)
		if c.tls != nil {
			bytes = tls.Client(bytes, c.tls)
		}
		x = &conn{bytes, bufio.NewReader(bytes)}
		c.conns[key] = x
	}
	request := fmt.Sprintf("%s %s HTTP/1.1\r\n%s\r\n\r\n", method, target, strings.Join(lines, "\r\n"))
	if _, err := io.WriteString(x, request); err != nil {
		c.t.Fatalf("write %q: %v", request, err)
	}
	resp, err := http.ReadResponse(x.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read the answer to %q: %v", request, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.Close {
		_ = x.Close()
		delete(c.conns, key)
	}
	return resp.StatusCode, resp.Header
}
