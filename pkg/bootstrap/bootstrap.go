// Package bootstrap builds the configuration that a sidecar's Envoy starts with: who it is, where its control plane is, and the limits that no
// control plane can lift. Input: a Config, or a Sidecar for a pod in a cluster. Output: a bootstrapv3.Bootstrap. One entry point for each: Build
// and BuildSidecar.
package bootstrap

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Config is what Build needs to know.
type Config struct {
	// Namespace and Pod name the proxy. The control plane checks the claim against what the connection proves.
	Namespace, Pod string
	// Server is the control plane's address: "host:port", or "unix:/path" for a socket.
	Server string
	// Protocol is how resources are asked for. Default: DeltaGRPC.
	Protocol Protocol
	// TLS secures the connection to the control plane. Without it the server must be on this machine.
	TLS *TLS
	// Token is sent as a bearer token, if not empty.
	Token string
	// TokenFile is read in place of Token, and again when its folder changes.
	TokenFile string
	// Admin is where the admin interface listens: "unix:/path", or a loopback "address:port" for people. It is never open to the network: it can
	// stop the proxy and shows its configuration.
	Admin string
	// MaxHeapBytes is the heap at which the proxy refuses requests rather than be killed. Default: DefaultMaxHeapBytes.
	MaxHeapBytes uint64
	// MaxConnections bounds the callers' connections. Default: DefaultMaxConnections.
	MaxConnections int64
}

// TLS says how the control plane proves who it is.
type TLS struct {
	CAFile     string // PEM; read again when its folder changes
	CA         string // PEM, in place of a file
	ServerName string // the name or address in the server's certificate; default: the host of Config.Server
}

// Protocol is a variant of xDS.
type Protocol string

const (
	// DeltaGRPC asks for changes only, and names what it holds when it reconnects.
	DeltaGRPC Protocol = "delta"
	// StateOfTheWorld asks for everything each time.
	StateOfTheWorld Protocol = "sotw"
)

// Defaults for a sidecar.
const (
	DefaultMaxHeapBytes   uint64 = 512 << 20
	DefaultMaxConnections int64  = 20_000
)

// XDSCluster is the name of the cluster that leads to the control plane.
const XDSCluster = "xds"

// Build makes the bootstrap, or says what is wrong with the Config.
func Build(c Config) (*bootstrapv3.Bootstrap, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	admin, err := c.admin()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	xds, err := c.xdsCluster()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	overload, err := c.overload()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	runtime, err := runtimeLayer()
	if err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}
	return &bootstrapv3.Bootstrap{
		Node:             &corev3.Node{Id: c.Namespace + "/" + c.Pod, Cluster: c.Namespace},
		Admin:            admin,
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{xds}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: c.ads(), LdsConfig: overADS(), CdsConfig: overADS()},
		OverloadManager:  overload,
		LayeredRuntime:   runtime,
		StatsConfig:      stats(),
	}, nil
}

// complete checks what is required and fills in the defaults.
func (c *Config) complete() error {
	switch {
	case !isName(c.Namespace, podNamespace):
		return fmt.Errorf("namespace %q: want the name of a namespace: lower-case letters, digits and dashes", c.Namespace)
	case !isName(c.Pod, podName):
		return fmt.Errorf("pod %q: want the name of a pod: lower-case letters, digits, dashes and dots", c.Pod)
	case c.Server == "":
		return errors.New("no server: want host:port or unix:/path")
	case c.Admin == "":
		return errors.New("no admin address: want unix:/path or a loopback address:port")
	case strings.ContainsAny(c.Token, "\r\n\x00"):
		return errors.New("the token holds a line break or a NUL")
	case strings.ContainsAny(c.TokenFile, "():%\r\n\x00"), c.TokenFile != "" && !filepath.IsAbs(c.TokenFile):
		return fmt.Errorf("token file %q: want an absolute path without colon, parenthesis and percent sign", c.TokenFile)
	case c.Token != "" && c.TokenFile != "":
		return errors.New("a token and a token file: want one of them")
	}
	switch c.Protocol {
	case "":
		c.Protocol = DeltaGRPC
	case DeltaGRPC, StateOfTheWorld:
	default:
		return fmt.Errorf("protocol %q: want %q or %q", c.Protocol, DeltaGRPC, StateOfTheWorld)
	}
	if c.MaxHeapBytes == 0 {
		c.MaxHeapBytes = DefaultMaxHeapBytes
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.MaxConnections < 0 {
		return fmt.Errorf("max connections %d: want a positive number", c.MaxConnections)
	}
	return nil
}

// isName says whether the control plane would take a name, or the kubelet replaces it by one.
func isName(name, variable string) bool {
	return name == variable || len(validation.IsDNS1123Subdomain(name)) == 0
}

// ads is the one stream that everything arrives on.
func (c *Config) ads() *corev3.ApiConfigSource {
	api := corev3.ApiConfigSource_DELTA_GRPC
	if c.Protocol == StateOfTheWorld {
		api = corev3.ApiConfigSource_GRPC
	}
	service := &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
		ClusterName: XDSCluster,
		// Jittered between these: back soon after a restart of the control plane, and not all at once.
		RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
			BaseInterval: durationpb.New(reconnectFirst), MaxInterval: durationpb.New(reconnectMax),
		}},
	}}}
	if c.Token != "" {
		// A percent sign starts a formatter.
		authorization := "Bearer " + strings.ReplaceAll(c.Token, "%", "%%")
		service.InitialMetadata = []*corev3.HeaderValue{{Key: "authorization", Value: authorization}}
	}
	return &corev3.ApiConfigSource{
		ApiType: api, TransportApiVersion: corev3.ApiVersion_V3, GrpcServices: []*corev3.GrpcService{service}, SetNodeOnFirstMessageOnly: true,
	}
}

// overADS waits for the first listeners and clusters without a time limit: the proxy is not ready before they have come, and a pod that is gated
// on it does not start in front of a proxy that refuses everything.
func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}
