package bootstrap_test

import (
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// shut is what a workload with HTTP on port 8080 is given when a policy lets nobody in: clusters and listeners, and then slots.
func shut(t *testing.T, ip string) (listeners, slots []proto.Message) {
	t.Helper()
	app := labels.SelectorFromSet(labels.Set{"app": "cart"})
	ix := model.NewIndex(&model.Snapshot{
		Pods: []*model.Pod{{
			Namespace: "shop", Name: "cart-1", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{netip.MustParseAddr(ip)},
			Ports: []model.ContainerPort{{Number: 8080, Protocol: model.TCP}},
		}},
		Services: []model.Service{{
			Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"},
			Ports: []model.ServicePort{{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: 8080}},
		}},
		Policies: []*model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: "nobody", UID: "1", Generation: 1},
			Action:    model.Allow, IsolatesIngress: true, Selector: app, Accepted: true,
		}},
	})
	for _, r := range translate.Translate(ix).Workloads[0].Resources {
		switch m := r.Message.(type) {
		case *corev3.TypedExtensionConfig:
			slots = append(slots, m)
		case *listenerv3.Listener:
			// Pods of one machine without network namespaces differ by address alone.
			l := proto.CloneOf(m)
			l.GetAddress().GetSocketAddress().Address = ip
			listeners = append(listeners, l)
		default:
			listeners = append(listeners, m)
		}
	}
	return listeners, slots
}

// nextAddress gives each pod of a test run an address of its own, so that tests run side by side although the sidecar's ports are fixed.
var nextAddress atomic.Uint32

func newAddress() string {
	n := nextAddress.Add(1)
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>8&0x7f, 1+pid&0x7f, n)
}
