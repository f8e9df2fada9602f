package netpol

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// entry allows (or, as part of a Deny, denies) connections between the governed pods and a peer, on a range of ports of one protocol: a conjunction of
// three independent conditions, so that what is left of one after another is a union of entries.
type entry struct {
	pods  conj // of the policy's namespace
	peer  peer
	ports ports
}

// peerKind says what a peer is made of.
type peerKind string

const (
	peerAny   peerKind = "any"
	peerPods  peerKind = "pods"
	peerBlock peerKind = "block"
)

// peer is everybody, the pods of some namespaces, or a block of addresses.
type peer struct {
	kind       peerKind
	namespaces conj
	pods       conj
	cidr       netip.Prefix
	except     []netip.Prefix // sorted
}

// ports is an inclusive range of a protocol's ports.
type ports struct {
	protocol model.Protocol
	from, to uint16
}

func (p ports) String() string {
	return string(p.protocol) + " " + strconv.Itoa(int(p.from)) + "-" + strconv.Itoa(int(p.to))
}

func (p peer) String() string {
	switch p.kind {
	case peerPods:
		return "pods " + p.namespaces.String() + "|" + p.pods.String()
	case peerBlock:
		words := []string{"block " + p.cidr.String()}
		for _, x := range p.except {
			words = append(words, x.String())
		}
		return strings.Join(words, " ")
	case peerAny:
	}
	return "any"
}

func (e entry) String() string {
	return e.pods.String() + " / " + e.peer.String() + " / " + e.ports.String()
}

// minus is what is left of an entry after another, and whether that could be said exactly. Where it could not, exact is false and left is what
// certainly does not overlap.
func (e entry) minus(d entry, holds addressHolder) (left []entry, exact bool) {
	if _, overlap := e.pods.and(d.pods...); !overlap || e.ports.protocol != d.ports.protocol || e.ports.to < d.ports.from || d.ports.to < e.ports.from {
		return []entry{e}, true
	}
	peers, exact := e.peer.minus(d.peer, holds)
	if exact && len(peers) == 1 && peers[0].String() == e.peer.String() {
		return []entry{e}, true
	}
	for _, p := range e.pods.without(d.pods) {
		left = append(left, entry{p, e.peer, e.ports})
	}
	for _, p := range e.ports.minus(d.ports) {
		left = append(left, entry{e.pods, e.peer, p})
	}
	for _, p := range peers {
		left = append(left, entry{e.pods, p, e.ports})
	}
	return left, exact
}

func (p ports) minus(d ports) []ports {
	var out []ports
	if p.from < d.from {
		out = append(out, ports{p.protocol, p.from, d.from - 1})
	}
	if p.to > d.to {
		out = append(out, ports{p.protocol, d.to + 1, p.to})
	}
	return out
}

// addressHolder says whether a pod that a peer selects has an address in a block now.
type addressHolder func(pods peer, block peer) bool

// minus is what is left of a peer after another. Pods and addresses are two ways to name the same caller, which NetworkPolicy cannot set off against
// each other: where they may overlap the rest cannot be said.
func (p peer) minus(d peer, holds addressHolder) (left []peer, exact bool) {
	switch {
	case d.kind == peerAny:
		return nil, true
	case p.kind == peerAny && d.kind == peerPods:
		return nil, false
	case p.kind == peerAny:
		everyPod := peer{kind: peerPods}
		inBlock := holds(everyPod, d)
		if !inBlock {
			left = append(left, everyPod)
		}
		for _, all := range []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
			rest, _ := peer{kind: peerBlock, cidr: all}.minus(d, holds)
			left = append(left, rest...)
		}
		return left, !inBlock
	case p.kind == peerPods && d.kind == peerPods:
		return p.podsWithout(d), true
	case p.kind == peerPods && holds(p, d), d.kind == peerPods && holds(d, p):
		return nil, false
	case p.kind == peerPods, d.kind == peerPods:
		return []peer{p}, true
	}
	return p.blockWithout(d), true
}

func (p peer) podsWithout(d peer) []peer {
	_, namespaces := p.namespaces.and(d.namespaces...)
	_, pods := p.pods.and(d.pods...)
	if !namespaces || !pods {
		return []peer{p}
	}
	var out []peer
	for _, n := range p.namespaces.without(d.namespaces) {
		out = append(out, peer{kind: peerPods, namespaces: n, pods: p.pods})
	}
	for _, c := range p.pods.without(d.pods) {
		out = append(out, peer{kind: peerPods, namespaces: p.namespaces, pods: c})
	}
	return out
}

// blockWithout: the denied block becomes an exception; what the denial excepts comes back as blocks of its own.
func (p peer) blockWithout(d peer) []peer {
	if !p.cidr.Overlaps(d.cidr) {
		return []peer{p}
	}
	var out []peer
	if d.cidr.Bits() > p.cidr.Bits() {
		out = append(out, p.excepting(d.cidr))
	}
	for _, x := range d.except {
		inside := x
		if p.cidr.Bits() > x.Bits() {
			inside = p.cidr
		}
		if p.cidr.Overlaps(x) && inside.Overlaps(d.cidr) {
			back := peer{kind: peerBlock, cidr: inside}
			for _, y := range p.except {
				if y.Overlaps(inside) && y.Bits() <= inside.Bits() {
					back.cidr = netip.Prefix{}
					break
				}
				if y.Overlaps(inside) {
					back = back.excepting(y)
				}
			}
			if back.cidr.IsValid() {
				out = append(out, back)
			}
		}
	}
	return out
}

func (p peer) excepting(x netip.Prefix) peer {
	for _, y := range p.except {
		if y.Overlaps(x) && y.Bits() <= x.Bits() {
			return p
		}
	}
	p.except = slices.DeleteFunc(slices.Clone(p.except), func(y netip.Prefix) bool { return y.Overlaps(x) })
	at, _ := slices.BinarySearchFunc(p.except, x, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	p.except = slices.Insert(p.except, at, x)
	return p
}
