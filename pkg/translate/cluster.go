package translate

import (
	"math"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	connectTimeout = 5 * time.Second
	// applicationIdleTimeout is below the keep-alive timeouts of common HTTP servers (2 s and more), so that Envoy seldom writes a request to a
	// connection that the application is just closing: requests are not repeated, and a new local connection costs next to nothing.
	applicationIdleTimeout = time.Second
)

// originalDestination leads to the address and port that the caller dialled.
func originalDestination() *clusterv3.Cluster {
	c := cluster(inboundName)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	return c
}

// application leads to the application's own socket.
func application(name string, address netip.AddrPort) *clusterv3.Cluster {
	c := cluster(name)
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socket(address)}}}},
	}}}
	return c
}

// cluster has no retries and no outlier detection: there is one application, and a request that it may have seen must not be repeated.
func cluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(connectTimeout),
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBufferBytes),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			unlimited(corev3.RoutingPriority_DEFAULT), unlimited(corev3.RoutingPriority_HIGH),
		}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(upstreamHTTP()),
		},
	}
}

// unlimited lifts Envoy's default of 1,024 connections and requests: how much the application takes is the application's to say. What reaches it
// is bounded by the proxy's connection limit and heap.
func unlimited(priority corev3.RoutingPriority) *clusterv3.CircuitBreakers_Thresholds {
	most := wrapperspb.UInt32(math.MaxUint32)
	return &clusterv3.CircuitBreakers_Thresholds{
		Priority: priority, MaxConnections: most, MaxPendingRequests: most, MaxRequests: most, MaxRetries: wrapperspb.UInt32(0),
	}
}

// upstreamHTTP speaks to the application as its caller speaks to the proxy.
func upstreamHTTP() *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(applicationIdleTimeout)},
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{EnableTrailers: true, HeaderKeyFormat: preserveCase()},
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
					InitialStreamWindowSize:     wrapperspb.UInt32(streamWindowBytes),
					InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindowBytes),
				},
			},
		},
	}
}
