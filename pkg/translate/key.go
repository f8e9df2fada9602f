package translate

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// digest is the SHA-256 of an exact encoding: two arguments with the same digest are the same argument.
type digest [sha256.Size]byte

// encoder writes arguments so that different arguments give different bytes: every field, every length, every nil.
type encoder []byte

func (e encoder) digest() digest { return sha256.Sum256(e) }

func (e *encoder) uint(n uint64) { *e = binary.AppendUvarint(*e, n) }

func (e *encoder) int(n int64) { *e = binary.AppendVarint(*e, n) }

func (e *encoder) bool(b bool) {
	if b {
		*e = append(*e, 1)
		return
	}
	*e = append(*e, 0)
}

func (e *encoder) string(s string) {
	e.uint(uint64(len(s)))
	*e = append(*e, s...)
}

// length writes the length of a list, and tells nil from empty: nil means any.
func length[T any](e *encoder, list []T) {
	if list == nil {
		e.uint(0)
		return
	}
	e.uint(uint64(len(list)) + 1)
}

func (e *encoder) strings(list []string) {
	length(e, list)
	for _, s := range list {
		e.string(s)
	}
}

func (e *encoder) addr(a netip.Addr) {
	e.int(int64(a.BitLen()))
	if a.Is4() {
		bytes := a.As4()
		*e = append(*e, bytes[:]...)
		return
	}
	bytes := a.As16()
	*e = append(*e, bytes[:]...)
	e.string(a.Zone())
}

func (e *encoder) prefix(p netip.Prefix) {
	e.addr(p.Addr())
	e.int(int64(p.Bits()))
}

func (e *encoder) addrPort(a netip.AddrPort) {
	e.addr(a.Addr())
	e.uint(uint64(a.Port()))
}

// inbound writes what a workload's listeners depend on.
func (e *encoder) inbound(in *inbound) {
	length(e, in.Bound)
	for _, b := range in.Bound {
		e.uint(uint64(b.Port))
		e.addrPort(b.Listen)
		e.addrPort(b.Application)
	}
	length(e, in.Chains)
	for _, c := range in.Chains {
		e.uint(uint64(c.Port))
		e.string(string(c.Kind))
	}
	e.bool(in.IPv6)
	e.bool(in.HTTP.EscapedSlashes)
	e.bool(in.HTTP.UnderscoreHeaders)
	e.bool(in.HTTP.HTTP10)
	e.int(int64(in.HTTP.MaxStreamDuration))
	e.int(int64(in.HTTP.RequestHeadersTimeout))
	e.uint(uint64(in.HTTP.MaxConcurrentStreams))
	e.uint(uint64(in.HTTP.MaxRequestHeadersKB))
}

// portMaps writes the port maps of an rbac.Input.
func (e *encoder) portMaps(ports []rbac.PortMap) {
	length(e, ports)
	for _, p := range ports {
		e.uint(uint64(p.Policy))
		e.uint(uint64(p.Socket))
	}
}

// policy writes one policy of an rbac.Input.
func (e *encoder) policy(p *rbac.Policy) {
	e.string(p.Ref.Namespace)
	e.string(p.Ref.Name)
	e.string(p.Ref.UID)
	e.int(p.Ref.Generation)
	e.string(string(p.Action))
	e.bool(p.DryRun)
	length(e, p.Rules)
	for i := range p.Rules {
		e.rule(&p.Rules[i])
	}
}

func (e *encoder) rule(r *rbac.Rule) {
	e.string(r.Name)
	e.bool(r.Sources != nil)
	if s := r.Sources; s != nil {
		length(e, s.Addresses)
		for _, a := range s.Addresses {
			e.addr(a)
		}
		length(e, s.Blocks)
		for _, b := range s.Blocks {
			e.prefix(b.CIDR)
			length(e, b.Except)
			for _, x := range b.Except {
				e.prefix(x)
			}
		}
	}
	length(e, r.Ports)
	for _, p := range r.Ports {
		e.string(string(p.Protocol))
		e.uint(uint64(p.From))
		e.uint(uint64(p.To))
		e.string(p.Name)
	}
	length(e, r.HTTP)
	for i := range r.HTTP {
		e.http(&r.HTTP[i])
	}
}

func (e *encoder) http(m *model.HTTPMatch) {
	length(e, m.Hosts)
	for _, h := range m.Hosts {
		e.string(h.Name)
		e.bool(h.Wildcard)
		e.strings(h.Aliases)
	}
	e.strings(m.Methods)
	length(e, m.Paths)
	for _, p := range m.Paths {
		e.string(string(p.Type))
		e.string(p.Value)
	}
	length(e, m.Headers)
	for _, h := range m.Headers {
		e.string(h.Name)
		e.string(string(h.Type))
		e.string(h.Value)
	}
}
