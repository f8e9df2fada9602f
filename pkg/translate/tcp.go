package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// connectMode says when a TCP chain connects to the application. Envoy's network RBAC filter decides at the caller's first byte, so only
// connectOnFirstByte keeps a denied caller from causing a connection and from being greeted by an application that speaks first.
type connectMode string

const (
	connectAtOnce      connectMode = "at-once"
	connectOnFirstByte connectMode = "on-first-byte"
)

// earlyDataBytes is how much a caller may send before the application has been reached.
const earlyDataBytes = 16 << 10

const tcpStatPrefix = "inbound_tcp"

// connectInput is all that the content of a connect slot depends on.
type connectInput struct {
	slot, cluster string
	mode          connectMode
}

func connectSlot(in connectInput) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: in.slot, TypedConfig: pack(tcpProxy(in.cluster, in.mode))}
}

func tcpProxy(cluster string, mode connectMode) *tcpproxyv3.TcpProxy {
	p := &tcpproxyv3.TcpProxy{
		StatPrefix:       tcpStatPrefix,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
		// The application is local: if it does not take the connection now, the caller should know.
		MaxConnectAttempts: wrapperspb.UInt32(1),
		AccessLog:          tcpAccessLog(),
	}
	if mode == connectOnFirstByte {
		p.UpstreamConnectMode = tcpproxyv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
		p.MaxEarlyDataBytes = wrapperspb.UInt32(earlyDataBytes)
	}
	return p
}
