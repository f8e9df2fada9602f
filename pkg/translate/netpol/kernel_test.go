package netpol_test

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// end is one end of a flow: a pod, or an address outside.
type end struct {
	namespace   string
	namespaces  labels.Set // the namespace's labels
	pod         labels.Set // nil: no pod
	address     netip.Addr
	hostNetwork bool
}

// kernel decides flows by NetworkPolicy's own definition: a pod that some policy selects in a direction is isolated in it, the union of the rules holds,
// and a flow needs both ends.
type kernel []*networkingv1.NetworkPolicy

func (k kernel) allows(from, to end, port uint16, protocol model.Protocol) bool {
	if from.pod != nil && to.pod != nil && from.namespace == to.namespace && from.address == to.address {
		return true // a pod is never cut off from itself
	}
	return k.direction(networkingv1.PolicyTypeEgress, from, to, port, protocol) && k.direction(networkingv1.PolicyTypeIngress, to, from, port, protocol)
}

// direction decides for one end, the governed one, about the other.
func (k kernel) direction(d networkingv1.PolicyType, governed, other end, port uint16, protocol model.Protocol) bool {
	if governed.pod == nil || governed.hostNetwork {
		return true
	}
	isolated := false
	for _, np := range k {
		if np.Namespace != governed.namespace || !selects(&np.Spec.PodSelector, governed.pod) || !slices.Contains(np.Spec.PolicyTypes, d) {
			continue
		}
		isolated = true
		if d == networkingv1.PolicyTypeIngress {
			for _, r := range np.Spec.Ingress {
				if peersMatch(r.From, np.Namespace, other) && portsMatch(r.Ports, port, protocol) {
					return true
				}
			}
			continue
		}
		for _, r := range np.Spec.Egress {
			if peersMatch(r.To, np.Namespace, other) && portsMatch(r.Ports, port, protocol) {
				return true
			}
		}
	}
	return !isolated
}

func selects(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(set)
}

func peersMatch(peers []networkingv1.NetworkPolicyPeer, namespace string, e end) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			if !netip.MustParsePrefix(p.IPBlock.CIDR).Contains(e.address) {
				return false
			}
			return !slices.ContainsFunc(p.IPBlock.Except, func(x string) bool { return netip.MustParsePrefix(x).Contains(e.address) })
		}
		if e.pod == nil || e.hostNetwork {
			return false
		}
		if p.NamespaceSelector == nil && e.namespace != namespace {
			return false
		}
		if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, e.namespaces) {
			return false
		}
		return p.PodSelector == nil || selects(p.PodSelector, e.pod)
	})
}

func portsMatch(ports []networkingv1.NetworkPolicyPort, port uint16, protocol model.Protocol) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		last := p.Port.IntValue()
		if p.EndPort != nil {
			last = int(*p.EndPort)
		}
		return string(*p.Protocol) == string(protocol) && p.Port.IntValue() <= int(port) && int(port) <= last
	})
}
