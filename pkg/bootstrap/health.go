package bootstrap

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/health_check/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	healthName = "health"
	// Whoever wants to keep the kubelet out must open thousands of connections in a second, and they cost little.
	healthConnections = 4096
	healthyPercent    = 100
)

// healthListener answers by itself, from what it knows, and has no route to anywhere. It stands where the kubelet asks, and must answer while the
// proxy refuses others' requests: a probe that failed then would restart the application.
func healthListener(probes []Probe) (*listenerv3.Listener, error) {
	filters, err := healthFilters(probes)
	if err != nil {
		return nil, err
	}
	l, err := ownListener(healthName, HealthPort, &routev3.RouteConfiguration{Name: "none"}, filters)
	if err != nil {
		return nil, err
	}
	l.BypassOverloadManager = true
	return l, nil
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
	return routed(out...)
}

// healthCheck answers GET and HEAD of one path, without asking anyone.
func healthCheck(path string) *healthv3.HealthCheck {
	return &healthv3.HealthCheck{
		PassThroughMode: wrapperspb.Bool(false),
		Headers: []*routev3.HeaderMatcher{
			headerIs(":path", exactly(path)),
			headerIs(":method", &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "GET|HEAD"}}}),
		},
	}
}
