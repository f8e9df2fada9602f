package xds_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// grpcListener is a listener that gRPC's own client takes; with a listener filter it does not.
func grpcListener(t testing.TB, port int, path string, supported bool) *listenerv3.Listener {
	t.Helper()
	manager := &hcmv3.HttpConnectionManager{
		HttpFilters: []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})}}},
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{{
			Name: "v", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: path}},
				Action: &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}},
			}},
		}}}},
	}
	l := &listenerv3.Listener{
		Name: "inbound",
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Name: "all", Filters: []*listenerv3.Filter{{Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, manager)}}}}},
	}
	if !supported {
		l.UseOriginalDst = wrapperspb.Bool(true)
	}
	return l
}

// gRPC's own xDS client, which speaks the state of the world: what it takes is enforced, what it refuses is said to be refused, in its words and once, and what mends it
// arrives. It comes back to another replica with what it holds.
func TestGRPCsOwnClient(t *testing.T) {
	t.Parallel()
	r := start(t, socket(t), salter(true))
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	r.cache.Set(update(t, grpcListener(t, port, "/one", true)))

	serving := make(chan connectivity.ServingMode, 10)
	server, err := grpcxds.NewGRPCServer(
		grpcxds.BootstrapContentsForTesting(fmt.Appendf(nil, `{"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}]}], "node": {"id": %q},
			"server_listener_resource_name_template": "inbound"}`, r.path, node)),
		grpcxds.ServingModeCallback(func(_ net.Addr, change grpcxds.ServingModeChangeArgs) { serving <- change.Mode }),
		grpc.Creds(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })

	r.becomes("inbound", xds.StateEnforced)
	for mode := range serving {
		if mode == connectivity.ServingModeServing {
			break
		}
	}
	r.cache.Set(update(t, grpcListener(t, port, "/two", false)))
	r.becomes("inbound", xds.StateRefused)
	if text := r.resource("inbound").Text; !strings.Contains(text, "use_original_dst") {
		t.Errorf("the refusal says %q, want the client's own words", text)
	}
	r.cache.Set(update(t, grpcListener(t, port, "/three", true)))
	r.becomes("inbound", xds.StateEnforced)
	r.reconnect()
	r.becomes("inbound", xds.StateEnforced)
	r.cache.Set(update(t, grpcListener(t, port, "/four", true)))
	r.becomes("inbound", xds.StateEnforced)
}
