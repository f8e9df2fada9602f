package xds

import (
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// A proxy that subscribes to ever other names, and drops them again, makes the server keep none of them.
func TestNamesThatComeAndGoAreNotKept(t *testing.T) {
	t.Parallel()
	c := NewCache(Config{})
	s := &stream{protocol: incremental, link: newLink(nil)}
	c.streams[s] = struct{}{}
	dropped := []string(nil)
	for i := range 3 * maxNames {
		name := fmt.Sprint("name-", i)
		if err := c.requestDelta(s, &discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: "shop/cart"}, TypeUrl: ClusterType, ResourceNamesSubscribe: []string{"*", name}, ResourceNamesUnsubscribe: dropped,
		}); err != nil {
			t.Fatal(err)
		}
		dropped = []string{name}
	}
	sub := s.subs[clusters]
	if n := len(sub.wanted.SubscribedResources()) + len(sub.wanted.ReturnedResources()) + len(sub.held); n > 1 {
		t.Errorf("%d names are kept, want the last one", n)
	}
}
