package translate

import (
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlymutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	preservecasev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

const (
	maxHeaders            = 100
	streamWindowBytes     = 64 << 10
	connectionWindowBytes = 1 << 20
)

// httpConnectionManager is the one place where HTTP is configured, for every listener: a setting that one listener lacks is a way around its
// policies (CVE-2024-10005 was fixed for some listeners of a mesh and not for others). The two aims are that RBAC sees the one reading of a request
// that the application will have, and that the application otherwise sees what its caller sent.
func httpConnectionManager(s httpSettings, cluster string) *listenerv3.Filter {
	m := &hcmv3.HttpConnectionManager{
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		StatPrefix: "inbound_http",
		AccessLog:  httpAccessLog(),
		HttpFilters: []*hcmv3.HttpFilter{
			httpRBAC(),
			{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{
				// No x-envoy-* header of Envoy's own towards the application and the caller.
				TypedConfig: pack(&routerv3.Router{SuppressEnvoyHeaders: true}),
			}},
		},
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes(cluster)},
	}
	hardenPath(m, s)
	hardenCodec(m, s)
	distrustCaller(m)
	leaveAsSent(m)
	return packFilter("envoy.filters.network.http_connection_manager", m)
}

// hardenPath makes RBAC, router and application agree on the path.
func hardenPath(m *hcmv3.HttpConnectionManager, s httpSettings) {
	m.NormalizePath = wrapperspb.Bool(true)
	m.MergeSlashes = true
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_REJECT_REQUEST
	if s.EscapedSlashes {
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	}
}

// hardenCodec refuses what applications read in more than one way, and bounds what a slow or flooding caller can hold.
func hardenCodec(m *hcmv3.HttpConnectionManager, s httpSettings) {
	// An underscore is a dash to CGI-like applications: "x_role" would pass for "x-role" behind RBAC's back.
	underscores := corev3.HttpProtocolOptions_REJECT_REQUEST
	if s.UnderscoreHeaders {
		underscores = corev3.HttpProtocolOptions_ALLOW
	}
	m.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{
		MaxHeadersCount: wrapperspb.UInt32(maxHeaders), HeadersWithUnderscoresAction: underscores,
	}
	if s.MaxStreamDuration > 0 {
		m.CommonHttpProtocolOptions.MaxStreamDuration = durationpb.New(s.MaxStreamDuration)
	}
	m.MaxRequestHeadersKb = wrapperspb.UInt32(s.MaxRequestHeadersKB)
	m.RequestHeadersTimeout = durationpb.New(s.RequestHeadersTimeout)
	m.StreamErrorOnInvalidHttpMessage = wrapperspb.Bool(false)
	m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{
		AllowAbsoluteUrl: wrapperspb.Bool(true),
		AcceptHttp_10:    s.HTTP10,
		EnableTrailers:   true,
		HeaderKeyFormat:  preserveCase(),
	}
	m.Http2ProtocolOptions = &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        wrapperspb.UInt32(s.MaxConcurrentStreams),
		InitialStreamWindowSize:     wrapperspb.UInt32(streamWindowBytes),
		InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindowBytes),
	}
}

// distrustCaller treats every caller as one from outside: nothing that it says of itself in x-forwarded-for or x-envoy-* takes effect.
// internal_address_config stays unset: present and empty it would make all private addresses internal, and internal callers steer Envoy.
func distrustCaller(m *hcmv3.HttpConnectionManager) {
	m.UseRemoteAddress = wrapperspb.Bool(true)
	m.XffNumTrustedHops = 0
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE
}

// leaveAsSent keeps the application's view of a request, and the caller's of the response, as it was without a sidecar.
func leaveAsSent(m *hcmv3.HttpConnectionManager) {
	m.SkipXffAppend = true
	m.GenerateRequestId = wrapperspb.Bool(false)
	m.PreserveExternalRequestId = true
	m.ServerHeaderTransformation = hcmv3.HttpConnectionManager_PASS_THROUGH
	m.Proxy_100Continue = true
	m.StreamIdleTimeout = durationpb.New(0)
	m.EarlyHeaderMutationExtensions = []*corev3.TypedExtensionConfig{{
		Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: pack(&earlymutationv3.HeaderMutation{Mutations: keepForwardedProto()}),
	}}
	// CONNECT is never served, and no other upgrade: each changes what the bytes after it mean, unseen by RBAC.
	m.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
}

// keepForwardedProto runs before Envoy touches the request.
func keepForwardedProto() []*mutationv3.HeaderMutation {
	return []*mutationv3.HeaderMutation{
		{Action: &mutationv3.HeaderMutation_Remove{Remove: rbac.KeptProto}},
		{Action: &mutationv3.HeaderMutation_Append{Append: copyHeader(rbac.ForwardedProto, rbac.KeptProto)}},
	}
}

// copyHeader sets a header to another's value, and does nothing where that one is absent.
func copyHeader(from, to string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: to, Value: "%REQ(" + from + ")%"},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// Restored is a request that filters see, with x-forwarded-proto as it was sent: policies are about what the application will see. None (nil) stays none.
func Restored(seen *model.HTTPRequest) *model.HTTPRequest {
	if seen == nil {
		return nil
	}
	out := *seen
	out.Headers = nil
	for _, h := range seen.Headers {
		switch h.Name {
		case rbac.ForwardedProto:
		case rbac.KeptProto:
			out.Headers = append(out.Headers, model.Header{Name: rbac.ForwardedProto, Value: h.Value})
		default:
			out.Headers = append(out.Headers, h)
		}
	}
	return &out
}

// routes sends everything to the application, without a time limit. Headers change in the router, after RBAC has decided: first as the route says,
// then as the whole configuration says, and each removes before it adds.
func routes(cluster string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name: inboundName,
		VirtualHosts: []*routev3.VirtualHost{{Name: inboundName, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}, Timeout: durationpb.New(0),
			}},
			RequestHeadersToRemove: []string{rbac.ForwardedProto},
			RequestHeadersToAdd:    []*corev3.HeaderValueOption{copyHeader(rbac.KeptProto, rbac.ForwardedProto)},
		}}}},
		// Frameworks take the first three for the path that was asked for, which RBAC has not seen. The others are the proxy's own.
		RequestHeadersToRemove:             []string{"x-original-url", "x-rewrite-url", "x-envoy-original-path", "x-envoy-external-address", rbac.KeptProto},
		IgnorePathParametersInPathMatching: true,
	}
}

// preserveCase keeps the spelling of HTTP/1 header names and the reason phrase, since some applications look at them. RBAC compares names without
// case either way.
func preserveCase() *corev3.Http1ProtocolOptions_HeaderKeyFormat {
	return &corev3.Http1ProtocolOptions_HeaderKeyFormat{HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{
		StatefulFormatter: &corev3.TypedExtensionConfig{
			Name:        "envoy.http.stateful_header_formatters.preserve_case",
			TypedConfig: pack(&preservecasev3.PreserveCaseFormatterConfig{ForwardReasonPhrase: true}),
		},
	}}
}
