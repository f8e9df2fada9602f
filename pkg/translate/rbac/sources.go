package rbac

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"weak"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// sourceSet is a rule's callers: addresses of one, and blocks with exceptions. Rules with equal callers share one sourceSet.
type sourceSet struct {
	addresses []netip.Addr   // ascending, unique
	plain     []netip.Prefix // blocks without exceptions, and addresses that are not looked up by their text
	blocks    []model.IPBlock
	// Built where they are first needed.
	holds predicate
	texts []string   // of the addresses
	rest  *sourceSet // all but the addresses
}

// size is how much the set weighs in a message.
func (s *sourceSet) size() int { return len(s.addresses) + len(s.plain) + 2*len(s.blocks) }

// sourceSets makes a sourceSet once for equal Sources, and keeps none that no rule has any more.
type sourceSets struct {
	known  map[[sha256.Size]byte]weak.Pointer[sourceSet] // by the digest of their text
	swept  int                                           // how many there were after the last sweep
	buffer []byte
}

func newSourceSets() sourceSets {
	return sourceSets{known: map[[sha256.Size]byte]weak.Pointer[sourceSet]{}}
}

// of returns the set, or nil where it is empty.
func (ss *sourceSets) of(s *Sources) *sourceSet {
	set := &sourceSet{}
	if plainlyOrdered(s.Addresses) {
		set.addresses = slices.Clip(s.Addresses)
	} else {
		for _, a := range s.Addresses {
			a = a.Unmap().WithZone("")
			if a.IsValid() {
				set.add(netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	for _, b := range s.Blocks {
		cidr, ok := unmapPrefix(b.CIDR)
		if !ok {
			continue
		}
		block := model.IPBlock{CIDR: cidr}
		for _, e := range b.Except {
			if except, ok := unmapPrefix(e); ok && except.Overlaps(cidr) {
				block.Except = append(block.Except, except)
			}
		}
		if len(block.Except) == 0 {
			set.add(cidr)
		} else {
			set.blocks = append(set.blocks, block)
		}
	}
	if !plainlyOrdered(set.addresses) {
		slices.SortFunc(set.addresses, netip.Addr.Compare)
		set.addresses = slices.Compact(set.addresses)
	}
	slices.SortFunc(set.plain, comparePrefixes)
	set.plain = slices.Compact(set.plain)
	return ss.intern(set)
}

// plainlyOrdered says whether addresses are ascending and unique, and each is what Envoy knows such a peer by: they need no list of their own.
func plainlyOrdered(addresses []netip.Addr) bool {
	for i, a := range addresses {
		if !a.IsValid() || a != a.Unmap().WithZone("") || oddText(a) || i > 0 && !addresses[i-1].Less(a) {
			return false
		}
	}
	return true
}

func (s *sourceSet) add(p netip.Prefix) {
	if p.IsSingleIP() && !oddText(p.Addr()) {
		s.addresses = append(s.addresses, p.Addr())
	} else {
		s.plain = append(s.plain, p)
	}
}

// intern returns the one set of these callers.
func (ss *sourceSets) intern(set *sourceSet) *sourceSet {
	if set.size() == 0 {
		return nil
	}
	b := ss.buffer[:0]
	for _, a := range set.addresses {
		b = append(a.AppendTo(b), ' ')
	}
	for _, p := range set.plain {
		b = append(p.AppendTo(b), ' ')
	}
	for _, x := range set.blocks {
		b = x.CIDR.AppendTo(b)
		for _, e := range x.Except {
			b = e.AppendTo(append(b, '-'))
		}
		b = append(b, ' ')
	}
	ss.buffer = b
	key := sha256.Sum256(b)
	if known := ss.known[key].Value(); known != nil {
		return known
	}
	ss.sweep()
	ss.known[key] = weak.Make(set)
	return set
}

// sweep forgets the sets that are gone, when they may be half of all.
func (ss *sourceSets) sweep() {
	const few = 64
	if len(ss.known) <= 2*ss.swept+few {
		return
	}
	maps.DeleteFunc(ss.known, func(_ [sha256.Size]byte, p weak.Pointer[sourceSet]) bool { return p.Value() == nil })
	ss.swept = len(ss.known)
}

// predicate holds of the callers.
func (s *sourceSet) predicate(in *inputs) predicate {
	if s.holds == nil {
		s.holds = in.sourcePredicate(s)
	}
	return s.holds
}

// keys are what a map finds the addresses by.
func (s *sourceSet) keys() []string {
	if s.texts == nil {
		s.texts = addressTexts(s.addresses)
	}
	return s.texts
}

// others are the callers whom no text tells; nil where there are none.
func (ss *sourceSets) others(s *sourceSet) *sourceSet {
	if s.rest == nil {
		s.rest = ss.intern(&sourceSet{plain: s.plain, blocks: s.blocks})
	}
	return s.rest
}

// comparePrefixes orders by address, then by length.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// oddText: Go and the C library write such an address differently (::1.2.3.4), so its text is no key.
func oddText(a netip.Addr) bool {
	return a.Is6() && netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(a) && a != netip.IPv6Loopback()
}

// unmapPrefix turns a block of IPv4-mapped addresses into the IPv4 block: Envoy knows such a peer by its IPv4 address.
func unmapPrefix(p netip.Prefix) (netip.Prefix, bool) {
	const mapped = 96
	switch {
	case !p.IsValid():
		return p, false
	case p.Addr().Is4In6() && p.Bits() >= mapped:
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped).Masked(), true
	}
	return p.Masked(), true
}

func (in *inputs) sourcePredicate(s *sourceSet) predicate {
	if text, ok := s.expression(); ok {
		return where(in.source, text)
	}
	prefixes := append(in.prefixes[:0], s.plain...)
	for _, a := range s.addresses {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	in.prefixes = prefixes
	var ps []predicate
	if len(prefixes) > 0 {
		ps = append(ps, in.within(prefixes))
	}
	for _, b := range s.blocks {
		ps = append(ps, allOf(in.within([]netip.Prefix{b.CIDR}), not(in.within(b.Except))))
	}
	return anyOf(ps...)
}

// expression compares with the text of a few IPv4 addresses, which is written in one way only: a third of what ranges weigh in a message.
func (s *sourceSet) expression() (text, bool) {
	if len(s.addresses) == 0 || len(s.addresses) != s.size() || s.addresses[len(s.addresses)-1].Is6() {
		return text{}, false
	}
	if len(s.addresses) == 1 {
		return exactly(s.addresses[0].String()), true
	}
	texts := addressTexts(s.addresses)
	slices.Sort(texts) // ascending addresses are not ascending texts
	common := commonPrefix(texts[0], texts[len(texts)-1])
	program := len(common)
	for _, t := range texts {
		program += len(t) - len(common) + 2
	}
	if program > maxProgram {
		return text{}, false
	}
	expr := append(appendQuoted(make([]byte, 0, program+len(common)+2*len(texts)), common), "(?:"...)
	for i, t := range texts {
		if i > 0 {
			expr = append(expr, '|')
		}
		expr = appendQuoted(expr, t[len(common):])
	}
	return regex(string(append(expr, ')'))), true
}

// addressTexts are addresses as Envoy hands them over, parts of one string.
func addressTexts(addresses []netip.Addr) []string {
	const longest = len("255.255.255.255 ")
	whole := make([]byte, 0, longest*len(addresses))
	for _, a := range addresses {
		whole = append(a.AppendTo(whole), ' ')
	}
	return strings.Fields(string(whole))
}

// within holds of the peer's own address: never of what X-Forwarded-For says.
func (in *inputs) within(prefixes []netip.Prefix) predicate {
	b := in.buffer[:0]
	for _, p := range prefixes {
		b = appendRange(b, p)
	}
	b = appendText(b, ipPrefixField, statPrefix)
	n := len(b)
	b = appendExtension(b, "ip", ipType, b)
	in.buffer = b
	return whereCustom(in.source, extension(b[n:]))
}

// appendRange writes a range, which is shorter than a length of one byte can tell.
func appendRange(b []byte, p netip.Prefix) []byte {
	b = appendHead(b, rangesField, 0)
	whole := len(b)
	b = appendHead(b, addressField, 0)
	address := len(b)
	b = p.Addr().AppendTo(b)
	b[address-1] = byte(len(b) - address)
	b = appendHead(b, bitsField, 0)
	if bits := len(b); p.Bits() > 0 {
		b = appendNumber(b, uint32Field, uint64(p.Bits()))
		b[bits-1] = byte(len(b) - bits)
	}
	b[whole-1] = byte(len(b) - whole)
	return b
}

// union holds wherever one of the sets does, and maybe elsewhere: exceptions are left out.
func (in *inputs) union(sets []*sourceSet) predicate {
	prefixes := in.prefixes[:0]
	for _, s := range sets {
		prefixes = append(prefixes, s.plain...)
		for _, a := range s.addresses {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
		for _, b := range s.blocks {
			prefixes = append(prefixes, b.CIDR)
		}
	}
	slices.SortFunc(prefixes, comparePrefixes)
	in.prefixes = prefixes
	return in.within(slices.Compact(prefixes))
}
