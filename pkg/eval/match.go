package eval

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// peersMatch says whether a rule of a policy in a namespace means a party; nil means anyone.
func peersMatch(ix *model.Index, namespace string, peers []model.Peer, who Party) bool {
	if peers == nil {
		return true
	}
	return slices.ContainsFunc(peers, func(p model.Peer) bool { return peerMatches(ix, namespace, p, who) })
}

// Means says whether a peer of a policy in a namespace means a party.
func Means(ix *model.Index, namespace string, p model.Peer, who Party) bool {
	return peerMatches(ix, namespace, p, who)
}

func peerMatches(ix *model.Index, namespace string, p model.Peer, who Party) bool {
	if b := p.Block; b != nil {
		return b.CIDR.Contains(who.Address) && !slices.ContainsFunc(b.Except, func(x netip.Prefix) bool { return x.Contains(who.Address) })
	}
	return who.selectable() && podMatches(ix, namespace, p, who.Pod)
}

// podMatches: selectors of one peer are ANDed, and the account is what the injector stamped, never what the pod says of itself elsewhere.
func podMatches(ix *model.Index, namespace string, p model.Peer, pod *model.Pod) bool {
	if !namespaceMatches(ix, namespace, p, pod) {
		return false
	}
	if p.Pods != nil && !p.Pods.Matches(labels.Set(pod.Labels)) {
		return false
	}
	return accountMatches(p, pod)
}

func namespaceMatches(ix *model.Index, namespace string, p model.Peer, pod *model.Pod) bool {
	if p.Namespaces == nil {
		return pod.Namespace == namespace
	}
	return p.Namespaces.Matches(ix.NamespaceLabels(pod.Namespace))
}

func accountMatches(p model.Peer, pod *model.Pod) bool {
	if p.ServiceAccounts == nil {
		return true
	}
	stamped, ok := pod.Labels[v1alpha1.LabelServiceAccount]
	return ok && slices.ContainsFunc(p.ServiceAccounts, func(sa string) bool { return model.ServiceAccountLabel(sa) == stamped })
}

func reserved(port uint16) bool { return port >= model.ReservedFirst && port <= model.ReservedLast }

// target is the port that is called, at a callee whose containers give ports names.
type target struct {
	pod      *model.Pod           // the callee, where L3/4 is asked: it knows ports of every protocol
	names    []model.WorkloadPort // the callee's, where its sidecar is asked: it knows TCP
	port     uint16
	protocol model.Protocol
}

// matches says whether a rule means the port; nil means every one. A named port that the callee lacks matches nothing in an Allow and everything in a Deny.
func (t target) matches(action model.Action, ranges []model.PortRange) bool {
	if ranges == nil {
		return true
	}
	return slices.ContainsFunc(ranges, func(r model.PortRange) bool {
		switch {
		case r.Protocol != t.protocol:
			return false
		case r.Name != "":
			number, named := t.named(r.Name)
			return number || !named && action == model.Deny
		case r.From == 0 && r.To == 0:
			return true
		}
		return r.From <= t.port && t.port <= r.To
	})
}

// named says whether the port has a name, and whether any port of the protocol has it.
func (t target) named(name string) (number, named bool) {
	for _, p := range t.names {
		named = named || p.Name == name
		number = number || p.Name == name && p.Number == t.port
	}
	if t.pod == nil {
		return number, named
	}
	for _, p := range t.pod.Ports {
		if p.Protocol == t.protocol && p.Name == name {
			named = true
			number = number || p.Number == t.port
		}
	}
	return number, named
}
