package envoy

import (
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// source is the address as Envoy knows it: a caller over IPv4 by its IPv4 address.
func (r *Request) source() netip.Addr { return r.Source.Unmap().WithZone("") }

func (r *Request) remote() netip.Addr {
	if r.Remote.IsValid() {
		return r.Remote.Unmap().WithZone("")
	}
	return r.source()
}

// text writes an address as the C library does, which Envoy asks: an IPv6 address that holds an IPv4 address in its last four bytes, and zeros before them, with dots.
func text(a netip.Addr) string {
	const zeros = 12
	if a.Is6() {
		if b := a.As16(); [zeros]byte(b[:zeros]) == [zeros]byte{} && (b[zeros] != 0 || b[zeros+1] != 0) {
			return "::" + netip.AddrFrom4([4]byte(b[zeros:])).String()
		}
	}
	return a.String()
}

// prefix reads a range. Envoy ignores the bits of its address behind the prefix, and takes a length beyond the address's for that.
func prefix(m *corev3.CidrRange) (netip.Prefix, error) {
	a, err := netip.ParseAddr(m.GetAddressPrefix())
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address_prefix: %w", err)
	}
	p, err := a.Prefix(min(int(m.GetPrefixLen().GetValue()), a.BitLen()))
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("prefix_len: %w", err)
	}
	return p, nil
}
