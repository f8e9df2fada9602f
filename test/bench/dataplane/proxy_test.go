package dataplane_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/internal/rulemix"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// kind is one of the configurations that are compared. They stand in listeners that differ in nothing else.
type kind string

const (
	none    kind = "none"    // without a filter for RBAC
	refusal kind = "refusal" // without one too; the route answers 403, as a denied request never reaches the application
	product kind = "product" // what the control plane delivers
	plain   kind = "plain"   // a list of rules
)

// proxy is a listener for each kind, under an xDS server. What is delivered stands in one Envoy with what has no RBAC, so that both share a worker and
// its memory. The list has an Envoy of its own, whose many megabytes are not to disturb theirs.
type proxy struct {
	envoys                map[kind]*envoytest.Envoy
	sockets               map[kind]netip.AddrPort
	slotBytes, plainBytes int
}

const (
	nodeName = "callee"
	deadline = 2 * time.Minute // for configurations of many megabytes
	maxHeap  = 8 << 30         // a proxy short of memory would refuse requests
	// mostRanges is how many address ranges a list may hold before it is left out: it names a rule's callers in each rule anew.
	mostRanges = 2_000_000
)

func startProxy(b *testing.B, m rulemix.Mix, n int, withList bool) *proxy {
	b.Helper()
	p := &proxy{sockets: map[kind]netip.AddrPort{}}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, k := range []kind{none, refusal, product, plain} {
		p.sockets[k] = netip.AddrPortFrom(loopback, uint16(porttest.Free(b, loopback.String())))
	}
	snapshot := world(m, n, p.sockets[product], startApp(b))
	ix := model.NewIndex(snapshot)
	rules := list(b, ix, p.sockets[plain].Port())
	var delivered, listed []proto.Message
	for _, r := range callee(b, ix).Resources {
		delivered = append(delivered, r.Message)
		switch message := r.Message.(type) {
		case *corev3.TypedExtensionConfig:
			if message.GetName() == rbac.HTTPSlot {
				p.slotBytes = proto.Size(message)
			}
		case *listenerv3.Listener:
			for _, k := range []kind{none, refusal} {
				delivered = append(delivered, variant(b, message, k, p.sockets[k], nil))
			}
			listed = append(listed, variant(b, message, plain, p.sockets[plain], filters(b, rules)))
		case *clusterv3.Cluster:
			listed = append(listed, message)
		}
	}
	for _, r := range rules {
		p.plainBytes += proto.Size(r)
	}
	e := launch(b, delivered, 3)
	p.envoys = map[kind]*envoytest.Envoy{none: e, refusal: e, product: e}
	if withList && rules != nil {
		p.envoys[plain] = launch(b, listed, 1)
	}
	return p
}

// list is nil where it would be too large.
func list(b *testing.B, ix *model.Index, socket uint16) []*rbacv3.RBAC {
	b.Helper()
	resolved := rulemix.Resolve(ix, ix.Snapshot.Policies)
	ranges := 0
	for _, p := range resolved {
		for _, r := range p.Rules {
			if r.Sources != nil {
				ranges += len(r.Sources.Addresses) + len(r.Sources.Blocks)
			}
		}
	}
	if ranges > mostRanges {
		return nil
	}
	rules, err := rulemix.Plain(resolved, socket)
	if err != nil {
		b.Fatal(err)
	}
	return rules
}

// world is a callee in bound mode, its callers and policies.
func world(m rulemix.Mix, n int, listen, application netip.AddrPort) *model.Snapshot {
	set := rulemix.CalleeLabels()
	return &model.Snapshot{
		Namespaces: []model.Namespace{{Name: rulemix.Namespace, Labels: map[string]string{"kubernetes.io/metadata.name": rulemix.Namespace}}},
		Pods: append([]*model.Pod{{
			Namespace: rulemix.Namespace, Name: nodeName, Owner: nodeName, Labels: set,
			Ports: []model.ContainerPort{{Number: rulemix.Port, Protocol: model.TCP}},
			Proxy: model.ProxySettings{Injected: true, Bound: []model.BoundPort{{Port: rulemix.Port, Listen: listen, Application: application}}},
		}}, m.Pods()...),
		Services: []model.Service{{
			Namespace: rulemix.Namespace, Name: nodeName, Selector: set,
			Ports: []model.ServicePort{{Name: "http", Port: rulemix.Port, Protocol: model.TCP, TargetPort: rulemix.Port}},
		}},
		Policies: m.Policies(n),
	}
}

func callee(b *testing.B, ix *model.Index) translate.WorkloadOutput {
	b.Helper()
	w := ix.WorkloadOf(rulemix.Namespace, nodeName)
	for _, out := range translate.Translate(ix).Workloads {
		if out.Workload == w {
			return out
		}
	}
	b.Fatal("the callee has no configuration")
	return translate.WorkloadOutput{}
}

// filters are lists of rules that stand in the place of the slot.
func filters(b *testing.B, rules []*rbacv3.RBAC) []*hcmv3.HttpFilter {
	b.Helper()
	var out []*hcmv3.HttpFilter
	for _, r := range rules {
		out = append(out, &hcmv3.HttpFilter{
			Name: "envoy.filters.http.rbac", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: envoytest.Pack(b, r)},
		})
	}
	return out
}

// variant copies a listener to another address, with other filters instead of the slot.
func variant(b *testing.B, l *listenerv3.Listener, k kind, address netip.AddrPort, instead []*hcmv3.HttpFilter) *listenerv3.Listener {
	b.Helper()
	l = proto.CloneOf(l)
	l.Name = string(k)
	l.GetAddress().GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(address.Port())}
	for _, chain := range l.GetFilterChains() {
		for _, f := range chain.GetFilters() {
			hcm := &hcmv3.HttpConnectionManager{}
			if err := f.GetTypedConfig().UnmarshalTo(hcm); err != nil {
				b.Fatal(err)
			}
			if name := hcm.GetHttpFilters()[0].GetName(); name != rbac.HTTPSlot {
				b.Fatalf("the first filter is %s", name)
			}
			hcm.HttpFilters = append(instead, hcm.GetHttpFilters()[1:]...)
			if k == refusal {
				hcm.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].Action = &routev3.Route_DirectResponse{
					DirectResponse: &routev3.DirectResponseAction{Status: http.StatusForbidden, Body: &corev3.DataSource{
						Specifier: &corev3.DataSource_InlineString{InlineString: "RBAC: access denied"},
					}},
				}
			}
			f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: envoytest.Pack(b, hcm)}
		}
	}
	return l
}

// launch delivers resources as the product does, by its own cache and server over ADS, and waits until so many listeners listen.
func launch(b *testing.B, messages []proto.Message, listeners int64) *envoytest.Envoy {
	b.Helper()
	resources := make([]*xds.Resource, 0, len(messages))
	for _, m := range messages {
		r, err := xds.NewResource(m, nil)
		if err != nil {
			b.Fatal(err)
		}
		resources = append(resources, r)
	}
	id := rulemix.Namespace + "/" + nodeName
	cache := xds.NewCache(xds.Config{Salter: rbac.Salt, HoldTime: time.Millisecond})
	cache.Set(xds.Update{
		Workloads: map[string][]*xds.Resource{"w": resources}, Nodes: map[string][]xds.Node{"w": {{ID: id, UID: "1"}}},
	})
	server, err := xds.NewServer(cache, xds.ServerConfig{SendTimeout: deadline})
	if err != nil {
		b.Fatal(err)
	}
	admin := envoytest.AdminSocket(b)
	socket := "unix:" + filepath.Join(filepath.Dir(admin), "xds")
	l, err := xds.Listen(b.Context(), socket)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Stop(ctx)
	})
	config, err := bootstrap.Build(bootstrap.Config{Namespace: rulemix.Namespace, Pod: nodeName, Server: socket, Admin: "unix:" + admin, MaxHeapBytes: maxHeap})
	if err != nil {
		b.Fatal(err)
	}
	text, err := protojson.Marshal(config)
	if err != nil {
		b.Fatal(err)
	}
	e := envoytest.Start(b, string(text), admin)
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		// The main thread answers late while it reads a large configuration.
		if _, err = e.Admin(http.MethodGet, "/ready"); err == nil && e.Stat("listener_manager.total_listeners_active") >= listeners {
			return e
		}
		if time.Now().After(end) {
			b.Fatal(errors.Join(errors.New("the listeners do not listen"), err), e.Log())
		}
	}
}
