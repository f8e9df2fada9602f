package kernel

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Peer is a peer of an entry: pods, or a block of addresses.
type Peer struct {
	namespace string
	peer      peer
}

// Peers are all peers of a policy's entries in a direction.
func (p *Policy) Peers(d networkingv1.PolicyType) []Peer {
	var out []Peer
	for _, e := range p.entries[d] {
		for _, q := range e.peers {
			out = append(out, Peer{p.namespace, q})
		}
	}
	return out
}

// Block is the peer's block of addresses, and whether it is one.
func (p Peer) Block() (cidr netip.Prefix, except []netip.Prefix, isBlock bool) {
	if p.peer.block == nil {
		return netip.Prefix{}, nil, false
	}
	return p.peer.block.cidr, p.peer.block.except, true
}

// Selectors are those of a peer that is no block. The namespace is the policy's where namespaces is nil, and "" elsewhere; pods is nil where the peer means every pod.
func (p Peer) Selectors() (namespace string, namespaces, pods labels.Selector) {
	if p.peer.namespaces != nil {
		return "", p.peer.namespaces, p.peer.pods
	}
	return p.namespace, nil, p.peer.pods
}
