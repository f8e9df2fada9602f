package model

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Snapshot is everything that decides a verdict, at one instant. Lists are sorted by namespace and name; nothing in it is changed after it is built.
type Snapshot struct {
	Mesh            Mesh
	Namespaces      []Namespace
	Services        []Service
	Pods            []*Pod
	Policies        []*Policy
	NetworkPolicies []*networkingv1.NetworkPolicy // those that pilot-lite did not make
	Diagnostics     []Diagnostic                  // what the source found while converting
}

// Namespace is a namespace and its labels. Its label kubernetes.io/metadata.name is always set.
type Namespace struct {
	Name    string
	Labels  map[string]string
	Guarded bool // edits that open one of its workloads are to be refused
}

// Service is what a Service says of the ports of the pods that it selects.
type Service struct {
	Namespace, Name string
	ClusterIPs      []netip.Addr
	Selector        map[string]string // nil: selects nothing
	Ports           []ServicePort
}

// ServicePort is one port of a Service.
type ServicePort struct {
	Name        string
	Port        uint16
	Protocol    Protocol
	AppProtocol string // as written; "" where unset
	TargetPort  uint16 // 0 where TargetName is set
	TargetName  string
}

// Protocol is a transport protocol.
type Protocol string

// Transport protocols, spelt as Kubernetes does.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Pod is one pod, or a workload template that stands for pods that are not listed.
type Pod struct {
	Namespace, Name, UID string
	Labels               map[string]string
	ServiceAccount       string
	Owner                string       // the Deployment, StatefulSet, DaemonSet or Job it belongs to; "" where unknown
	Addresses            []netip.Addr // those that are this pod's alone now; none for a template, a pod that ended or one on the host's network
	AwaitsAddress        bool         // bound, and its address is not known yet
	Ports                []ContainerPort
	Template             bool // made from a workload's pod template
	Expected             bool // bound and not Succeeded or Failed: a proxy is expected
	Ended                bool // Succeeded or Failed
	HostNetwork          bool
	Created              time.Time
	Proxy                ProxySettings
}

// ContainerPort is a port that a container declares.
type ContainerPort struct {
	Name     string
	Number   uint16
	Protocol Protocol
}

// ProxySettings are the per-pod settings of the sidecar, fixed when the pod is made.
type ProxySettings struct {
	Injected              bool        // the pod carries a sidecar
	Bound                 []BoundPort // bound mode, when not empty; else captured mode
	ServerFirst           []uint16    // TCP ports where the application speaks first
	ExcludedInbound       []uint16    // ports that the capture leaves alone
	AllowEscapedSlashes   bool
	AllowUnderscoreHeader bool
	AllowHTTP10           bool
	MaxStreamDuration     time.Duration // 0: none
}

// BoundPort maps a policy's port to the socket that the proxy listens on and the application behind it (bound mode).
type BoundPort struct {
	Port        uint16         // the port that policies name
	Listen      netip.AddrPort // where the proxy listens
	Application netip.AddrPort // where the application listens
}

// Mesh holds the settings that hold for everything (design: MeshConfig).
type Mesh struct {
	TrustDomain      string
	IdentityMode     IdentityMode
	DNS              []Peer   // whom pods may ask for names; default: the kube-dns pods
	ControlPlane     []Peer   // where sidecars find the control plane
	ControlPlanePort uint16   // the xDS port that egress plumbing opens
	Metrics          []Peer   // whom metrics ports are open to; default none
	MetricsPorts     []uint16 // the ports that metrics are read from
	OptOutNamespaces []string // namespaces whose pods may opt out of injection
	HTTP             HTTPDefaults
}

// HTTPDefaults are the HTTP limits of every listener.
type HTTPDefaults struct {
	MaxConcurrentStreams uint32
	MaxRequestHeadersKB  uint32
	RequestHeaderTimeout time.Duration
}

// IdentityMode says how a caller is known.
type IdentityMode string

const (
	// IdentityAddress knows callers by their pod's address.
	IdentityAddress IdentityMode = "Address"
	// IdentityMTLS knows callers by their certificate. Not served yet.
	IdentityMTLS IdentityMode = "MTLS"
)

// PolicyRef names a policy's generation: what an output was built from.
type PolicyRef struct {
	Namespace, Name, UID string
	Generation           int64
}

// Compare orders policies by namespace and name, as lists of them are.
func (r *PolicyRef) Compare(o *PolicyRef) int {
	return cmp.Or(strings.Compare(r.Namespace, o.Namespace), strings.Compare(r.Name, o.Name))
}

// Action says what a policy does with what its rules match, as in the API.
type Action string

// Actions.
const (
	Allow Action = "Allow"
	Deny  Action = "Deny"
)

// Policy is an L7Policy after conversion: defaults filled in, selectors parsed, and the fail-closed effect of every broken part applied
// (a broken part drops its rule from an Allow and widens a Deny), so that no reader has to think of it again.
type Policy struct {
	PolicyRef
	Action          Action
	DryRun          bool
	Selector        labels.Selector // pods of the policy's namespace
	IsolatesIngress bool            // governs ingress (an Allow isolates there)
	IsolatesEgress  bool            // governs egress
	Ingress         []Rule
	Egress          []Rule
	Accepted        bool // every part was understood
	Guarded         bool // edits that open a workload that it selects are to be refused
}

// Direction says whose policies decide about a call: the callee's (ingress) or the caller's (egress).
type Direction string

// Directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Governs says whether the policy governs its pods in a direction.
func (p *Policy) Governs(d Direction) bool {
	return d == Ingress && p.IsolatesIngress || d == Egress && p.IsolatesEgress
}

// Rules are the policy's rules of a direction.
func (p *Policy) Rules(d Direction) []Rule {
	if d == Ingress {
		return p.Ingress
	}
	return p.Egress
}

// Rule matches when its peers, ports and http do. A nil list means any: a list that was written and came out empty never stands here, since
// its rule is dropped (Allow) or widened (Deny) by the conversion.
type Rule struct {
	Name  string      // as written, else the index
	Peers []Peer      // nil: anyone
	Ports []PortRange // nil: every port (for an Allow: every TCP port but the sidecar's own)
	HTTP  []HTTPMatch // nil: any request, and any bytes
}

// Peer is a set of pods (Namespaces, Pods and ServiceAccounts ANDed) or of addresses (Block alone).
type Peer struct {
	Namespaces      labels.Selector // nil: the policy's own namespace
	Pods            labels.Selector // nil: every pod
	ServiceAccounts []string        // nil: any
	Block           *IPBlock
}

// IPBlock is a CIDR without its exceptions.
type IPBlock struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// PortRange is an inclusive range of ports, or the name of a container port.
type PortRange struct {
	Protocol Protocol
	From, To uint16 // 0, 0 with no Name: every port of the protocol
	Name     string // a named port; From and To are then 0
}

// Reserved ports belong to the sidecar: no policy opens them.
const (
	ReservedFirst uint16 = 15000
	ReservedLast  uint16 = 15099
	// InboundPort is where captured connections are delivered, HealthPort where the sidecar answers the kubelet, and MetricsPort where it shows its statistics.
	InboundPort uint16 = 15006
	HealthPort  uint16 = 15021
	MetricsPort uint16 = 15090
)

// MetricsSlot is the slot that says who may read a sidecar's metrics. The bootstrap holds its place, and the translation fills it.
const MetricsSlot = "l7policy/metrics"
