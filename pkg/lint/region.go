package lint

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// region is what the enforced rules of one direction say to one workload, and to every other that has the same policies and ports.
type region struct {
	direction model.Direction
	callee    *model.Workload // the governed workload; for egress its callees are unknown, and so are their ports' names
	rules     []*rule
	ports     []portClass
	addresses []netip.Addr // one for each set of blocks that some address is in: who is in no pod
}

// portClass is a range of ports that no rule and no property of the workload tells apart.
type portClass struct {
	protocol model.Protocol
	number   uint16 // the first of them
	http     bool   // the port speaks HTTP
	unseen   bool   // no sidecar sees the port
}

// span is an inclusive range of one protocol's ports.
type span struct {
	protocol model.Protocol
	from, to uint16
}

func (s span) has(p portClass) bool {
	return s.protocol == p.protocol && s.from <= p.number && p.number <= s.to
}

const (
	firstPort uint16 = 1
	lastPort  uint16 = 65535
)

// mayMean are the ports that a rule may mean: more than spans where the pods of a workload number a named port differently.
func (g *region) mayMean(r *rule) []span {
	out := g.spans(r)
	for _, p := range r.Ports {
		if _, known := numbersOf(g.callee, p); p.Name != "" && g.direction == model.Ingress && !known {
			out = append(out, span{p.Protocol, firstPort, lastPort})
		}
	}
	return out
}

// spans are the ports that a rule means in a region. A name that the workload lacks means nothing in an Allow and every port of its protocol in a Deny.
func (g *region) spans(r *rule) []span {
	if r.Ports == nil {
		every := []span{{model.TCP, firstPort, lastPort}}
		if r.isDeny() && r.HTTP == nil {
			every = append(every, span{model.UDP, firstPort, lastPort}, span{model.SCTP, firstPort, lastPort})
		}
		return every
	}
	var out []span
	for _, p := range r.Ports {
		switch {
		case r.HTTP != nil && p.Protocol != model.TCP: // http is over TCP
		case p.Name == "" && p.From == 0 && p.To == 0:
			out = append(out, span{p.Protocol, firstPort, lastPort})
		case p.Name == "":
			out = append(out, span{p.Protocol, p.From, p.To})
		default:
			var named []uint16
			known := true
			if g.direction == model.Ingress { // callers know no names of their callees' ports
				named, known = numbersOf(g.callee, p)
			}
			for _, n := range named {
				out = append(out, span{p.Protocol, n, n})
			}
			if len(named) == 0 && known && r.isDeny() {
				out = append(out, span{p.Protocol, firstPort, lastPort})
			}
		}
	}
	return out
}

// numbersOf are the numbers of a named port in a workload, and whether its pods agree on them. Those that sidecars know of are the workload's own.
func numbersOf(w *model.Workload, p model.PortRange) (numbers []uint16, agreed bool) {
	if p.Protocol == model.TCP {
		for _, wp := range w.Ports {
			if wp.Name == p.Name {
				numbers = append(numbers, wp.Number)
			}
		}
		return numbers, true
	}
	for i, pod := range w.Pods {
		var own []uint16
		for _, c := range pod.Ports {
			if c.Name == p.Name && c.Protocol == p.Protocol {
				own = append(own, c.Number)
			}
		}
		if i > 0 && !slices.Equal(own, numbers) {
			return nil, false
		}
		numbers = own
	}
	return numbers, true
}

// newRegion divides ports and addresses by all that the rules say of them.
func newRegion(d model.Direction, w *model.Workload, rules []*rule) *region {
	g := &region{direction: d, callee: w, rules: rules}
	bounds := map[model.Protocol][]uint16{
		model.TCP: {firstPort, model.ReservedLast + 1}, model.UDP: {firstPort}, model.SCTP: {firstPort},
	}
	add := func(protocol model.Protocol, from, to uint16) {
		bounds[protocol] = append(bounds[protocol], from)
		if to < lastPort {
			bounds[protocol] = append(bounds[protocol], to+1)
		}
	}
	for _, r := range rules {
		for _, s := range g.spans(r) {
			add(s.protocol, s.from, s.to)
		}
	}
	if d == model.Ingress {
		for _, p := range w.Ports {
			add(model.TCP, p.Number, p.Number)
		}
		for _, n := range w.Proxy.ExcludedInbound {
			add(model.TCP, n, n)
		}
	}
	for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		all := bounds[protocol]
		slices.Sort(all)
		for _, n := range slices.Compact(all) {
			if protocol == model.TCP && n >= model.ReservedFirst && n <= model.ReservedLast {
				continue // the sidecar's own
			}
			p, _ := w.Port(n)
			g.ports = append(g.ports, portClass{
				protocol: protocol, number: n, http: d == model.Ingress && protocol == model.TCP && p.Protocol == model.AppHTTP,
				unseen: d == model.Ingress && slices.Contains(w.Proxy.ExcludedInbound, n),
			})
		}
	}
	g.addresses = representatives(rules)
	return g
}

// representatives are one address for each set of blocks that an address can be in. Blocks lie in each other or apart.
func representatives(rules []*rule) []netip.Addr {
	prefixes := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for _, r := range rules {
		for _, p := range r.Peers {
			if p.Block != nil {
				prefixes = append(append(prefixes, p.Block.CIDR.Masked()), p.Block.Except...)
			}
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	prefixes = slices.Compact(prefixes)
	var out []netip.Addr
	for i, p := range prefixes {
		var inside []netip.Prefix
		for _, q := range prefixes[i+1:] {
			if !p.Overlaps(q) {
				break
			}
			inside = append(inside, q)
		}
		if a, some := outsideOf(p, inside); some {
			out = append(out, a)
		}
	}
	return out
}

// outsideOf is an address of a block that is in none of the smaller blocks in it, if there is one.
func outsideOf(p netip.Prefix, inside []netip.Prefix) (netip.Addr, bool) {
	var overlapping []netip.Prefix
	for _, q := range inside {
		if q.Overlaps(p) {
			overlapping = append(overlapping, q)
		}
	}
	switch {
	case len(overlapping) == 0:
		return p.Addr(), true
	case slices.ContainsFunc(overlapping, func(q netip.Prefix) bool { return q.Bits() <= p.Bits() }):
		return netip.Addr{}, false
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	if a, some := outsideOf(low, overlapping); some {
		return a, true
	}
	return outsideOf(netip.PrefixFrom(upperHalf(low), low.Bits()), overlapping)
}

// upperHalf is the first address of the other half of the block whose lower half is given.
func upperHalf(low netip.Prefix) netip.Addr {
	bytes := low.Addr().AsSlice()
	bit := low.Bits() - 1
	bytes[bit/8] |= 1 << (7 - bit%8)
	a, _ := netip.AddrFromSlice(bytes)
	return a
}

// regionKey tells regions that say the same apart from others.
func (l *linter) regionKey(d model.Direction, w *model.Workload, policies []*model.Policy) string {
	b := []byte(d)
	for _, p := range policies {
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(l.order[p]), 10)
	}
	if d == model.Egress {
		return string(b)
	}
	for _, p := range w.Ports {
		b = append(b, '|')
		b = strconv.AppendUint(b, uint64(p.Number), 10)
		b = strconv.AppendQuote(append(b, ' '), p.Name)
		b = append(b, p.Protocol...)
	}
	for _, pod := range w.Pods {
		before := len(b)
		for _, p := range pod.Ports {
			if p.Protocol != model.TCP {
				b = append(append(strconv.AppendUint(append(b, '/'), uint64(p.Number), 10), p.Protocol...), p.Name...)
			}
		}
		if bytes.HasSuffix(b[:before], b[before:]) { // replicas add nothing
			b = b[:before]
		}
	}
	for _, n := range w.Proxy.ExcludedInbound {
		b = append(b, '!')
		b = strconv.AppendUint(b, uint64(n), 10)
	}
	return string(b)
}
