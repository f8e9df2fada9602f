package netpol

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// denyOnly builds the companion of a Deny for the pods that no Allow isolates: NetworkPolicy knows no deny, so it allows all but what is denied. It
// selects none of the pods that an Allow isolates, which it would open: there the Allows' companions leave the denied part out.
func (b *builder) denyOnly(p *model.Policy) {
	for _, d := range []direction{ingress, egress} {
		if !d.governedBy(p) || !slices.ContainsFunc(d.rules(p), func(r model.Rule) bool { return r.HTTP == nil }) {
			continue
		}
		pieces, said := b.notIsolated(p, d)
		if !said { // shut them all: what an Allow opens stays open, by its own companions
			b.emit(p, roleDeny, string(d), piece{pods: conjOf(p.Selector), isolates: []direction{d}})
			continue
		}
		for _, pods := range pieces {
			which := ""
			if len(pieces) > 1 {
				which = pods.String()
			}
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
			b.emit(p, roleDeny, string(d)+which, piece{pods: pods, isolates: []direction{d}, allowed: map[direction][]entry{d: left}})
			b.emit(p, rolePlumbing, string(d)+which, piece{pods: pods, allowed: map[direction][]entry{d: b.plumbing(d, pods)}})
		}
	}
}

// notIsolated are the governed pods that no enforced Allow selects in a direction, as a union, and whether that could be said within bounds.
func (b *builder) notIsolated(p *model.Policy, d direction) ([]conj, bool) {
	out := []conj{conjOf(p.Selector)}
	for _, a := range b.byNamespace[p.Namespace] {
		if a.Action != model.Allow || !d.governedBy(a) {
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
		out = next
		if len(out) > maxEntries {
			b.reportTooMany(p, d)
			return nil, false
		}
	}
	return out, true
}

func (b *builder) ownDenials(p *model.Policy, d direction) []entry {
	var out []entry
	for _, r := range d.rules(p) {
		if r.HTTP != nil {
			continue
		}
		for _, g := range b.deniedPorts(p, r) {
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

// plumbing is what an isolated pod needs to live at all: names and the control plane to call, and whoever may read its metrics.
func (b *builder) plumbing(d direction, pods conj) []entry {
	mesh := &b.ix.Snapshot.Mesh
	var out []entry
	add := func(peers []model.Peer, opened ...ports) {
		if len(peers) == 0 {
			return
		}
		for _, q := range peersOf("", peers) {
			for _, o := range opened {
				out = append(out, entry{pods, q, o})
			}
		}
	}
	if d == ingress {
		for _, n := range mesh.MetricsPorts {
			add(mesh.Metrics, ports{model.TCP, n, n})
		}
		return out
	}
	const dns = 53
	add(mesh.DNS, ports{model.UDP, dns, dns}, ports{model.TCP, dns, dns})
	add(mesh.ControlPlane, ports{model.TCP, mesh.ControlPlanePort, mesh.ControlPlanePort})
	return out
}
