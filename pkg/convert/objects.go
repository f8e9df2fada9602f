package convert

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	nameLabel        = "kubernetes.io/metadata.name"
	defaultNamespace = "default"
)

// ManagedByLabel with the value ManagedBy marks what pilot-lite makes: such a NetworkPolicy is a companion, and nobody's input.
const (
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "pilot-lite"
)

// namespaceOf is an object's namespace; kubectl's default where none is written.
func namespaceOf(m *metav1.ObjectMeta) string { return cmp.Or(m.Namespace, defaultNamespace) }

// Namespace converts a Namespace. Its name label is what the API server sets on every namespace, whatever is written.
func Namespace(ns *corev1.Namespace) model.Namespace {
	set := make(map[string]string, len(ns.Labels)+1)
	maps.Copy(set, ns.Labels)
	set[nameLabel] = ns.Name
	return model.Namespace{Name: ns.Name, Labels: set, Guarded: guarded(&ns.ObjectMeta)}
}

// Service converts a Service. One of type ExternalName selects nothing.
func Service(s *corev1.Service) model.Service {
	out := model.Service{Namespace: namespaceOf(&s.ObjectMeta), Name: s.Name}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return out
	}
	out.Selector = s.Spec.Selector
	for _, ip := range clusterIPs(s) {
		if a, err := netip.ParseAddr(ip); err == nil {
			out.ClusterIPs = append(out.ClusterIPs, a.Unmap())
		}
	}
	for _, p := range s.Spec.Ports {
		port := model.ServicePort{Name: p.Name, Port: portNumber(p.Port), Protocol: protocol(p.Protocol), TargetPort: portNumber(p.Port)}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		switch {
		case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
			port.TargetPort, port.TargetName = 0, p.TargetPort.StrVal
		case p.TargetPort.IntVal != 0:
			port.TargetPort = portNumber(p.TargetPort.IntVal)
		}
		out.Ports = append(out.Ports, port)
	}
	return out
}

func clusterIPs(s *corev1.Service) []string {
	if len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs
	}
	return []string{s.Spec.ClusterIP}
}

func protocol(p corev1.Protocol) model.Protocol {
	return model.Protocol(cmp.Or(p, corev1.ProtocolTCP))
}

// portNumber is a port, or 0 for a number that is none.
func portNumber(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}

// Pod converts a Pod and what its annotations ask of the sidecar.
func Pod(p *corev1.Pod) (model.Pod, []model.Diagnostic) {
	out, found := podSpec("Pod", &p.ObjectMeta, &p.ObjectMeta, &p.Spec)
	out.Owner = owner(p)
	out.Created = p.CreationTimestamp.Time
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	out.Ended = ended
	out.Expected = !ended && (p.Spec.NodeName != "" || len(p.Status.PodIPs) > 0 || p.Status.PodIP != "")
	if !ended && !p.Spec.HostNetwork {
		// A terminating pod finishes what it began, and calls others for it: its address is its own until it ended, or until a newer pod has it.
		out.Addresses = podAddresses(p)
	}
	return out, found
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	written := []string{p.Status.PodIP}
	for _, ip := range p.Status.PodIPs {
		written = append(written, ip.IP)
	}
	var out []netip.Addr
	for _, ip := range written {
		if a, err := netip.ParseAddr(ip); err == nil && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// owner is the Deployment, StatefulSet, DaemonSet or Job that a pod belongs to. A Deployment's pods name a ReplicaSet, whose name is the
// Deployment's and the hash of its template.
func owner(p *corev1.Pod) string {
	ref := metav1.GetControllerOf(p)
	if ref == nil {
		return ""
	}
	if hash := p.Labels["pod-template-hash"]; ref.Kind == "ReplicaSet" && hash != "" {
		return strings.TrimSuffix(ref.Name, "-"+hash)
	}
	return ref.Name
}

// Template is a workload's pod template, and whose pods it stands for.
type Template struct {
	Kind     string // Deployment, StatefulSet, DaemonSet, Job, ...
	Selector labels.Selector
	Pod      model.Pod
}

// WorkloadTemplate converts the pod template of a workload object. It stands for the workload's pods while none of them is listed.
func WorkloadTemplate(kind string, meta *metav1.ObjectMeta, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec) (Template, []model.Diagnostic) {
	pod, found := podSpec(kind, meta, &template.ObjectMeta, &template.Spec)
	pod.Owner, pod.Template = meta.Name, true
	parsed := labels.SelectorFromSet(template.Labels)
	if selector != nil {
		if s, err := metav1.LabelSelectorAsSelector(selector); err == nil {
			parsed = s
		}
	}
	return Template{Kind: kind, Selector: parsed, Pod: pod}, found
}

// podSpec converts what a Pod and a template share. Labels and annotations are those of the pod, the name is that of the object.
func podSpec(kind string, object, meta *metav1.ObjectMeta, spec *corev1.PodSpec) (model.Pod, []model.Diagnostic) {
	out := model.Pod{
		Namespace: namespaceOf(object), Name: object.Name, UID: string(object.UID), Labels: meta.Labels, HostNetwork: spec.HostNetwork,
		ServiceAccount: cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount, "default"),
	}
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			n := portNumber(p.ContainerPort)
			if n == 0 || n >= model.ReservedFirst && n <= model.ReservedLast {
				continue // the sidecar's own are not the application's
			}
			out.Ports = append(out.Ports, model.ContainerPort{Name: p.Name, Number: n, Protocol: protocol(p.Protocol)})
		}
	}
	for i := range spec.InitContainers {
		// Only a native sidecar serves while the pod runs.
		if always := spec.InitContainers[i].RestartPolicy; always != nil && *always == corev1.ContainerRestartPolicyAlways {
			add(&spec.InitContainers[i])
		}
	}
	for i := range spec.Containers {
		add(&spec.Containers[i])
	}
	var found []model.Diagnostic
	out.Proxy, found = proxySettings(model.ObjectRef{Kind: kind, Namespace: out.Namespace, Name: out.Name}, meta)
	return out, found
}

// Endpoint is an address that an EndpointSlice gives.
type Endpoint struct {
	Namespace, Service string
	Pod                string // the pod that it names; "" where it names none
	Address            netip.Addr
}

// EndpointSlice converts the addresses of a slice. Terminating endpoints have none any more.
func EndpointSlice(s *discoveryv1.EndpointSlice) []Endpoint {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	var out []Endpoint
	for _, e := range s.Endpoints {
		if e.Conditions.Terminating != nil && *e.Conditions.Terminating {
			continue
		}
		for _, written := range e.Addresses {
			a, err := netip.ParseAddr(written)
			if err != nil {
				continue
			}
			ep := Endpoint{Namespace: namespaceOf(&s.ObjectMeta), Service: s.Labels[discoveryv1.LabelServiceName], Address: a.Unmap()}
			if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
				ep.Pod = e.TargetRef.Name
			}
			out = append(out, ep)
		}
	}
	return out
}

// ForeignNetworkPolicy says whether pilot-lite did not make a NetworkPolicy: its own companions are output, not input.
func ForeignNetworkPolicy(np *networkingv1.NetworkPolicy) bool {
	return np.Labels[ManagedByLabel] != ManagedBy
}
