package rbac_test

import (
	"net/netip"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// startProxy runs one Envoy with the listeners of every workload of a snapshot that listens (bound mode, each with ports of its own). The
// content of the slots stands in the listeners themselves, so that nothing has to be served.
func startProxy(t testing.TB, ix *model.Index) *envoytest.Envoy {
	t.Helper()
	admin := envoytest.AdminSocket(t)
	config, err := bootstrap.Build(bootstrap.Config{Namespace: "test", Pod: "test", Server: "unix:/nowhere", Admin: "unix:" + admin})
	if err != nil {
		t.Fatal(err)
	}
	config.DynamicResources = nil
	static := config.GetStaticResources()
	static.Clusters = nil
	for _, w := range translate.Translate(ix).Workloads {
		if len(w.Workload.Proxy.Bound) == 0 {
			continue
		}
		slots := map[string]*anypb.Any{}
		for _, r := range w.Resources {
			if slot, ok := r.Message.(*corev3.TypedExtensionConfig); ok {
				slots[slot.GetName()] = slot.GetTypedConfig()
			}
		}
		for _, r := range w.Resources {
			switch m := r.Message.(type) {
			case *clusterv3.Cluster:
				static.Clusters = append(static.Clusters, m)
			case *listenerv3.Listener:
				static.Listeners = append(static.Listeners, fillSlots(t, m, slots))
			}
		}
	}
	text, err := protojson.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, string(text), admin)
	e.Listening()
	return e
}

// ownSocket is a free socket on a loopback address that is used once in this test: two that were free a moment ago must not be the same.
func ownSocket(t testing.TB, suite, n int) netip.AddrPort {
	t.Helper()
	const perOctet = 250
	a := netip.AddrFrom4([4]byte{127, byte(suite), byte(n / perOctet), byte(n%perOctet + 1)})
	return netip.AddrPortFrom(a, uint16(porttest.Free(t, a.String())))
}

// fillSlots replaces every subscription of a listener by its content.
func fillSlots(t testing.TB, l *listenerv3.Listener, slots map[string]*anypb.Any) *listenerv3.Listener {
	t.Helper()
	l = proto.CloneOf(l)
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			if slot := slots[f.GetName()]; slot != nil {
				f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: slot}
			}
			hcm := &hcmv3.HttpConnectionManager{}
			if !f.GetTypedConfig().MessageIs(hcm) {
				continue
			}
			if err := f.GetTypedConfig().UnmarshalTo(hcm); err != nil {
				t.Fatal(err)
			}
			for _, h := range hcm.GetHttpFilters() {
				if slot := slots[h.GetName()]; slot != nil {
					h.ConfigType = &hcmv3.HttpFilter_TypedConfig{TypedConfig: slot}
				}
			}
			packed, err := anypb.New(hcm)
			if err != nil {
				t.Fatal(err)
			}
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed}
		}
	}
	return l
}
