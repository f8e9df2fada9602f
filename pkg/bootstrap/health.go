package bootstrap

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Limits of the listener that answers the kubelet. Anyone on the network may reach it, so it holds nobody's connection for long: whoever wants to
// keep the kubelet out must open thousands in a second, and they cost little.
const (
	healthName         = "health"
	healthConnections  = 4096
	healthTimeout      = 2 * time.Second
	healthHeadersKB    = 8
	healthHeadersCount = 32
	healthBufferBytes  = 16 << 10
	healthyPercent     = 100
)

// healthListener answers by itself, from what it knows, and has no route to anywhere. It stands at the pod's address, where the kubelet asks,
// whatever the address's family. It must answer while the proxy refuses others' requests: a probe that failed then would restart the application.
func healthListener(probes []Probe) (*listenerv3.Listener, error) {
	filters, err := healthFilters(probes)
	if err != nil {
		return nil, err
	}
	manager, err := pack(&hcmv3.HttpConnectionManager{
		StatPrefix: healthName, CodecType: hcmv3.HttpConnectionManager_HTTP1,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "none"}},
		HttpFilters:    filters,
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout: durationpb.New(healthTimeout), MaxHeadersCount: wrapperspb.UInt32(healthHeadersCount),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		MaxRequestHeadersKb:        wrapperspb.UInt32(healthHeadersKB),
		RequestHeadersTimeout:      durationpb.New(healthTimeout),
		RequestTimeout:             durationpb.New(healthTimeout),
		StreamIdleTimeout:          durationpb.New(healthTimeout),
		DelayedCloseTimeout:        durationpb.New(time.Second),
		UseRemoteAddress:           wrapperspb.Bool(true),
		GenerateRequestId:          wrapperspb.Bool(false),
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{
		Name: healthName, StatPrefix: healthName, Address: endpoint{host: podIP, port: HealthPort}.address(),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}}}},
		// An IPv6 address may still be checked for duplicates when the sidecar starts.
		Freebind:                      wrapperspb.Bool(true),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(healthBufferBytes),
		EnableReusePort:               wrapperspb.Bool(false),
		IgnoreGlobalConnLimit:         true,
		BypassOverloadManager:         true,
	}, nil
}

// healthFilters are one per path, and the router, which finds no route: 404.
func healthFilters(probes []Probe) ([]*hcmv3.HttpFilter, error) {
	checks := []*healthv3.HealthCheck{healthCheck(ReadyPath)}
	for _, p := range probes {
		check := healthCheck(literal(ProbePath(p.Name)))
		check.ClusterMinHealthyPercentages = map[string]*typev3.Percent{probeCluster(p.Name): {Value: healthyPercent}}
		checks = append(checks, check)
	}
	out := make([]*hcmv3.HttpFilter, 0, len(checks)+1)
	for _, check := range checks {
		config, err := pack(check)
		if err != nil {
			return nil, err
		}
		out = append(out, &hcmv3.HttpFilter{Name: "envoy.filters.http.health_check", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}})
	}
	router, err := pack(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	return append(out, &hcmv3.HttpFilter{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}), nil
}

// healthCheck answers GET and HEAD of one path, without asking anyone.
func healthCheck(path string) *healthv3.HealthCheck {
	return &healthv3.HealthCheck{
		PassThroughMode: wrapperspb.Bool(false),
		Headers: []*routev3.HeaderMatcher{
			headerIs(":path", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: path}}),
			headerIs(":method", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "GET|HEAD"}}}),
		},
	}
}

func headerIs(name string, m *matcherv3.StringMatcher) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: m}}
}
