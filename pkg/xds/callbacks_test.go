package xds

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
)

// go-control-plane keeps the node of a stream's first request for the stream's life. An Envoy's lists more than a thousand extensions: only the id stays.
func TestOnlyTheNodesIDIsKept(t *testing.T) {
	t.Parallel()
	c := callbacks{cache: NewCache(Config{})}
	if err := c.OnDeltaStreamOpen(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: ListenerType, Node: &corev3.Node{
		Id: "shop/cart", UserAgentName: "other", Extensions: []*corev3.Extension{{Name: "a"}, {Name: "b"}},
	}}
	if err := c.OnStreamDeltaRequest(1, request); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&corev3.Node{Id: "shop/cart"}, request.GetNode(), protocmp.Transform()); diff != "" {
		t.Errorf("node (-want +got):\n%s", diff)
	}
}
