package lint

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// rule is a rule in its place, with the workloads that its peers mean.
type rule struct {
	*model.Rule
	policy    *model.Policy
	direction model.Direction
	order     int // the policy's place in the snapshot
	index     int
	possible  bool // some request satisfies its http, or it has none
	// By place in the index. A block of addresses surely means a workload when it holds every address of every pod, and possibly when it holds one.
	surely, possibly set
}

func (l *linter) newRule(p *model.Policy, d model.Direction, index int, r *model.Rule) *rule {
	out := &rule{Rule: r, policy: p, direction: d, order: l.order[p], index: index, possible: true, surely: newSet(len(l.ix.Workloads)), possibly: newSet(len(l.ix.Workloads))}
	if r.Peers == nil {
		for i, w := range l.ix.Workloads {
			if !w.HostNetwork {
				out.surely.add(i)
				out.possibly.add(i)
			}
		}
		return out
	}
	for _, peer := range r.Peers {
		for _, w := range l.ix.PeerWorkloads(p.Namespace, peer) {
			out.surely.add(l.place[w])
			out.possibly.add(l.place[w])
		}
		if peer.Block == nil {
			continue
		}
		for i, w := range l.ix.Workloads {
			inside := func(a netip.Addr) bool { return blockContains(peer.Block, a) }
			if all(w.Pods, func(p *model.Pod) bool { return all(p.Addresses, inside) }) {
				out.surely.add(i)
			}
			if slices.ContainsFunc(w.Addresses, inside) {
				out.possibly.add(i)
			}
		}
	}
	return out
}

func blockContains(b *model.IPBlock, a netip.Addr) bool {
	return b.CIDR.Contains(a) && !slices.ContainsFunc(b.Except, func(x netip.Prefix) bool { return x.Contains(a) })
}

// meansAddress says whether the rule means somebody outside who has an address.
func (r *rule) meansAddress(a netip.Addr) bool {
	return r.Peers == nil || slices.ContainsFunc(r.Peers, func(p model.Peer) bool { return p.Block != nil && blockContains(p.Block, a) })
}

func (r *rule) field() string {
	return "spec." + string(r.direction) + "[" + strconv.Itoa(r.index) + "]"
}

func (r *rule) peersField() string {
	if r.direction == model.Egress {
		return r.field() + ".to"
	}
	return r.field() + ".from"
}

func (r *rule) name() string { return model.RuleName(r.policy.PolicyRef, r.Name) }

func (r *rule) isDeny() bool { return r.policy.Action == model.Deny }

func (r *rule) finding(code string, severity model.Severity, field string) model.Diagnostic {
	return r.policy.Finding(code, severity, field)
}

// matchesNothing is what follows for a rule, or a part of it, that matches nothing.
func (r *rule) matchesNothing() string {
	switch {
	case r.isDeny():
		return "it refuses nobody"
	case r.direction == model.Egress:
		return "it opens nothing"
	}
	return "it lets nobody in"
}

// set is a set of places.
type set []uint64

const wordBits = 64

func newSet(size int) set { return make(set, (size+wordBits-1)/wordBits) }

func (s set) add(i int) { s[i/wordBits] |= 1 << (i % wordBits) }

func (s set) has(i int) bool { return s[i/wordBits]&(1<<(i%wordBits)) != 0 }

func (s set) empty() bool { return !slices.ContainsFunc(s, func(w uint64) bool { return w != 0 }) }

// within says whether every member is in another set of the same size.
func (s set) within(o set) bool {
	for i, w := range s {
		if w&^o[i] != 0 {
			return false
		}
	}
	return true
}
