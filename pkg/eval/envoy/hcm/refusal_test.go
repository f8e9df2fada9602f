package hcm_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A refusal has the status that Envoy answers with, and the limits are Envoy's to the byte and the line.
func TestRefusals(t *testing.T) {
	t.Parallel()
	strict, redirecting := manager(t), manager(t)
	for _, m := range []*hcmv3.HttpConnectionManager{strict, redirecting} {
		m.NormalizePath, m.MergeSlashes = wrapperspb.Bool(true), true
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
		m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_REJECT_REQUEST
	}
	redirecting.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT
	redirecting.CommonHttpProtocolOptions.MaxHeadersCount, redirecting.MaxRequestHeadersKb = wrapperspb.UInt32(7), wrapperspb.UInt32(1)
	addresses := []netip.AddrPort{free(t, 100), free(t, 101)}
	envoytest.StartListeners(t,
		envoytest.Listener(t, addresses[0], envoytest.Filter(t, "hcm", strict)), envoytest.Listener(t, addresses[1], envoytest.Filter(t, "hcm", redirecting)),
	)
	many := func(n int) []model.Header {
		var out []model.Header
		for range n {
			out = append(out, model.Header{Name: "a", Value: "b"})
		}
		return out
	}
	// head is a request whose head takes n bytes on the wire.
	head := func(n int) *model.HTTPRequest {
		const rest = len("GET / HTTP/1.1\r\nHost: h\r\na: \r\n\r\n")
		return &model.HTTPRequest{Method: "GET", Host: "h", Path: "/", Headers: []model.Header{{Name: "a", Value: strings.Repeat("b", n-rest)}}}
	}
	get := func(path string, headers ...model.Header) *model.HTTPRequest {
		return &model.HTTPRequest{Method: "GET", Host: "h", Path: path, Headers: headers}
	}
	for _, c := range []struct {
		name     string
		redirect bool
		request  *model.HTTPRequest
		want     int
	}{
		{"sound", false, get("/"), 200},
		{"an escaped slash", false, get("/a%2Fb"), 400},
		{"an escaped slash, redirected", true, get("/a%2Fb"), 307},
		{"an escaped slash in the query", false, get("/a?b=%2Fb"), 200},
		{"an escaped NUL", false, get("/a%00"), 400},
		{"an underscore", false, get("/", model.Header{Name: "a_b", Value: "c"}), 400},
		{"99 headers and the host", false, get("/", many(99)...), 200},
		{"100 headers and the host", false, get("/", many(100)...), 431},
		{"6 headers and the host", true, get("/", many(6)...), 200},
		{"7 headers and the host", true, get("/", many(7)...), 431},
		{"60 KiB", false, head(60 << 10), 200},
		{"60 KiB and a byte", false, head(60<<10 + 1), 431},
		{"1 KiB", true, head(1 << 10), 200},
		{"1 KiB and a byte", true, head(1<<10 + 1), 431},
		{"websocket", false, get("/", model.Header{Name: "connection", Value: "upgrade"}, model.Header{Name: "upgrade", Value: "websocket"}), 200},
		{"another protocol", false, get("/", model.Header{Name: "connection", Value: "upgrade"}, model.Header{Name: "upgrade", Value: "x"}), 403},
		{"a method in lower case", false, &model.HTTPRequest{Method: "get", Host: "h", Path: "/"}, 400},
		{"CONNECT", false, &model.HTTPRequest{Method: "CONNECT", Host: "h", Path: "/"}, 400},
		{"OPTIONS *", false, &model.HTTPRequest{Method: "OPTIONS", Host: "h", Path: "*"}, 404},
		{"a fragment", false, get("/a#b"), 400},
		{"https without TLS", false, get("https://h/"), 403},
		{"a path without a slash", false, get("a"), 400},
		{"a query without a path", false, get("http://h?a"), 404},
		{"a space in the host", false, &model.HTTPRequest{Method: "GET", Host: "h h", Path: "/"}, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, address := strict, addresses[0]
			if c.redirect {
				m, address = redirecting, addresses[1]
			}
			read, err := hcm.New(m)
			if err != nil {
				t.Fatal(err)
			}
			source := netip.MustParseAddr("127.0.1.1")
			got := http.StatusOK
			if _, refusal := read.Arrive(source, false, c.request); refusal != nil {
				got = refusal.Status
			}
			lines := []string{"Host: " + c.request.Host}
			for _, h := range c.request.Headers {
				lines = append(lines, h.Name+": "+h.Value)
			}
			answered, _ := envoytest.NewClient(t, nil).Send(source, address, c.request.Method, c.request.Path, lines...)
			if got != c.want || answered != c.want {
				t.Errorf("the model says %d, Envoy %d, want %d", got, answered, c.want)
			}
		})
	}
}

// A setting that changes what filters see in a way that is not known is an error.
func TestUnknownSettings(t *testing.T) {
	t.Parallel()
	if _, err := hcm.New(manager(t)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*hcmv3.HttpConnectionManager){
		"use_remote_address":   func(m *hcmv3.HttpConnectionManager) { m.UseRemoteAddress = nil },
		"xff_num_trusted_hops": func(m *hcmv3.HttpConnectionManager) { m.XffNumTrustedHops = 1 },
		"internal_address_config": func(m *hcmv3.HttpConnectionManager) {
			m.InternalAddressConfig = &hcmv3.HttpConnectionManager_InternalAddressConfig{}
		},
		"port is stripped": func(m *hcmv3.HttpConnectionManager) { m.StripMatchingHostPort = true },
		"trailing dot":     func(m *hcmv3.HttpConnectionManager) { m.StripTrailingHostDot = true },
		"allow_custom_methods": func(m *hcmv3.HttpConnectionManager) {
			m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{AllowCustomMethods: true}
		},
		"routes are not part of it": func(m *hcmv3.HttpConnectionManager) { m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{} },
		"early_header_mutation": func(m *hcmv3.HttpConnectionManager) {
			m.EarlyHeaderMutationExtensions[0].TypedConfig = envoytest.Pack(t, &corev3.Address{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := manager(t)
			change(m)
			if _, err := hcm.New(m); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Over TLS the scheme is https, and a target may say so.
func TestArrivalOverTLS(t *testing.T) {
	t.Parallel()
	m, err := hcm.New(manager(t))
	if err != nil {
		t.Fatal(err)
	}
	seen, refusal := m.Arrive(netip.MustParseAddr("::ffff:10.0.0.1"), true, &model.HTTPRequest{Method: "GET", Host: "a", Path: "https://b/c"})
	if refusal != nil || seen.Host != "b" || seen.Path != "/c" || seenFirst(seen, "x-forwarded-proto") != "https" || seenFirst(seen, "x-envoy-external-address") != "10.0.0.1" {
		t.Errorf("got %+v and %+v", seen, refusal)
	}
}
