package agree

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// class are callers whom no peer tells apart, of those that count for one callee: neither of its rules nor of the NetworkPolicies that isolate it.
type class struct {
	callers Callers
	members []*caller // those of callers.Workloads
	show    eval.Party
}

// space is the space of addresses, divided by the blocks that count.
type space struct {
	blocks  []Block
	regions []region
}

// region is a block without the smaller ones in it: what no block divides.
type region struct {
	Block
	in string // for each of the space's blocks, whether the region lies in it
}

// newSpace divides all addresses. Blocks are nested or apart, so that a region is a block without those directly in it.
func newSpace(blocks []Block) space {
	s := space{blocks: blocks}
	if len(blocks) == 0 {
		return s
	}
	prefixes := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	for _, b := range blocks {
		prefixes = append(append(prefixes, b.CIDR), b.Except...)
	}
	slices.SortFunc(prefixes, comparePrefixes)
	prefixes = slices.Compact(prefixes)
	for i, p := range prefixes {
		r := region{Block: Block{CIDR: p}}
		for _, q := range prefixes[i+1:] {
			if !p.Overlaps(q) {
				break
			}
			if !slices.ContainsFunc(r.Except, q.Overlaps) { // sorted: what is in a smaller block comes after it
				r.Except = append(r.Except, q)
			}
		}
		if a, some := r.free(nil); some {
			r.in = s.membership(a)
			s.regions = append(s.regions, r)
		}
	}
	return s
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()), a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// membership says for each block whether an address lies in it. No address lies in none.
func (s space) membership(a netip.Addr) string {
	var b strings.Builder
	for _, block := range s.blocks {
		if a.IsValid() && block.Contains(a.Unmap()) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

// where are the regions of one membership.
func (s space) where(in string) []Block {
	var out []Block
	for _, r := range s.regions {
		if r.in == in {
			out = append(out, r.Block)
		}
	}
	return out
}

// free is an address of the region that is not taken, and whether there is one.
func (r region) free(taken map[netip.Addr]bool) (netip.Addr, bool) {
	for a := r.CIDR.Addr(); a.IsValid() && r.CIDR.Contains(a); {
		i := slices.IndexFunc(r.Except, func(x netip.Prefix) bool { return x.Contains(a) })
		switch {
		case i >= 0:
			a = last(r.Except[i]).Next()
		case taken[a]:
			a = a.Next()
		default:
			return a, true
		}
	}
	return netip.Addr{}, false
}

// last is the last address of a block.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// named is a workload that some peer names, or that part of its pods that one membership holds for.
type named struct {
	caller  *caller
	address netip.Addr
	in      string
	partly  bool // others of its pods differ
}

// classesOf divides everybody, for one callee. The list holds until the next is asked for.
func (x *Checker) classesOf(callee *caller) []class {
	sets, blocks := callee.from.sets(), callee.from.blocks()
	s := newSpace(blocks)
	where := map[*caller]string{} // for each set whether a caller is in it
	var order []*caller
	for i, set := range sets {
		for _, c := range set.callers {
			before := where[c]
			if before == "" {
				order = append(order, c)
			}
			where[c] = before + strings.Repeat("0", i-len(before)) + "1"
		}
	}
	groups := map[string]int{}
	out := x.classes[:0]
	for _, c := range order {
		for _, n := range parts(c, s) {
			key := where[c] + strings.Repeat("0", len(sets)-len(where[c])) + "/" + n.in
			if n.partly {
				key += "/partly"
			}
			if n.partly && !n.address.IsValid() {
				key += "/unknown"
			}
			i, known := groups[key]
			if !known {
				i = len(out)
				groups[key] = i
				out = append(out, class{show: x.party(callee, n)})
				out[i].callers.of(n, s)
			}
			out[i].members = append(out[i].members, n.caller)
		}
	}
	for i := range out {
		out[i].callers.Workloads = refsOf(out[i].members, sets)
	}
	x.classes = append(out, others(order, s)...)
	return x.classes
}

// of says which pods of the workloads count.
func (c *Callers) of(n named, s space) {
	switch {
	case !n.partly:
	case n.address.IsValid():
		c.Addresses = s.where(n.in)
	default:
		c.Unknown = true
	}
}

// refsOf names callers; a class that is all of one peer's set shares its list.
func refsOf(members []*caller, sets []*set) []Caller {
	for _, s := range sets {
		if slices.Equal(s.callers, members) {
			return s.refs
		}
	}
	out := make([]Caller, 0, len(members))
	for _, c := range members {
		out = append(out, c.ref)
	}
	return out
}

// parts divides a workload's pods by the blocks that their addresses lie in. Without blocks they are one part.
func parts(c *caller, s space) []named {
	if len(s.blocks) == 0 {
		return []named{{caller: c}}
	}
	var out []named
	add := func(a netip.Addr) {
		in := s.membership(a)
		if !slices.ContainsFunc(out, func(n named) bool { return n.in == in && n.address.IsValid() == a.IsValid() }) {
			out = append(out, named{caller: c, address: a, in: in})
		}
	}
	for _, a := range c.addresses.known {
		add(a)
	}
	if c.addresses.unknown {
		add(netip.Addr{})
	}
	for i := range out {
		out[i].partly = len(out) > 1
	}
	return out
}

// party is the pod that stands for a part. Where the callee calls itself, it stands for another of its pods.
func (x *Checker) party(callee *caller, n named) eval.Party {
	p := eval.Party{Workload: n.caller.workload, Pod: n.caller.workload.Pods[0], Address: n.address}
	for _, pod := range n.caller.workload.Pods {
		if n.address.IsValid() && slices.Contains(pod.Addresses, n.address) {
			p.Pod = pod
		}
	}
	if n.caller == callee {
		p.Pod = another(p.Pod)
	}
	return p
}

// another is a pod like the given one: a pod is never cut off from itself, and its workload may be.
func another(pod *model.Pod) *model.Pod {
	out := *pod
	out.Name += " (another)"
	return &out
}

// others are the classes of everybody whom no peer names: pods and others alike, told apart by their addresses alone.
func others(known []*caller, s space) []class {
	if len(s.blocks) == 0 {
		return []class{{}}
	}
	taken := map[netip.Addr]bool{}
	for _, c := range known {
		for _, a := range c.addresses.known {
			taken[a] = true
		}
	}
	var out []class
	at := map[string]int{}
	for _, r := range s.regions {
		a, some := r.free(taken)
		if !some {
			continue // whoever is there is known by name
		}
		i, seen := at[r.in]
		if !seen {
			i = len(out)
			at[r.in] = i
			out = append(out, class{show: eval.Party{Address: a}})
		}
		out[i].callers.Addresses = append(out[i].callers.Addresses, r.Block)
	}
	return out
}
