package hcm_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlymutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// free is a socket on the i-th of a few addresses: two that were free a moment ago must not be the same.
func free(t testing.TB, i int) netip.AddrPort {
	t.Helper()
	a := netip.AddrFrom4([4]byte{127, 0, 5, byte(1 + i)})
	return netip.AddrPortFrom(a, uint16(porttest.Free(t, a.String())))
}

// told are the headers whose first value the answer tells, as filters see it.
func told() []string {
	return append(named(), "content-length", "connection", "upgrade", ":path", ":authority", ":method")
}

// named are headers that the connection manager does something about, and a few others.
func named() []string {
	return strings.Fields(`keep-alive proxy-connection te x-forwarded-proto x-forwarded-for x-forwarded-host x-envoy-external-address x-envoy-internal
		x-envoy-decorator-operation x-envoy-downstream-service-cluster x-envoy-downstream-service-node x-envoy-retry-on x-envoy-retry-grpc-on x-envoy-max-retries
		x-envoy-upstream-alt-stat-name x-envoy-upstream-rq-timeout-ms x-envoy-upstream-rq-per-try-timeout-ms x-envoy-upstream-rq-timeout-alt-response
		x-envoy-expected-rq-timeout-ms x-envoy-force-trace x-envoy-ip-tags x-envoy-original-url x-envoy-original-path x-envoy-original-host
		x-envoy-hedge-on-per-try-timeout x-envoy-retriable-status-codes x-envoy-retriable-header-names x-envoy-attempt-count x-envoy-peer-metadata
		x-envoy-original-dst-host x-envoy-is-timeout-retry x-envoy-original-scheme x-request-id x-forwarded-client-cert forwarded via user-agent content-type
		accept accept-language accept-encoding access-control-request-headers access-control-request-method authorization cache-control content-encoding cookie expect
		grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma proxy-status referer x-client-trace-id
		x-forwarded-port traceparent x-b3-traceid x-real-ip x-kept x-foo x_foo`)
}

// manager has the settings that pilot-lite makes, and a route that answers with what filters see.
func manager(t testing.TB) *hcmv3.HttpConnectionManager {
	t.Helper()
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: http.StatusOK}},
	}}}
	for _, name := range told() {
		host.ResponseHeadersToAdd = append(host.ResponseHeadersToAdd, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: "seen-" + strings.TrimPrefix(name, ":"), Value: "%REQ(" + name + ")%"},
		})
	}
	early := &earlymutationv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_Remove{Remove: "x-kept"}},
		{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: "x-kept", Value: "%REQ(x-forwarded-proto)%"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}},
	}}
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "http", UseRemoteAddress: wrapperspb.Bool(true), SkipXffAppend: true, GenerateRequestId: wrapperspb.Bool(false), PreserveExternalRequestId: true,
		ForwardClientCertDetails: hcmv3.HttpConnectionManager_SANITIZE, UpgradeConfigs: []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		RouteSpecifier:                &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{host}}},
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{Name: "early", TypedConfig: envoytest.Pack(t, early)}},
		HttpFilters:                   []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: envoytest.Pack(t, &routerv3.Router{})}}},
		CommonHttpProtocolOptions:     &corev3.HttpProtocolOptions{},
	}
}

// variants are all combinations of the settings about paths, and each setting about headers.
func variants(t testing.TB) []*hcmv3.HttpConnectionManager {
	t.Helper()
	var out []*hcmv3.HttpConnectionManager
	for _, normalize := range []bool{true, false} {
		for _, merge := range []bool{true, false} {
			for slashes := range hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction_name {
				m := manager(t)
				m.NormalizePath, m.MergeSlashes = wrapperspb.Bool(normalize), merge
				m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction(slashes)
				m.CommonHttpProtocolOptions.HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_HeadersWithUnderscoresAction(len(out) % 3)
				m.GetRouteConfig().IgnorePathParametersInPathMatching = len(out)%2 == 0
				out = append(out, m)
			}
		}
	}
	return out
}

func drawRequest(t *rapid.T) *model.HTTPRequest {
	pick := func(from ...string) string { return rapid.SampledFrom(from).Draw(t, "pick") }
	n := func(limit int) int { return rapid.IntRange(0, limit-1).Draw(t, "n") }
	r := &model.HTTPRequest{Method: pick("GET", "GET", "GET", "POST", "OPTIONS", "PURGE", "QUERY"), Host: pick("h", "h", "H:80", "a,b", "[::1]", "a.b.", "a@b", "a%41", ""), Path: "/"}
	for range n(9) {
		r.Path += pick("/", "/", "/", ".", ".", "..", "%2e", "%2E", ";", ";p", "%3b", "a", "b", "%", "%41", "%34", "%31", "4", "1", "%2f", "%2F", "%5c", `\`, "%25", "|", "%zz", "%7f", "<", "{", `"`,
			"`", "^", "%7E", "%c3%A9", "~", ":", "!", "'", "[", "]", "@", "?", "%20")
	}
	switch n(40) {
	case 0:
		r.Path = "http://x.test:1" + r.Path
	case 1:
		r.Path = pick("*", "a", "?x", "http://u@x", "HTTP://X?y", "https://x/", "ftp://x/", "http:///a", "http://x#a", "/a#b", "/a b", "/\xe9", "/a\tb", "/\x7f", "/%00", "/a%00?%2f")
	case 2:
		r.Method = pick("get", "FOO", "CONNECT", "M-SEARCH", "PRI")
	case 3:
		r.Host = pick("h h", "h/x", "é", "h\x7f", `a\b`, `"`, "a|b", "a?b", "a#b", "{a}")
	}
	for range n(4) {
		if len(r.Headers) > 0 && n(3) == 0 {
			r.Headers = append(r.Headers, model.Header{Name: r.Headers[0].Name, Value: "w"})
			continue
		}
		r.Headers = append(r.Headers, model.Header{Name: pick(named()...), Value: pick("v", "v", "", "a,b", "é", "\xff", "a\tb", "trailers")})
	}
	switch n(30) {
	case 3:
		r.Headers = append(r.Headers, model.Header{Name: "referer", Value: pick("http://", "HTTP://h/x?y", "http://u@h/", "http://h/@", "http://h/#", "http://h?x", "https://h:1", "ftp://h/", "a:b", "a/b:c", "/a?b=c",
			"?", "/a#b", "http://h/ b", "http://h/é", "//h/x", "[", "http://h h/", "http:/h", "http://h/x|y", "http://[::1]/x", "http://h_/", "http://h:x/", "x-y://h")})
	case 4:
		r.Headers = append(r.Headers, model.Header{Name: "te", Value: pick("trailers", "Trailers", "trailers, x", "x,trailers", "trailers;q=1")}, model.Header{Name: "Connection", Value: pick("close", "te", "keep-alive")})
	case 0:
		r.Headers = append(r.Headers, model.Header{Name: pick("X-Foo", "x foo", "é", "x@", "x-foo", "x-foo"), Value: pick("v", " v ", "\x01", "a\x7f")})
	case 1:
		r.Headers = append(r.Headers, model.Header{Name: "Connection", Value: pick("x-foo", "close", "X-Foo, forwarded", "host", ":path", "x-forwarded-host", "te", "upgrade", "a,b,c,d,e,f,g,h,i,j", "a,b,c,d,e,f,g,h,i,j,k", "x-foo,,via")})
	case 2:
		r.Headers = append(r.Headers, model.Header{Name: "Connection", Value: pick("upgrade", "Upgrade, x-foo", "keep-alive")}, model.Header{Name: "Upgrade", Value: pick("websocket", "WebSocket", "h2c", "x")})
	}
	return r
}

// What filters see of a request, and which requests they never see, is what a real Envoy says, for every setting.
func TestEnvoySeesWhatTheModelSees(t *testing.T) {
	t.Parallel()
	const requests = 6000
	seed := int(rand.Int32())
	if s := os.Getenv("PILOT_LITE_SEED"); s != "" {
		seed, _ = strconv.Atoi(s)
	}
	t.Logf("seed %d", seed)
	var listeners []*listenerv3.Listener
	var managers []*hcm.Manager
	var addresses []netip.AddrPort
	for i, m := range variants(t) {
		addresses = append(addresses, free(t, i))
		listeners = append(listeners, envoytest.Listener(t, addresses[i], envoytest.Filter(t, "hcm", m)))
		read, err := hcm.New(m)
		if err != nil {
			t.Fatal(err)
		}
		managers = append(managers, read)
	}
	envoytest.StartListeners(t, listeners...)
	client := envoytest.NewClient(t, nil)
	drawn := rapid.Custom(drawRequest)
	source := netip.MustParseAddr("127.0.1.1")
	refused := 0
	for i := range requests {
		r := drawn.Example(seed + i)
		k := i % len(managers)
		lines := []string{"Host: " + r.Host}
		for _, h := range r.Headers {
			lines = append(lines, h.Name+": "+h.Value)
		}
		status, answer := client.Send(source, addresses[k], r.Method, r.Path, lines...)
		seen, refusal := managers[k].Arrive(source, false, r)
		if refusal != nil {
			refused++
			if status == http.StatusOK { // of several reasons Envoy may give another
				t.Fatalf("Envoy answers %d, the model says %+v\nrequest %+v\nsettings %s", status, refusal, r, describe(variants(t)[k]))
			}
			continue
		}
		want, got := http.Header{}, http.Header{}
		for _, name := range told() {
			key := http.CanonicalHeaderKey("seen-" + strings.TrimPrefix(name, ":"))
			if v := seenFirst(seen, name); v != "" {
				want.Set(key, v)
			}
			if v := answer.Get(key); v != "" {
				got.Set(key, v)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || status != http.StatusOK {
			t.Fatalf("Envoy answers %d; what it sees (+), and what the model does (-):\n%s\nrequest %+v\nsettings %s", status, diff, r, describe(variants(t)[k]))
		}
	}
	t.Logf("%d requests, %d refused", requests, refused)
}

func describe(m *hcmv3.HttpConnectionManager) string {
	return fmt.Sprint("normalize ", m.GetNormalizePath().GetValue(), ", merge ", m.GetMergeSlashes(), ", slashes ", m.GetPathWithEscapedSlashesAction(), ", underscores ",
		m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction())
}

func seenFirst(r *model.HTTPRequest, name string) string {
	switch name {
	case ":path":
		return r.Path
	case ":authority":
		return r.Host
	case ":method":
		return r.Method
	}
	i := slices.IndexFunc(r.Headers, func(h model.Header) bool { return h.Name == name })
	if i < 0 {
		return ""
	}
	return r.Headers[i].Value
}
