package kernel

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	firstPort uint16 = 1
	lastPort  uint16 = 65535
)

// Range is an inclusive range of one protocol's ports.
type Range struct {
	Protocol model.Protocol
	From, To uint16
}

// String is "TCP 80" or "TCP 8080-8090", and the protocol alone for all of its ports.
func (r Range) String() string {
	switch {
	case r.From == firstPort && r.To == lastPort:
		return string(r.Protocol)
	case r.From == r.To:
		return string(r.Protocol) + " " + itoa(int(r.From))
	}
	return string(r.Protocol) + " " + itoa(int(r.From)) + "-" + itoa(int(r.To))
}

// Ports is a set of ports: ranges that neither touch nor overlap, sorted by protocol and number. The zero value is the empty set.
type Ports []Range

// EveryPort are all ports of every protocol.
func EveryPort() Ports {
	return Ports{{model.SCTP, firstPort, lastPort}, {model.TCP, firstPort, lastPort}, {model.UDP, firstPort, lastPort}}
}

// PortsOf is the set of the ports of some ranges, whose list it takes over.
func PortsOf(ranges ...Range) Ports { return Ports(ranges).tidy() }

// String lists the ranges: "TCP 80, TCP 8080-8090"; "none" where there is none.
func (p Ports) String() string {
	if len(p) == 0 {
		return "none"
	}
	words := make([]string, 0, len(p))
	for _, r := range p {
		words = append(words, r.String())
	}
	return strings.Join(words, ", ")
}

// Contains says whether a port is in the set.
func (p Ports) Contains(port uint16, protocol model.Protocol) bool {
	return slices.ContainsFunc(p, func(r Range) bool { return r.Protocol == protocol && r.From <= port && port <= r.To })
}

// Of are those ports that are one protocol's: a part of the same list.
func (p Ports) Of(protocol model.Protocol) Ports {
	from := slices.IndexFunc(p, func(r Range) bool { return r.Protocol == protocol })
	if from < 0 {
		return nil
	}
	to := from
	for to < len(p) && p[to].Protocol == protocol {
		to++
	}
	return slices.Clip(p[from:to])
}

// Union are the ports that are in either set.
func (p Ports) Union(q Ports) Ports {
	switch {
	case len(p) == 0:
		return q
	case len(q) == 0:
		return p
	}
	return slices.Concat(p, q).tidy()
}

// Intersect are the ports that are in both sets.
func (p Ports) Intersect(q Ports) Ports {
	var out Ports
	for _, a := range p {
		for _, b := range q {
			if from, to := max(a.From, b.From), min(a.To, b.To); a.Protocol == b.Protocol && from <= to {
				out = append(out, Range{a.Protocol, from, to})
			}
		}
	}
	return out.tidy()
}

// Minus are the ports that are in p and not in q.
func (p Ports) Minus(q Ports) Ports {
	if len(q) == 0 {
		return p
	}
	var out Ports
	add := func(r Range) {
		if out == nil {
			out = make(Ports, 0, len(p)+len(q))
		}
		out = append(out, r)
	}
	for _, rest := range p {
		some := true
		for _, b := range q { // in order: what is left of rest lies behind what was taken away
			if b.Protocol != rest.Protocol || b.To < rest.From || rest.To < b.From {
				continue
			}
			if rest.From < b.From {
				add(Range{rest.Protocol, rest.From, b.From - 1})
			}
			if some = b.To < rest.To; !some {
				break
			}
			rest.From = b.To + 1
		}
		if some {
			add(rest)
		}
	}
	return out
}

// tidy sorts ranges and joins those that touch or overlap. It takes the slice over.
func (p Ports) tidy() Ports {
	slices.SortFunc(p, func(a, b Range) int {
		return cmp.Or(strings.Compare(string(a.Protocol), string(b.Protocol)), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	out := p[:0]
	for _, r := range p {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.From) <= int(out[n-1].To)+1 {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }
