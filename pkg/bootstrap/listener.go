package bootstrap

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Limits of the listeners that the sidecar answers at by itself. Anyone on the network may reach them, so they hold nobody's connection for long.
const (
	ownTimeout      = 2 * time.Second
	ownHeadersKB    = 8
	ownHeadersCount = 32
	ownBufferBytes  = 16 << 10
)

// ownListener speaks HTTP/1.1 to whoever asks the sidecar itself, at the pod's address, whatever the address's family.
func ownListener(name string, port uint16, routes *routev3.RouteConfiguration, filters []*hcmv3.HttpFilter) (*listenerv3.Listener, error) {
	manager, err := pack(&hcmv3.HttpConnectionManager{
		StatPrefix: name, CodecType: hcmv3.HttpConnectionManager_HTTP1,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		HttpFilters:    filters,
		// A target that names a host as well is no path of ours.
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{AllowAbsoluteUrl: wrapperspb.Bool(false)},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(ownTimeout), MaxHeadersCount: wrapperspb.UInt32(ownHeadersCount),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		MaxRequestHeadersKb:        wrapperspb.UInt32(ownHeadersKB),
		RequestHeadersTimeout:      durationpb.New(ownTimeout),
		RequestTimeout:             durationpb.New(ownTimeout),
		StreamIdleTimeout:          durationpb.New(ownTimeout),
		DelayedCloseTimeout:        durationpb.New(time.Second),
		UseRemoteAddress:           wrapperspb.Bool(true),
		GenerateRequestId:          wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{
		Name: name, StatPrefix: name, Address: endpoint{host: podIP, port: port}.address(),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}}}},
		// An IPv6 address may still be checked for duplicates when the sidecar starts.
		Freebind:                      wrapperspb.Bool(true),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(ownBufferBytes),
		EnableReusePort:               wrapperspb.Bool(false),
		// Each has a limit of its own, so that callers of the application cannot shut it.
		IgnoreGlobalConnLimit: true,
	}, nil
}

// routed ends a list of filters.
func routed(filters ...*hcmv3.HttpFilter) ([]*hcmv3.HttpFilter, error) {
	router, err := pack(&routerv3.Router{SuppressEnvoyHeaders: true})
	if err != nil {
		return nil, err
	}
	return append(filters, &hcmv3.HttpFilter{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}), nil
}

func headerIs(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}

func exactly(value string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}}
}
