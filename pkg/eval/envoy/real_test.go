package envoy_test

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// networkListener echoes what its RBAC filter lets through.
func networkListener(t testing.TB, address netip.AddrPort, m *networkrbacv3.RBAC) *listenerv3.Listener {
	t.Helper()
	return envoytest.Listener(t, address, envoytest.Filter(t, "rbac", m), envoytest.Filter(t, "echo", &echov3.Echo{}))
}

// caseHeader chooses the RBAC filter that a request meets.
const caseHeader = "x-case"

// httpListener answers with 200 what an RBAC filter lets through, each filter for the requests that name its number. Answers tell the names that the filter decided by.
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
			TypedPerFilterConfig: map[string]*anypb.Any{"rbac": envoytest.Pack(t, &rbacv3.RBACPerRoute{Rbac: f})},
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
			{Name: "rbac", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: envoytest.Pack(t, &rbacv3.RBAC{})}},
			{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: envoytest.Pack(t, &routerv3.Router{})}},
		},
	}
	change(m)
	return envoytest.Listener(t, address, envoytest.Filter(t, "hcm", m))
}

// send sends a request as it is.
func send(c *envoytest.Client, from netip.Addr, to netip.AddrPort, r *model.HTTPRequest) (int, http.Header) {
	lines := []string{"Host: " + r.Host}
	for _, h := range r.Headers {
		lines = append(lines, h.Name+": "+h.Value)
	}
	return c.Send(from, to, r.Method, r.Path, lines...)
}

// echoes says whether a TCP listener lets a caller through.
func echoes(t testing.TB, from netip.Addr, to netip.AddrPort) bool {
	t.Helper()
	x := envoytest.Dial(t, from, to)
	defer func() { _ = x.Close() }()
	_, _ = io.WriteString(x, "hello")
	got := make([]byte, 5)
	_, err := io.ReadFull(x, got)
	return err == nil && string(got) == "hello"
}

// socket is a free loopback socket.
func socket(t testing.TB, address string) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(porttest.Free(t, address)))
}
