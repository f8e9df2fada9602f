// Package netpoltest decides what NetworkPolicies mean, and draws worlds of policies, for tests. Input: NetworkPolicies and the two ends of a flow. Output: whether a
// kernel lets it pass. One entry point: Kernel.Allows.
package netpoltest

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// End is one end of a flow: a pod, or an address outside.
type End struct {
	Namespace       string
	NamespaceLabels labels.Set
	Pod             labels.Set // nil: no pod
	Address         netip.Addr
	HostNetwork     bool
}

// Kernel decides flows by NetworkPolicy's own definition: a pod that some policy selects in a direction is isolated in it, the union of the rules holds,
// and a flow needs both ends.
type Kernel []*networkingv1.NetworkPolicy

// Allows says whether both ends let a flow pass.
func (k Kernel) Allows(from, to End, port uint16, protocol model.Protocol) bool {
	if from.Pod != nil && to.Pod != nil && from.Namespace == to.Namespace && from.Address == to.Address {
		return true // a pod is never cut off from itself
	}
	return k.Passes(networkingv1.PolicyTypeEgress, from, to, port, protocol) && k.Passes(networkingv1.PolicyTypeIngress, to, from, port, protocol)
}

// Passes decides for one end, the governed one, about the other.
func (k Kernel) Passes(d networkingv1.PolicyType, governed, other End, port uint16, protocol model.Protocol) bool {
	if governed.Pod == nil || governed.HostNetwork {
		return true
	}
	isolated := false
	for _, np := range k {
		if np.Namespace != governed.Namespace || !selects(&np.Spec.PodSelector, governed.Pod) || !slices.Contains(np.Spec.PolicyTypes, d) {
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

func peersMatch(peers []networkingv1.NetworkPolicyPeer, namespace string, e End) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			if !netip.MustParsePrefix(p.IPBlock.CIDR).Contains(e.Address) {
				return false
			}
			return !slices.ContainsFunc(p.IPBlock.Except, func(x string) bool { return netip.MustParsePrefix(x).Contains(e.Address) })
		}
		if e.Pod == nil || e.HostNetwork {
			return false
		}
		if p.NamespaceSelector == nil && e.Namespace != namespace {
			return false
		}
		if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, e.NamespaceLabels) {
			return false
		}
		return p.PodSelector == nil || selects(p.PodSelector, e.Pod)
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
