package bootstrap

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Probe is one probe of the application. The sidecar asks the application by itself, at its own pace, and answers the kubelet with what it last
// saw: no request from outside ever causes one to the application, and policies have no say.
type Probe struct {
	// Name tells the probes of a pod apart; the kubelet asks for ProbePath(Name).
	Name string
	Kind ProbeKind
	// Port is the application's, at the pod's address: where the kubelet would have asked.
	Port uint16
	// Path (with its query), Host, Headers and Scheme are for HTTP. The default Host is the pod's address and port, as the kubelet sends it.
	Path    string
	Host    string
	Headers []ProbeHeader
	Scheme  ProbeScheme
	// GRPCService is the name in the health request of gRPC.
	GRPCService string
	// Interval is the kubelet's period: a healthy application is asked twice in it, but at most once a second.
	Interval time.Duration
	// Timeout is how long the application may take to answer.
	Timeout time.Duration
}

// ProbeHeader is a header that an HTTP probe sends. A name may come more than once.
type ProbeHeader struct{ Name, Value string }

// ProbeKind is what a probe speaks.
type ProbeKind string

// Kinds of probes.
const (
	ProbeHTTP ProbeKind = "HTTP" // healthy if the status is 200 to 399; a redirection is not followed
	ProbeTCP  ProbeKind = "TCP"  // healthy if it accepts connections
	ProbeGRPC ProbeKind = "GRPC" // healthy if it says SERVING (grpc.health.v1)
)

// ProbeScheme is HTTP or HTTPS; the certificate is not checked, as the kubelet does not.
type ProbeScheme string

// Schemes of HTTP probes. The default is HTTP.
const (
	SchemeHTTP  ProbeScheme = "HTTP"
	SchemeHTTPS ProbeScheme = "HTTPS"
)

// The kubelet's own defaults, and the fastest that it asks.
const (
	defaultProbeInterval = 10 * time.Second
	defaultProbeTimeout  = time.Second
	fastestProbe         = time.Second
	maxProbeName         = 253
	// probeAgent is how probes are known to applications that leave them out of their logs.
	probeAgent = "kube-probe/pilot-lite"
	probeStart = "/probe/"
)

// ProbePath is what the kubelet asks for, at HealthPort.
func ProbePath(name string) string { return probeStart + url.PathEscape(name) }

func probeCluster(name string) string { return "probe/" + literal(name) }

func checkProbes(probes []Probe) error {
	seen := map[string]bool{}
	for _, p := range probes {
		if err := p.Check(); err != nil {
			return fmt.Errorf("probe %q: %w", p.Name, err)
		}
		if seen[p.Name] {
			return fmt.Errorf("probe %q: the name comes twice", p.Name)
		}
		seen[p.Name] = true
	}
	return nil
}

// Check says what is wrong with a probe.
func (p Probe) Check() error {
	switch {
	case p.Name == "" || len(p.Name) > maxProbeName:
		return fmt.Errorf("want a name of 1 to %d bytes", maxProbeName)
	case p.Port == 0:
		return errors.New("no port")
	case !slices.Contains([]ProbeKind{ProbeHTTP, ProbeTCP, ProbeGRPC}, p.Kind):
		return fmt.Errorf("kind %q: want HTTP, TCP or GRPC", p.Kind)
	case !slices.Contains([]ProbeScheme{"", SchemeHTTP, SchemeHTTPS}, p.Scheme):
		return fmt.Errorf("scheme %q: want HTTP or HTTPS", p.Scheme)
	case p.Interval < 0 || p.Timeout < 0:
		return errors.New("a negative interval or timeout")
	case !httpguts.ValidHostHeader(p.Host):
		return fmt.Errorf("host %q: want what may stand in a Host header", p.Host)
	case !utf8.ValidString(p.Name), !utf8.ValidString(p.Path), !utf8.ValidString(p.GRPCService):
		return errors.New("a name, path or service that is not text: want UTF-8")
	}
	for _, h := range p.Headers {
		if !httpguts.ValidHeaderFieldName(h.Name) || !httpguts.ValidHeaderFieldValue(h.Value) || !utf8.ValidString(h.Value) {
			return fmt.Errorf("header %q: want a header's name, and a value in UTF-8 without control characters", h.Name)
		}
	}
	if _, err := p.target(); err != nil {
		return err
	}
	return nil
}

// target is the path and query as the kubelet sends them: it escapes what needs it, and takes a path that lacks its slash.
func (p Probe) target() (string, error) {
	u, err := url.Parse(p.Path)
	if err != nil {
		u = &url.URL{Path: p.Path}
	}
	u.Scheme, u.Host = "http", "pod"
	if u, err = url.Parse(u.String()); err != nil {
		return "", fmt.Errorf("path %q: %w", p.Path, err)
	}
	if target := u.RequestURI(); strings.HasPrefix(target, "/") {
		return target, nil
	}
	return "", fmt.Errorf("path %q: want it to start with a slash", p.Path)
}

// cluster asks one application address by active health checks, and nothing else ever goes through it. The host is the pod's address as it stands in
// a Host header.
func (p Probe) cluster(host string) (*clusterv3.Cluster, error) {
	name := probeCluster(p.Name)
	check, err := p.healthCheck(host + ":" + strconv.Itoa(int(p.Port)))
	if err != nil {
		return nil, err
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(p.timeout()),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: endpoint{host: podIP, port: p.Port}.address(),
			}}}},
		}}},
		HealthChecks: []*corev3.HealthCheck{check},
		// The application starts only when the sidecar is ready: the sidecar must not wait for it.
		WaitForWarmOnInit: wrapperspb.Bool(false),
	}
	if p.Kind == ProbeGRPC {
		options, err := pack(http2(nil))
		if err != nil {
			return nil, err
		}
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{upstreamOptions: options}
	}
	if p.Kind == ProbeHTTP && p.Scheme == SchemeHTTPS {
		config, err := pack(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		}}})
		if err != nil {
			return nil, err
		}
		c.TransportSocket = &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
		}
	}
	return c, nil
}

func (p Probe) timeout() time.Duration {
	if p.Timeout == 0 {
		return defaultProbeTimeout
	}
	return p.Timeout
}

// healthCheck sets every interval: Envoy asks a host without traffic once a minute by default. An application that is not healthy is asked every
// second, so that one that has just started is not unready for a period of the kubelet's.
func (p Probe) healthCheck(authority string) (*corev3.HealthCheck, error) {
	interval := p.Interval
	if interval == 0 {
		interval = defaultProbeInterval
	}
	every, soon := durationpb.New(max(interval/2, fastestProbe)), durationpb.New(fastestProbe)
	hc := &corev3.HealthCheck{
		Timeout:  durationpb.New(p.timeout()),
		Interval: every, HealthyEdgeInterval: every, NoTrafficHealthyInterval: every,
		UnhealthyInterval: soon, UnhealthyEdgeInterval: soon, NoTrafficInterval: soon,
		// The kubelet has thresholds of its own: the sidecar says what it saw last.
		UnhealthyThreshold: wrapperspb.UInt32(1), HealthyThreshold: wrapperspb.UInt32(1),
		ReuseConnection: wrapperspb.Bool(false),
	}
	switch p.Kind {
	case ProbeHTTP:
		check, err := p.http(authority)
		if err != nil {
			return nil, err
		}
		hc.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: check}
	case ProbeTCP:
		hc.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}}
	case ProbeGRPC:
		hc.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: literal(p.GRPCService), Authority: authority,
		}}
	}
	return hc, nil
}

func (p Probe) http(authority string) (*corev3.HealthCheck_HttpHealthCheck, error) {
	target, err := p.target()
	if err != nil {
		return nil, err
	}
	check := &corev3.HealthCheck_HttpHealthCheck{
		Host: authority, Path: literal(target), CodecClientType: typev3.CodecClientType_HTTP1,
		ExpectedStatuses: []*typev3.Int64Range{{Start: 200, End: 400}},
	}
	// What the kubelet sends too, unless the probe says otherwise; an empty value there takes the header away.
	defaults := []ProbeHeader{{"user-agent", probeAgent}, {"accept", "*/*"}}
	for _, h := range p.Headers {
		defaults = slices.DeleteFunc(defaults, func(d ProbeHeader) bool { return strings.EqualFold(d.Name, h.Name) })
		switch {
		case slices.ContainsFunc([]string{"content-length", "transfer-encoding", "trailer"}, func(n string) bool { return strings.EqualFold(n, h.Name) }):
			// The kubelet leaves these out, too: they would announce a body that does not come.
		case strings.EqualFold(h.Name, "host"):
			check.Host = literal(h.Value)
		case h.Value == "" && (strings.EqualFold(h.Name, "user-agent") || strings.EqualFold(h.Name, "accept")):
			check.RequestHeadersToRemove = append(check.RequestHeadersToRemove, h.Name)
		case strings.EqualFold(h.Name, "user-agent"):
			defaults = append(defaults, h)
		default:
			check.RequestHeadersToAdd = append(check.RequestHeadersToAdd, header(h, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
		}
	}
	for _, h := range defaults {
		check.RequestHeadersToAdd = append(check.RequestHeadersToAdd, header(h, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD))
	}
	if p.Host != "" {
		check.Host = literal(p.Host)
	}
	return check, nil
}

// header keeps a percent sign from starting one of Envoy's formatters.
func header(h ProbeHeader, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: literal(h.Name), Value: strings.ReplaceAll(literal(h.Value), "%", "%%")},
		AppendAction: action, KeepEmptyValue: true,
	}
}
