package diff

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// parties are some classes, or parts of them.
type parties struct {
	points    bitset
	floating  map[int][]span // points that are meant at some addresses only
	outside   []span
	strangers []stranger // those that are to be told of
}

func (p *parties) empty() bool {
	return p.points.empty() && len(p.floating) == 0 && len(p.outside) == 0 && len(p.strangers) == 0
}

// parties are those of some classes of an answer, and those of all others.
func (c *comparison) parties(a *answer, classes []int) (some, rest parties) {
	in := make([]bool, len(a.classes))
	for _, i := range classes {
		in[i] = true
	}
	return c.partiesOf(a, in, true), c.partiesOf(a, in, false)
}

func (c *comparison) partiesOf(a *answer, in []bool, wanted bool) parties {
	p := parties{points: newBitset(len(c.points)), floating: map[int][]span{}}
	everywhere := map[int][]span{}
	for i, k := range a.classes {
		if in[i] != wanted {
			continue
		}
		p.points.addAll(k.points)
		p.outside = append(p.outside, k.outside...)
		for at, spans := range k.floating {
			everywhere[at] = append(everywhere[at], spans...)
			if len(k.outside) == 0 { // else it is meant with the address
				p.floating[at] = append(p.floating[at], spans...)
			}
		}
	}
	p.outside = joinSpans(p.outside)
	for at, spans := range everywhere {
		if slices.Equal(joinSpans(spans), stretches(nil)) {
			p.points.add(at)
			delete(p.floating, at)
		}
	}
	for i, k := range a.classes {
		if in[i] != wanted {
			continue
		}
		for _, s := range k.strangers {
			// Pods that stand are told of for all that match the same; but that all pods of a namespace match is worth a word.
			if k.points.empty() && len(k.floating) == 0 || len(s.labels) == 0 {
				p.strangers = append(p.strangers, s)
			}
		}
	}
	return p
}

// covered says whether spans are within others, which are joined.
func covered(spans, by []span) bool {
	return !slices.ContainsFunc(spans, func(s span) bool {
		return !slices.ContainsFunc(by, func(o span) bool {
			return o.first.BitLen() == s.first.BitLen() && o.first.Compare(s.first) <= 0 && s.last.Compare(o.last) <= 0
		})
	})
}

// describe tells of parties, or of the rest where the parties are most of the world.
func (c *comparison) describe(p, rest parties) Parties {
	if mostOfIPv4(p.outside) {
		return Parties{Anyone: true, But: c.members(&rest)}
	}
	return Parties{Members: c.members(&p)}
}

// mostOfIPv4 says whether spans are more than half of it.
func mostOfIPv4(spans []span) bool {
	var sum uint64
	for _, s := range spans {
		if s.first.Is4() {
			sum += uint64(number(s.last)-number(s.first)) + 1
		}
	}
	return sum > 1<<31
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func (c *comparison) members(p *parties) Members {
	return Members{Workloads: c.workloads(p), Pods: c.pods(p.strangers, p.outside), Addresses: texts(p.outside)}
}

// workloads names the workloads that stand, with the addresses where it is not all of one.
func (c *comparison) workloads(p *parties) []string {
	names := map[string]bool{}
	if p.points == nil {
		return nil
	}
	p.points.each(func(i int) {
		e := &c.entities[c.points[i].entity]
		if e.points.minus(p.points).empty() {
			names[e.name] = true
			return
		}
		for _, a := range c.points[i].addresses {
			names[e.name+" at "+a.String()] = true
		}
	})
	for i, spans := range p.floating {
		names[c.entities[c.points[i].entity].name+" at "+strings.Join(texts(joinSpans(spans)), " or ")] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// pods tells of strangers: those with the same labels as one, wherever they are. Whoever is at an address that is told of is meant with that.
func (c *comparison) pods(strangers []stranger, outside []span) []Pods {
	type kind struct{ namespaceLabels, labels string }
	kinds := map[kind]map[string][]span{} // by namespace
	for _, s := range strangers {
		k := kind{s.namespaceLabels.String(), s.labels.String()}
		if kinds[k] == nil {
			kinds[k] = map[string][]span{}
		}
		for _, ns := range s.namespaces {
			kinds[k][ns] = append(kinds[k][ns], s.spans...)
		}
		switch {
		case s.named:
			kinds[k][s.namespace] = append(kinds[k][s.namespace], s.spans...)
		case len(s.namespaces) == 0:
			kinds[k][ToCome] = append(kinds[k][ToCome], s.spans...)
		}
	}
	var out []Pods
	for k, byNamespace := range kinds {
		byPlace := map[string]*Pods{}
		for _, ns := range slices.Sorted(maps.Keys(byNamespace)) {
			spans := joinSpans(byNamespace[ns])
			if covered(spans, outside) {
				continue
			}
			var at []string
			if !slices.Equal(joinSpans(slices.Concat(spans, outside)), stretches(nil)) {
				at = texts(spans)
			}
			key := strings.Join(at, ",")
			if byPlace[key] == nil {
				byPlace[key] = &Pods{NamespaceLabels: k.namespaceLabels, Labels: k.labels, Addresses: at}
			}
			byPlace[key].Namespaces = append(byPlace[key].Namespaces, ns)
		}
		for _, p := range byPlace {
			out = append(out, c.widest(*p))
		}
	}
	slices.SortFunc(out, func(a, b Pods) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// widest leaves namespaces out that are all.
func (c *comparison) widest(p Pods) Pods {
	if p.Namespaces[0] == ToCome && len(p.Namespaces) == len(c.namespaces)+1 {
		p.Namespaces = nil
	}
	return p
}

// joinSpans sorts spans and joins those that touch.
func joinSpans(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].touches(s) {
			if s.last.Compare(out[n-1].last) > 0 {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// touches says whether a span that begins no earlier begins within, or right after.
func (s span) touches(next span) bool {
	return s.last.BitLen() == next.first.BitLen() && (next.first.Compare(s.last) <= 0 || next.first == s.last.Next())
}

func texts(spans []span) []string {
	var out []string
	for _, s := range spans {
		out = append(out, s.String())
	}
	return out
}

// String is a CIDR where the span is one, else both ends.
func (s span) String() string {
	for bits := 0; bits <= s.first.BitLen(); bits++ {
		if p := netip.PrefixFrom(s.first, bits); p.Masked() == p && lastOf(p) == s.last {
			return p.String()
		}
	}
	return s.first.String() + "-" + s.last.String()
}
