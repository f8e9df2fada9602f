package envoy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// pack wraps a message.
func pack(t testing.TB, m proto.Message) *anypb.Any {
	t.Helper()
	out, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// writeBootstrap writes the configuration of an Envoy with listeners of the test's own, and returns its path.
func writeBootstrap(t testing.TB, admin string, listeners ...*listenerv3.Listener) string {
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

// startListeners runs an Envoy with listeners of the test's own.
func startListeners(t testing.TB, listeners ...*listenerv3.Listener) *envoytest.Envoy {
	t.Helper()
	admin := envoytest.AdminSocket(t)
	config := writeBootstrap(t, admin, listeners...)
	// Filters are drawn with what Envoy warns of, a thousand times.
	e := envoytest.StartArgs(t, []string{"-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"}, admin)
	e.Eventually("every listener listens", func() error {
		_, err := e.Admin(http.MethodGet, "/ready")
		return err
	})
	return e
}

func listener(t testing.TB, address netip.AddrPort, filters ...*listenerv3.Filter) *listenerv3.Listener {
	t.Helper()
	return &listenerv3.Listener{
		Name: address.String(), FilterChains: []*listenerv3.FilterChain{{Filters: filters}},
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(address.Port())},
		}}},
	}
}

func filter(t testing.TB, name string, m proto.Message) *listenerv3.Filter {
	t.Helper()
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, m)}}
}

// networkListener echoes what its RBAC filter lets through.
func networkListener(t testing.TB, address netip.AddrPort, m *networkrbacv3.RBAC) *listenerv3.Listener {
	t.Helper()
	return listener(t, address, filter(t, "rbac", m), filter(t, "echo", &echov3.Echo{}))
}

// caseHeader chooses the RBAC filter that a request meets.
const caseHeader = "x-case"

// httpListener answers with 200 what an RBAC filter lets through, each filter for the requests that name its number. Both answers tell the names that the filter decided by, and what it saw.
func httpListener(t testing.TB, address netip.AddrPort, change func(*hcmv3.HttpConnectionManager), filters ...*rbacv3.RBAC) *listenerv3.Listener {
	t.Helper()
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}}
	for i, f := range filters {
		host.Routes = append(host.Routes, &routev3.Route{
			Match: &routev3.RouteMatch{
				PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
				Headers: []*routev3.HeaderMatcher{{
					Name: caseHeader, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
						MatchPattern: &matcherv3.StringMatcher_Exact{Exact: strconv.Itoa(i)},
					}},
				}},
			},
			Action:               &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusOK}},
			TypedPerFilterConfig: map[string]*anypb.Any{"rbac": pack(t, &rbacv3.RBACPerRoute{Rbac: f})},
		})
	}
	var tell []*corev3.HeaderValueOption
	for name, value := range map[string]string{
		"x-details": "%RESPONSE_CODE_DETAILS%",
		"x-rule":    "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%",
		"x-shadow":  "%DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_effective_policy_id)%",
		"x-result":  "%DYNAMIC_METADATA(envoy.filters.http.rbac:shadow_engine_result)%",
		"x-path":    "%REQ(:PATH)%",
		"x-host":    "%REQ(:AUTHORITY)%",
	} {
		tell = append(tell, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}})
	}
	host.ResponseHeadersToAdd = tell
	anyStatus := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{StatusCodeFilter: &accesslogv3.StatusCodeFilter{
		Comparison: &accesslogv3.ComparisonFilter{Op: accesslogv3.ComparisonFilter_GE, Value: &corev3.RuntimeUInt32{DefaultValue: 0, RuntimeKey: "none"}},
	}}}
	m := &hcmv3.HttpConnectionManager{
		StatPrefix:       "http",
		RouteSpecifier:   &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{host}}},
		LocalReplyConfig: &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{Filter: anyStatus, HeadersToAdd: tell}}},
		HttpFilters: []*hcmv3.HttpFilter{
			{Name: "rbac", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &rbacv3.RBAC{})}},
			{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})}},
		},
	}
	if change != nil {
		change(m)
	}
	return listener(t, address, filter(t, "hcm", m))
}

// client sends requests over connections that it keeps.
type client struct {
	t     testing.TB
	tls   *tls.Config // nil: plaintext
	conns map[string]*conn
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

func newClient(t testing.TB, config *tls.Config) *client {
	t.Helper()
	c := &client{t: t, tls: config, conns: map[string]*conn{}}
	t.Cleanup(func() {
		for _, x := range c.conns {
			_ = x.Close()
		}
	})
	return c
}

func dial(t testing.TB, from netip.Addr, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 5 * time.Second}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// send sends a request byte for byte, with the lines that come before its own headers.
func (c *client) send(from netip.Addr, to netip.AddrPort, r *model.HTTPRequest, lines ...string) (int, http.Header) {
	c.t.Helper()
	key := from.String() + " " + to.String()
	x := c.conns[key]
	if x == nil {
		bytes := dial(c.t, from, to)
		if c.tls != nil {
			bytes = tls.Client(bytes, c.tls)
		}
		x = &conn{bytes, bufio.NewReader(bytes)}
		c.conns[key] = x
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, r.Path, r.Host)
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	for _, h := range r.Headers {
		b.WriteString(h.Name + ": " + h.Value + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(x, b.String()); err != nil {
		c.t.Fatalf("write %q: %v", b.String(), err)
	}
	resp, err := http.ReadResponse(x.r, &http.Request{Method: r.Method})
	if err != nil {
		c.t.Fatalf("read the answer to %q: %v", b.String(), err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.Close {
		_ = x.Close()
		delete(c.conns, key)
	}
	return resp.StatusCode, resp.Header
}

// echoes says whether a TCP listener lets a caller through.
func echoes(t testing.TB, from netip.Addr, to netip.AddrPort) bool {
	t.Helper()
	x := dial(t, from, to)
	defer func() { _ = x.Close() }()
	_, _ = io.WriteString(x, "hello")
	got := make([]byte, 5)
	_, err := io.ReadFull(x, got)
	return err == nil && string(got) == "hello"
}

// socket is a free loopback socket.
func socket(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(envoytest.FreePort(t, address)))
}
