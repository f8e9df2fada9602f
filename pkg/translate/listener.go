package translate

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// connectionBufferBytes bounds what one connection may hold in memory in each direction (Envoy's edge guide).
const connectionBufferBytes = 32 << 10

// captured is the listener behind the redirect: one chain per known port, and one for every other port, chosen by the port that the caller dialled.
func (in *inbound) captured() *listenerv3.Listener {
	l := listener(inboundName, netip.AddrPortFrom(netip.IPv4Unspecified(), model.InboundPort))
	if in.IPv6 {
		l.AdditionalAddresses = []*listenerv3.AdditionalAddress{{Address: socket(netip.AddrPortFrom(netip.IPv6Unspecified(), model.InboundPort))}}
	}
	l.ListenerFilters = []*listenerv3.ListenerFilter{{
		Name:       "envoy.filters.listener.original_dst",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(&originaldstv3.OriginalDst{})},
	}}
	for _, c := range in.Chains {
		fc := in.filterChain(c, inboundName, ConnectSlot)
		fc.FilterChainMatch = &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(uint32(c.Port))}
		l.FilterChains = append(l.FilterChains, fc)
	}
	// The sidecar's own ports are nobody's business, and a connection addressed straight to the listener would be sent back to it, without end. A
	// chain without filters closes the connection.
	for number := model.ReservedFirst; number <= model.ReservedLast; number++ {
		l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{
			Name: "reserved/" + portText(number), FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(uint32(number))},
		})
	}
	l.DefaultFilterChain = in.filterChain(chain{Kind: chainTCP}, inboundName, ConnectSlot)
	return l
}

// bound is the listener of one port of a proxy that no redirect stands before.
func (in *inbound) bound(b model.BoundPort, c chain) *listenerv3.Listener {
	l := listener(boundName(b.Port), b.Listen)
	l.FilterChains = []*listenerv3.FilterChain{in.filterChain(c, boundName(b.Port), boundConnectSlot(b.Port))}
	return l
}

func listener(name string, address netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:                          name,
		Address:                       socket(address),
		StatPrefix:                    inboundName,
		TrafficDirection:              corev3.TrafficDirection_INBOUND,
		PerConnectionBufferLimitBytes: wrapperspb.UInt32(connectionBufferBytes),
		// With SO_REUSEPORT another process of the same user could bind the same port and be given half of the connections, unfenced. Without it
		// the second bind fails: a proxy that starts while its predecessor still runs is refused the socket, and says so.
		EnableReusePort: wrapperspb.Bool(false),
	}
}

func (in *inbound) filterChain(c chain, cluster, connectSlot string) *listenerv3.FilterChain {
	fc := &listenerv3.FilterChain{Name: c.name()}
	switch c.Kind {
	case chainHTTP:
		fc.Filters = []*listenerv3.Filter{httpConnectionManager(in.HTTP, cluster)}
	case chainTCP:
		fc.Filters = []*listenerv3.Filter{tcpRBAC(), networkSlot(connectSlot, tcpProxy(cluster, connectOnFirstByte))}
	case chainServerFirst:
		fc.Filters = []*listenerv3.Filter{tcpRBAC(), packFilter("envoy.filters.network.tcp_proxy", tcpProxy(cluster, connectAtOnce))}
	}
	return fc
}

func (c chain) name() string {
	if c.Port == 0 {
		return string(c.Kind) + "/other"
	}
	return string(c.Kind) + "/" + portText(c.Port)
}

func socket(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func packFilter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(m)}}
}

// pack puts a message into an Any, with the same bytes every time. Marshalling fails only on strings that are not UTF-8, and all strings in
// listeners and clusters are ours.
func pack(m proto.Message) *anypb.Any {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("pack " + string(m.ProtoReflect().Descriptor().FullName()) + ": " + err.Error())
	}
	return out
}
