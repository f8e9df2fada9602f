package validation

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

func (c *checker) peers(field string, peers []v1alpha1.Peer) {
	if !c.fits(field, len(peers), maxPeers) {
		return
	}
	for i := range peers {
		c.peer(index(field, i), &peers[i])
	}
}

func (c *checker) peer(field string, p *v1alpha1.Peer) {
	if p.PodSelector == nil && p.NamespaceSelector == nil && p.IPBlock == nil && p.ServiceAccounts == nil {
		c.add(CheckPeerEmpty, field, "name whom the peer means; for anyone, remove the whole list", "the peer is empty")
		return
	}
	if p.IPBlock != nil {
		if p.PodSelector != nil || p.NamespaceSelector != nil || p.ServiceAccounts != nil {
			c.add(CheckPeerBlockAlone, field, "make the ipBlock an entry of its own", "ipBlock does not go with other fields")
		}
		c.block(child(field, "ipBlock"), p.IPBlock)
	}
	if p.PodSelector != nil {
		c.selector(child(field, "podSelector"), p.PodSelector)
	}
	if p.NamespaceSelector != nil {
		c.selector(child(field, "namespaceSelector"), p.NamespaceSelector)
	}
	accounts := child(field, "serviceAccounts")
	written(c, accounts, p.ServiceAccounts)
	if !c.fits(accounts, len(p.ServiceAccounts), maxEach) {
		return
	}
	for i, a := range p.ServiceAccounts {
		if len(a.Name) > maxString || len(validation.IsDNS1123Subdomain(a.Name)) > 0 {
			c.add(CheckServiceAccount, child(index(accounts, i), "name"), "give the account's name alone, without its namespace",
				"%s is not the name of a service account", quote(a.Name))
		}
	}
}

func (c *checker) block(field string, b *v1alpha1.IPBlock) {
	block, ok := c.cidr(child(field, "cidr"), b.CIDR)
	if !c.fits(child(field, "except"), len(b.Except), maxExcept) {
		return
	}
	for i, e := range b.Except {
		at := index(child(field, "except"), i)
		except, exceptOK := c.cidr(at, e)
		if ok && exceptOK && (except.Bits() <= block.Bits() || !block.Contains(except.Addr())) {
			c.add(CheckExcept, at, "list blocks inside the cidr only", "%s is not inside %s", except, block)
		}
	}
}

func (c *checker) cidr(field string, s v1alpha1.CIDR) (netip.Prefix, bool) {
	p, err := ParseCIDR(s)
	if !err {
		c.add(CheckCIDR, field, "write a block such as 10.0.0.0/8, without bits after the prefix", "%s is not an address block", quote(string(s)))
	}
	return p, err
}

// ParseCIDR parses a block that has no bits after its prefix. IPv4 inside IPv6 is refused: no packet carries it.
func ParseCIDR(s v1alpha1.CIDR) (netip.Prefix, bool) {
	if len(s) > len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128") {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(string(s))
	return p, err == nil && p == p.Masked() && !p.Addr().Is4In6()
}

func (c *checker) ports(field string, ports []v1alpha1.Port) {
	if !c.fits(field, len(ports), maxPorts) {
		return
	}
	for i := range ports {
		c.port(index(field, i), &ports[i])
	}
}

func (c *checker) port(field string, p *v1alpha1.Port) {
	if p.Protocol != nil && !slices.Contains([]v1alpha1.Protocol{"TCP", "UDP", "SCTP"}, *p.Protocol) {
		c.add(CheckProtocol, child(field, "protocol"), "use TCP, UDP or SCTP", "%s is not a protocol", quote(string(*p.Protocol)))
	}
	numeric := p.Port != nil && p.Port.Type == intstr.Int
	switch {
	case p.Port == nil:
	case numeric:
		if len(validation.IsValidPortNum(int(p.Port.IntVal))) > 0 {
			c.add(CheckPort, child(field, "port"), "use 1 to 65535", "%d is not a port", p.Port.IntVal)
		}
	default:
		if len(p.Port.StrVal) > 15 || len(validation.IsValidPortName(p.Port.StrVal)) > 0 {
			c.add(CheckPort, child(field, "port"), "use a number without quotes, or the name of a container port: at most 15 of a-z, 0-9 and single dashes",
				"%s is not a port's name", quote(p.Port.StrVal))
		}
	}
	if p.EndPort == nil {
		return
	}
	switch {
	case !numeric:
		c.add(CheckEndPort, child(field, "endPort"), "give the first port of the range as a number in port", "endPort needs a numeric port")
	case *p.EndPort < p.Port.IntVal || *p.EndPort > 65535:
		c.add(CheckEndPort, child(field, "endPort"), "use a port from port to 65535", "%d does not end a range that begins at %d", *p.EndPort, p.Port.IntVal)
	}
}

// overTCP: nothing but TCP carries the http of a rule.
func (c *checker) overTCP(field string, ports []v1alpha1.Port) {
	if len(ports) > maxPorts {
		return
	}
	for i, p := range ports {
		if p.Protocol != nil && *p.Protocol != "TCP" {
			c.add(CheckHTTPOverTCP, child(index(field, i), "protocol"), "take the http block or this port out of the rule", "http is spoken over TCP")
		}
	}
}
