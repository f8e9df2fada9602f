package bootstrap

import (
	"fmt"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	heapMonitor        = "envoy.resource_monitors.fixed_heap"
	connectionsMonitor = "envoy.resource_monitors.global_downstream_max_connections"
	overloadInterval   = 250 * time.Millisecond
	shrinkHeapAt       = 0.90
	refuseRequestsAt   = 0.95
	// regexProgramSize is the size of an RE2 program above which Envoy refuses it. The default of 100 is too small for the patterns that deny every
	// spelling of a path; what exceeds this one is refused before it is sent.
	regexProgramSize = 1000
)

// overload refuses work before the kernel kills the proxy, and bounds connections, which Envoy by default does not.
func (c *Config) overload() (*overloadv3.OverloadManager, error) {
	heap, err := pack(&heapv3.FixedHeapConfig{MaxHeapSizeBytes: c.MaxHeapBytes})
	if err != nil {
		return nil, err
	}
	connections, err := pack(&connectionsv3.DownstreamConnectionsConfig{MaxActiveDownstreamConnections: c.MaxConnections})
	if err != nil {
		return nil, err
	}
	return &overloadv3.OverloadManager{
		RefreshInterval: durationpb.New(overloadInterval),
		ResourceMonitors: []*overloadv3.ResourceMonitor{
			{Name: heapMonitor, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: heap}},
			{Name: connectionsMonitor, ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: connections}},
		},
		Actions: []*overloadv3.OverloadAction{
			atHeap("envoy.overload_actions.shrink_heap", shrinkHeapAt),
			atHeap("envoy.overload_actions.stop_accepting_requests", refuseRequestsAt),
		},
	}, nil
}

func atHeap(action string, threshold float64) *overloadv3.OverloadAction {
	return &overloadv3.OverloadAction{Name: action, Triggers: []*overloadv3.Trigger{{
		Name: heapMonitor, TriggerOneof: &overloadv3.Trigger_Threshold{Threshold: &overloadv3.ThresholdTrigger{Value: threshold}},
	}}}
}

func runtimeLayer() (*bootstrapv3.LayeredRuntime, error) {
	layer, err := structpb.NewStruct(map[string]any{
		"re2.max_program_size.error_level": regexProgramSize,
		"re2.max_program_size.warn_level":  regexProgramSize,
	})
	if err != nil {
		return nil, fmt.Errorf("build the runtime layer: %w", err)
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: layer},
	}}}, nil
}

// stats keeps what says whether configuration arrives, what is decided, and how the proxy is. Every other statistic costs memory in every pod.
func stats() *metricsv3.StatsConfig {
	var keep []*matcherv3.StringMatcher
	for _, prefix := range []string{
		"listener_manager.", "cluster_manager.", "control_plane.", "extension_config_discovery.", "server.", "overload.", "runtime.",
		"listener.inbound.", "listener.admin.", "listener.health.", "listener.metrics.", "http.inbound_http.", "tcp.inbound_tcp.", "inbound_tcp", "cluster.inbound", "cluster." + XDSCluster + ".", "cluster." + metricsName + ".upstream_rq_",
	} {
		keep = append(keep, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}})
	}
	// Probes are answered by the numbers of members and of healthy ones: without these statistics they would fail for ever.
	for _, part := range []string{"rbac.", ".membership_healthy", ".membership_total", ".health_check."} {
		keep = append(keep, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: part}})
	}
	return &metricsv3.StatsConfig{StatsMatcher: &metricsv3.StatsMatcher{
		StatsMatcher: &metricsv3.StatsMatcher_InclusionList{InclusionList: &matcherv3.ListStringMatcher{Patterns: keep}},
	}}
}
