package bootstrap

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// MetricsPort is where a sidecar shows its statistics: MetricsPath, to whom the slot model.MetricsSlot lets in.
	MetricsPort = model.MetricsPort
	// MetricsPath is the only thing that is served there.
	MetricsPath = "/stats/prometheus"

	metricsName = "metrics"
	// Envoy writes the statistics on its main thread, which also takes up configuration: a scraper or two ask every few seconds.
	metricsConnections = 64
	metricsAtOnce      = 2
	metricsBurst       = 10
	metricsPerSecond   = 2
	metricsTimeout     = 10 * time.Second

	rateLimitFilter = "envoy.filters.http.local_ratelimit"
)

// metricsListener leads one request to the admin interface, spelled in one way, and whatever else is asked nowhere: 404. Who may ask is for the
// control plane to say, in a slot; until it has, nobody may.
func metricsListener() (*listenerv3.Listener, error) {
	who, err := metricsSlot()
	if err != nil {
		return nil, err
	}
	limit, err := pack(&ratelimitv3.LocalRateLimit{StatPrefix: metricsName})
	if err != nil {
		return nil, err
	}
	filters, err := routed(who, &hcmv3.HttpFilter{Name: rateLimitFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: limit}})
	if err != nil {
		return nil, err
	}
	route, err := metricsRoute()
	if err != nil {
		return nil, err
	}
	return ownListener(metricsName, MetricsPort, &routev3.RouteConfiguration{
		Name: metricsName, VirtualHosts: []*routev3.VirtualHost{{Name: metricsName, Domains: []string{"*"}, Routes: []*routev3.Route{route}}},
	}, filters)
}

// metricsRoute compares the target as it was sent, its query included: the admin interface reads paths and queries in its own way, and must see no
// other than this one.
func metricsRoute() (*routev3.Route, error) {
	whole := &typev3.FractionalPercent{Numerator: 100}
	limit, err := pack(&ratelimitv3.LocalRateLimit{
		StatPrefix: metricsName,
		TokenBucket: &typev3.TokenBucket{
			MaxTokens: metricsBurst, TokensPerFill: wrapperspb.UInt32(metricsPerSecond), FillInterval: durationpb.New(time.Second),
		},
		FilterEnabled:  &corev3.RuntimeFractionalPercent{DefaultValue: whole},
		FilterEnforced: &corev3.RuntimeFractionalPercent{DefaultValue: whole},
	})
	if err != nil {
		return nil, err
	}
	return &routev3.Route{
		Match: &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_Path{Path: MetricsPath},
			Headers:       []*routev3.HeaderMatcher{headerIs(":path", exactly(MetricsPath)), headerIs(":method", exactly("GET"))},
		},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: metricsName}, Timeout: durationpb.New(metricsTimeout),
			MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(metricsTimeout)},
		}},
		TypedPerFilterConfig: map[string]*anypb.Any{rateLimitFilter: limit},
	}, nil
}

// metricsSlot is the place of the slot. It is not waited for: a sidecar is ready without scrapers.
func metricsSlot() (*hcmv3.HttpFilter, error) {
	nobody, err := pack(&rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}})
	if err != nil {
		return nil, err
	}
	return &hcmv3.HttpFilter{Name: model.MetricsSlot, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{ConfigDiscovery: &corev3.ExtensionConfigSource{
		ConfigSource: overADS(), DefaultConfig: nobody, ApplyDefaultConfigWithoutWarming: true, TypeUrls: []string{nobody.GetTypeUrl()},
	}}}, nil
}

// metricsCluster leads to the admin interface. Who comes while as many as may are answered is refused, and not kept waiting.
func metricsCluster(admin string) *clusterv3.Cluster {
	few := wrapperspb.UInt32(metricsAtOnce)
	return &clusterv3.Cluster{
		Name:                 metricsName,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(connectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: metricsName, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: endpoint{path: admin}.address()}}}},
		}}},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections: few, MaxPendingRequests: few, MaxRequests: few, MaxRetries: wrapperspb.UInt32(0),
		}}},
	}
}
