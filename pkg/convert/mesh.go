package convert

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	policyvalidation "github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// MeshConfigKind is the kind of the mesh's settings, in the group and version of L7Policy. In a cluster the document is the key MeshConfigKey of the
// ConfigMap MeshConfigMap.
const (
	MeshConfigKind = "MeshConfig"
	MeshConfigMap  = "pilot-lite"
	MeshConfigKey  = "mesh.yaml"
)

// MeshConfig holds the settings for everything. Every field is optional; DefaultMesh has the defaults.
type MeshConfig struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        metav1.ObjectMeta `json:"metadata"`
	Spec            MeshSpec          `json:"spec"`
}

// MeshSpec is the settings themselves.
type MeshSpec struct {
	// TrustDomain is the first part of SPIFFE IDs, a DNS name.
	TrustDomain string `json:"trustDomain,omitempty"`
	// IdentityMode is Address: callers are known by their pod's address.
	IdentityMode string `json:"identityMode,omitempty"`
	// DNS lists whom pods may ask for names, over UDP and TCP port 53.
	DNS []v1alpha1.Peer `json:"dns,omitempty"`
	// ControlPlane says where sidecars find the control plane.
	ControlPlane *MeshPeers `json:"controlPlane,omitempty"`
	// Metrics says whom the sidecars' metrics are open to; default nobody.
	Metrics *MeshMetrics `json:"metrics,omitempty"`
	// OptOutNamespaces lists the namespaces whose pods may opt out of injection.
	OptOutNamespaces []string `json:"optOutNamespaces,omitempty"`
	// HTTP bounds what one caller can hold.
	HTTP *MeshHTTP `json:"http,omitempty"`
}

// MeshPeers are peers and their port.
type MeshPeers struct {
	Peers []v1alpha1.Peer `json:"peers,omitempty"`
	Port  int32           `json:"port,omitempty"`
}

// MeshMetrics are those who may read metrics, and the ports that they read them from.
type MeshMetrics struct {
	Peers []v1alpha1.Peer `json:"peers,omitempty"`
	Ports []int32         `json:"ports,omitempty"`
}

// MeshHTTP are HTTP limits.
type MeshHTTP struct {
	MaxConcurrentStreams  int64  `json:"maxConcurrentStreams,omitempty"`  // of one HTTP/2 connection
	MaxRequestHeadersKB   int64  `json:"maxRequestHeadersKB,omitempty"`   // KiB
	RequestHeadersTimeout string `json:"requestHeadersTimeout,omitempty"` // a Go duration
}

// Limits and defaults of the mesh's settings.
const (
	defaultTrustDomain      = "cluster.local"
	defaultControlPlanePort = 15012
	defaultMetricsPort      = model.MetricsPort
	defaultStreams          = 100
	defaultHeadersKB        = 60
	defaultHeadersTimeout   = 10 * time.Second
	maxStreams              = 1 << 16
	maxHeadersKB            = 8192 // Envoy's own limit
)

// DefaultMesh is what holds without a MeshConfig.
func DefaultMesh() model.Mesh {
	pods := func(namespace, key, value string) []model.Peer {
		return []model.Peer{{
			Namespaces: labels.SelectorFromSet(labels.Set{nameLabel: namespace}), Pods: labels.SelectorFromSet(labels.Set{key: value}),
		}}
	}
	return model.Mesh{
		TrustDomain: defaultTrustDomain, IdentityMode: model.IdentityAddress,
		DNS:          pods(metav1.NamespaceSystem, "k8s-app", "kube-dns"),
		ControlPlane: pods("pilot-lite-system", "app.kubernetes.io/name", "pilot-lite"), ControlPlanePort: defaultControlPlanePort,
		MetricsPorts: []uint16{defaultMetricsPort},
		HTTP: model.HTTPDefaults{
			MaxConcurrentStreams: defaultStreams, MaxRequestHeadersKB: defaultHeadersKB, RequestHeaderTimeout: defaultHeadersTimeout,
		},
	}
}

// Mesh converts the settings. With any finding the settings must not be used: each finding is an error.
func Mesh(c *MeshConfig) (model.Mesh, []model.Diagnostic) {
	m := &meshConverter{mesh: DefaultMesh(), object: model.ObjectRef{Kind: MeshConfigKind, Namespace: c.Metadata.Namespace, Name: c.Metadata.Name}}
	s := &c.Spec
	if s.TrustDomain != "" {
		m.mesh.TrustDomain = s.TrustDomain
		if len(validation.IsDNS1123Subdomain(s.TrustDomain)) > 0 {
			m.bad("spec.trustDomain", fmt.Sprintf("%q is not a DNS name", s.TrustDomain), "write a name such as cluster.local")
		}
	}
	switch model.IdentityMode(s.IdentityMode) {
	case "", model.IdentityAddress:
	case model.IdentityMTLS:
		m.bad("spec.identityMode", "identity by certificate is not served yet", "write Address, or leave the field out")
	default:
		m.bad("spec.identityMode", fmt.Sprintf("%q is no identity mode", s.IdentityMode), "write Address, or leave the field out")
	}
	if len(s.DNS) > 0 {
		m.mesh.DNS = m.peers("spec.dns", s.DNS)
	}
	if s.ControlPlane != nil {
		if len(s.ControlPlane.Peers) > 0 {
			m.mesh.ControlPlane = m.peers("spec.controlPlane.peers", s.ControlPlane.Peers)
		}
		m.mesh.ControlPlanePort = m.port("spec.controlPlane.port", s.ControlPlane.Port, defaultControlPlanePort)
	}
	if s.Metrics != nil {
		m.mesh.Metrics = m.peers("spec.metrics.peers", s.Metrics.Peers)
		for i, n := range s.Metrics.Ports {
			if i == 0 {
				m.mesh.MetricsPorts = nil
			}
			m.mesh.MetricsPorts = append(m.mesh.MetricsPorts, m.port(index("spec.metrics.ports", i), n, defaultMetricsPort))
		}
	}
	for i, name := range s.OptOutNamespaces {
		if len(validation.IsDNS1123Label(name)) > 0 {
			m.bad(index("spec.optOutNamespaces", i), fmt.Sprintf("%q is not a namespace's name", name), "write the name of a namespace")
		}
	}
	m.mesh.OptOutNamespaces = s.OptOutNamespaces
	if s.HTTP != nil {
		m.http(s.HTTP)
	}
	return m.mesh, m.found
}

type meshConverter struct {
	mesh   model.Mesh
	object model.ObjectRef
	found  []model.Diagnostic
}

func (m *meshConverter) bad(field, why, remedy string) {
	m.found = append(m.found, model.Diagnostic{
		Code: "bad-mesh-config", Severity: model.SeverityError, Object: m.object, Field: field,
		Consequence: why + ": the settings are not taken over", Remedy: remedy,
	})
}

// peers checks peers as those of a policy, whose shape they have.
func (m *meshConverter) peers(field string, written []v1alpha1.Peer) []model.Peer {
	probe := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Name: "mesh", Namespace: corev1.NamespaceDefault}}
	probe.Spec.Egress = []v1alpha1.EgressRule{{To: written}}
	findings := policyvalidation.Findings(probe)
	for _, e := range findings {
		m.bad(field+strings.TrimPrefix(e.Field, "spec.egress[0].to"), e.Detail, e.Remedy)
	}
	for i, p := range written {
		if p.NamespaceSelector == nil && p.IPBlock == nil {
			m.bad(index(field, i), "a peer of the mesh has no namespace of its own", "add a namespaceSelector, or write an ipBlock")
		}
	}
	if len(findings) > 0 || len(written) == 0 {
		return nil
	}
	return peers(written)
}

func (m *meshConverter) port(field string, written int32, standard uint16) uint16 {
	if written == 0 {
		return standard
	}
	n := portNumber(written)
	if n == 0 {
		m.bad(field, fmt.Sprintf("%d is not a port", written), "write a number from 1 to 65535")
	}
	return cmp.Or(n, standard)
}

func (m *meshConverter) http(h *MeshHTTP) {
	limit := func(field string, written, most int64, into *uint32) {
		switch {
		case written < 0 || written > most:
			m.bad("spec.http."+field, fmt.Sprintf("%d is out of range", written), fmt.Sprintf("write a number from 1 to %d", most))
		case written > 0:
			*into = uint32(written)
		}
	}
	limit("maxConcurrentStreams", h.MaxConcurrentStreams, maxStreams, &m.mesh.HTTP.MaxConcurrentStreams)
	limit("maxRequestHeadersKB", h.MaxRequestHeadersKB, maxHeadersKB, &m.mesh.HTTP.MaxRequestHeadersKB)
	if h.RequestHeadersTimeout == "" {
		return
	}
	d, err := time.ParseDuration(h.RequestHeadersTimeout)
	if err != nil || d <= 0 {
		m.bad("spec.http.requestHeadersTimeout", fmt.Sprintf("%q is not a duration above zero", h.RequestHeadersTimeout), `write a duration such as "10s"`)
		return
	}
	m.mesh.HTTP.RequestHeaderTimeout = d
}
