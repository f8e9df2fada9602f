package bootstrap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	connectTimeout = 5 * time.Second
	// A half-open connection to the control plane is noticed within their sum.
	keepaliveInterval = 20 * time.Second
	keepaliveTimeout  = 10 * time.Second
	reconnectFirst    = 200 * time.Millisecond
	reconnectMax      = 5 * time.Second
	nameServerSeconds = 1
	nameServerTries   = 2
	// maxSocketPath is what a UNIX socket's address holds on Linux, without the final NUL.
	maxSocketPath = 107
)

// endpoint is an address to dial or to listen on: a path, or a host and a port.
type endpoint struct {
	path, host string
	port       uint16
}

func parseEndpoint(s string) (endpoint, error) {
	if path, found := strings.CutPrefix(s, "unix:"); found {
		path = "/" + strings.TrimLeft(path, "/")
		if path == "/" || len(path) > maxSocketPath {
			return endpoint{}, fmt.Errorf("%q: want unix:/path with a path of at most %d bytes", s, maxSocketPath)
		}
		return endpoint{path: path}, nil
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return endpoint{}, fmt.Errorf("%q: want host:port or unix:/path: %w", s, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || host == "" {
		return endpoint{}, fmt.Errorf("%q: want a host and a port between 1 and 65535", s)
	}
	return endpoint{host: host, port: uint16(port)}, nil
}

// local says whether the endpoint can only be on this machine. The name localhost does not: a resolver decides what it means.
func (e endpoint) local() bool {
	a, err := netip.ParseAddr(e.host)
	return e.path != "" || err == nil && a.IsLoopback()
}

func (e endpoint) address() *corev3.Address {
	if e.path != "" {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: e.host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(e.port)},
	}}}
}

// discover says how the cluster finds the endpoint. A name is resolved again and again; one that cannot be is tried again soon, and a name server is
// not waited for as long as by default (20 s): a pod often starts before the network lets it reach one.
func (e endpoint) discover(c *clusterv3.Cluster) error {
	if _, err := netip.ParseAddr(e.host); err == nil || e.path != "" {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		return nil
	}
	resolver, err := pack(&caresv3.CaresDnsResolverConfig{
		QueryTimeoutSeconds: wrapperspb.UInt64(nameServerSeconds), QueryTries: wrapperspb.UInt32(nameServerTries),
	})
	if err != nil {
		return err
	}
	config, err := pack(&dnsv3.DnsCluster{
		TypedDnsResolverConfig: &corev3.TypedExtensionConfig{Name: "envoy.network.dns_resolver.cares", TypedConfig: resolver},
		DnsFailureRefreshRate:  &dnsv3.DnsCluster_RefreshRate{BaseInterval: durationpb.New(reconnectFirst), MaxInterval: durationpb.New(reconnectMax)},
	})
	if err != nil {
		return err
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{Name: "envoy.clusters.dns", TypedConfig: config}}
	return nil
}

// admin refuses every address that others could reach.
func (c *Config) admin() (*bootstrapv3.Admin, error) {
	e, err := parseEndpoint(c.Admin)
	if err != nil {
		return nil, fmt.Errorf("admin address %w", err)
	}
	if !e.local() {
		return nil, fmt.Errorf("admin address %q is open to the network: want unix:/path or a loopback address", c.Admin)
	}
	// The limit on callers' connections must not shut out the one who looks why it was reached.
	admin := &bootstrapv3.Admin{Address: e.address(), IgnoreGlobalConnLimit: true}
	if e.path != "" {
		admin.GetAddress().GetPipe().Mode = 0o600
	}
	return admin, nil
}

// xdsCluster leads to the control plane over HTTP/2, with keepalives, and in clear text only within this machine.
func (c *Config) xdsCluster() (*clusterv3.Cluster, error) {
	server, err := parseEndpoint(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server %w", err)
	}
	protocol := http2(&corev3.KeepaliveSettings{Interval: durationpb.New(keepaliveInterval), Timeout: durationpb.New(keepaliveTimeout)})
	if c.TokenFile != "" {
		if protocol.HttpFilters, err = tokenFilters(c.TokenFile); err != nil {
			return nil, err
		}
	}
	options, err := pack(protocol)
	if err != nil {
		return nil, err
	}
	cluster := &clusterv3.Cluster{
		Name:           XDSCluster,
		ConnectTimeout: durationpb.New(connectTimeout),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: XDSCluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: server.address()}},
			}},
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{upstreamOptions: options},
	}
	if err := server.discover(cluster); err != nil {
		return nil, err
	}
	if c.TLS == nil {
		if !server.local() {
			return nil, fmt.Errorf("server %q is reached over the network: want TLS, a loopback address or unix:/path", c.Server)
		}
		return cluster, nil
	}
	if cluster.TransportSocket, err = c.TLS.socket(server); err != nil {
		return nil, err
	}
	return cluster, nil
}

// socket accepts a server whose certificate the CA signed and which carries the expected name: a CA alone would take any of its certificates.
func (t *TLS) socket(server endpoint) (*corev3.TransportSocket, error) {
	name := t.ServerName
	if name == "" {
		name = server.host
	}
	if name == "" || (t.CAFile == "") == (t.CA == "") {
		return nil, errors.New("TLS wants a CA file or a CA, and a server name where the server is a socket")
	}
	ca := &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: t.CA}}
	if t.CAFile != "" {
		ca = &corev3.DataSource{
			Specifier:        &corev3.DataSource_Filename{Filename: t.CAFile},
			WatchedDirectory: &corev3.WatchedDirectory{Path: filepath.Dir(t.CAFile)},
		}
	}
	sanType, sni := tlsv3.SubjectAltNameMatcher_DNS, name
	if a, err := netip.ParseAddr(name); err == nil {
		sanType, sni, name = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, "", a.String()
	}
	config, err := pack(&tlsv3.UpstreamTlsContext{
		Sni: sni,
		CommonTlsContext: &tlsv3.CommonTlsContext{
			// Both ends: the default maximum of a client is TLS 1.2, below this minimum.
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			AlpnProtocols: []string{"h2"},
			ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
				TrustedCa: ca,
				MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
					SanType: sanType, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
				}},
			}},
		},
	})
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
	}, nil
}

const upstreamOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// http2 speaks HTTP/2 and nothing else, with keepalives if there are settings for them.
func http2(keepalive *corev3.KeepaliveSettings) *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
		ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
				Http2ProtocolOptions: &corev3.Http2ProtocolOptions{ConnectionKeepalive: keepalive},
			},
		},
	}}
}

// pack fails on strings that are not UTF-8: names and paths are given by users.
func pack(m proto.Message) (*anypb.Any, error) {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("pack %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return out, nil
}
