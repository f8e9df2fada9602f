package netpol

import (
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// denyOnly builds the companions of a Deny. NetworkPolicy knows no deny: one companion isolates the governed pods and allows nothing, others allow all but what is denied.
// Those select none of the pods that an Allow isolates, which they would open: there the Allow's companions leave the denied part out. They are shut when that Allow is
// deleted, and its companions with it, until these are adapted.
func (b *builder) denyOnly(p *model.Policy) {
	shut := piece{pods: conjOf(p.Selector)}
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		if p.Governs(d) && slices.ContainsFunc(p.Rules(d), func(r model.Rule) bool { return r.HTTP == nil }) {
			shut.isolates = append(shut.isolates, d)
		}
	}
	if len(shut.isolates) == 0 {
		return
	}
	b.emit(p, roleIsolate, shut)
	for _, d := range shut.isolates {
		pieces, said := b.notIsolated(p, d)
		if !said { // they stay shut: what an Allow opens stays open, by its own companions
			continue
		}
		for _, pods := range pieces {
			b.emit(p, roleDeny, piece{pods: pods, allowed: map[model.Direction][]entry{d: b.allBut(p, d, pods)}})
			b.emit(p, rolePlumbing, piece{pods: pods, allowed: map[model.Direction][]entry{d: b.plumbing(d, pods)}})
		}
	}
}

// allBut is everything but what the Denies refuse.
func (b *builder) allBut(p *model.Policy, d model.Direction, pods conj) []entry {
	var everything []entry
	for _, q := range slices.Concat(everyTCP(), []ports{{model.UDP, firstPort, lastPort}, {model.SCTP, firstPort, lastPort}}) {
		everything = append(everything, entry{pods, peer{kind: peerAny}, q})
	}
	left := b.subtract(p, d, everything)
	if p.DryRun { // a DryRun Deny is not among the denials
		for _, denied := range b.ownDenials(p, d) {
			left = b.minusAll(left, denied)
		}
	}
	return left
}

// notIsolated are the governed pods that no enforced Allow selects in a direction, as a union, and whether that could be said within bounds.
func (b *builder) notIsolated(p *model.Policy, d model.Direction) ([]conj, bool) {
	out := []conj{conjOf(p.Selector)}
	for _, a := range *b.enforced {
		if a.Action != model.Allow || !a.Governs(d) {
			continue
		}
		var next []conj
		for _, c := range out {
			if _, overlap := c.and(conjOf(a.Selector)...); !overlap {
				next = append(next, c)
				continue
			}
			next = append(next, c.without(conjOf(a.Selector))...)
		}
		slices.SortFunc(next, func(x, y conj) int { return strings.Compare(x.String(), y.String()) })
		out = slices.CompactFunc(next, func(x, y conj) bool { return x.String() == y.String() })
		if len(out) > maxEntries {
			b.reportTooMany(p, d)
			return nil, false
		}
	}
	return out, true
}

func (b *builder) ownDenials(p *model.Policy, d model.Direction) []entry {
	var out []entry
	for i, r := range p.Rules(d) {
		if r.HTTP != nil {
			continue
		}
		for _, g := range b.deniedPorts(p, d, i) {
			for _, q := range peersOf(p.Namespace, r.Peers) {
				out = append(out, entry{g.pods, q, g.ports})
			}
		}
	}
	return out
}

func (b *builder) minusAll(entries []entry, denied entry) []entry {
	var out []entry
	for _, e := range entries {
		left, _ := e.minus(denied, b.holds)
		out = append(out, left...)
	}
	return unique(out)
}
