package rbac

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// span is an inclusive range of socket ports.
type span struct{ from, to uint16 }

// expanded is the number of ports up to which a set is looked up port by port.
const expanded = 16

// portSet is the socket ports that a rule is about.
type portSet struct {
	spans []span
	any   bool
}

// none says whether no port is in the set.
func (p portSet) none() bool { return !p.any && len(p.spans) == 0 }

func (p portSet) equal(o portSet) bool { return p.any == o.any && slices.Equal(p.spans, o.spans) }

// namedPorts resolves a rule's ranges. Other protocols than TCP never reach the proxy. What cannot be resolved matches nothing in an Allow and
// everything in a Deny.
func namedPorts(ranges []model.PortRange, action model.Action) portSet {
	if ranges == nil || len(ranges) == 0 && action == model.Deny {
		return portSet{any: true}
	}
	var spans []span
	for _, r := range ranges {
		switch {
		case r.Protocol != model.TCP:
		case r.Name != "" || r.From > r.To:
			if action == model.Deny {
				return portSet{any: true}
			}
		case r.From == 0 && r.To == 0:
			return portSet{any: true}
		default:
			spans = append(spans, span{r.From, r.To})
		}
	}
	return portSet{spans: normalize(spans)}
}

// sockets translates the ports that policies name into those that sockets have. Where one socket number stands for several policy ports, an
// Allow must name them all, a Deny any.
func (p portSet) sockets(maps []PortMap, action model.Action) portSet {
	if p.any || len(maps) == 0 {
		return p
	}
	named := map[uint16][]uint16{}
	for _, m := range maps {
		named[m.Socket] = append(named[m.Socket], m.Policy)
	}
	out := p.spans
	for socket, ports := range named {
		out = remove(out, socket)
		holds := func(port uint16) bool { return contains(p.spans, port) }
		lacks := func(port uint16) bool { return !contains(p.spans, port) }
		if action == model.Deny && slices.ContainsFunc(ports, holds) || action == model.Allow && !slices.ContainsFunc(ports, lacks) {
			out = append(out, span{socket, socket})
		}
	}
	return portSet{spans: normalize(out)}
}

func contains(spans []span, port uint16) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return s.from <= port && port <= s.to })
}

func remove(spans []span, port uint16) []span {
	var out []span
	for _, s := range spans {
		if port < s.from || port > s.to {
			out = append(out, s)
			continue
		}
		if s.from < port {
			out = append(out, span{s.from, port - 1})
		}
		if port < s.to {
			out = append(out, span{port + 1, s.to})
		}
	}
	return out
}

// normalize sorts spans and joins those that touch.
func normalize(spans []span) []span {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var out []span
	for _, s := range sorted {
		if n := len(out); n > 0 && int(s.from) <= int(out[n-1].to)+1 {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// predicate holds of the destination ports in the set; nil for any.
func (p portSet) predicate(in *inputs) predicate {
	if p.any {
		return nil
	}
	var ps []predicate
	for _, s := range p.spans {
		if s.from == s.to {
			ps = append(ps, where(in.port, exactly(strconv.Itoa(int(s.from)))))
		} else {
			ps = append(ps, where(in.port, regex(numbers(int(s.from), int(s.to)))))
		}
	}
	return anyOf(ps...)
}

// listed returns the ports of a small set, for a map.
func (p portSet) listed() []string {
	var out []string
	for _, s := range p.spans {
		if int(s.to)-int(s.from)+len(out) >= expanded {
			return nil
		}
		for n := int(s.from); n <= int(s.to); n++ {
			out = append(out, strconv.Itoa(n))
		}
	}
	return out
}

// numbers is the expression for the decimal numbers from lo to hi: digit by digit, in blocks whose last digits are free.
func numbers(lo, hi int) string {
	var parts []string
	for lo <= hi {
		free := 1 // the largest power of ten that lo is a multiple of and that does not reach beyond hi, or into one digit more
		for lo%(free*10) == 0 && lo+free*10-1 <= hi && free*10 <= lo {
			free *= 10
		}
		last := lo
		for last/free%10 < 9 && last+2*free-1 <= hi {
			last += free
		}
		parts = append(parts, block(lo/free, last/free, free))
		lo = last + free
	}
	return strings.Join(parts, "|")
}

// block writes heads that differ in their last digit only, followed by the free digits.
func block(head, lastHead, free int) string {
	out := strconv.Itoa(head)
	if lastHead > head {
		out = out[:len(out)-1] + "[" + out[len(out)-1:] + "-" + strconv.Itoa(lastHead%10) + "]"
	}
	var outSb155 strings.Builder
	for ; free > 1; free /= 10 {
		outSb155.WriteString("[0-9]")
	}
	out += outSb155.String()
	return out
}
