package kernel

import (
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Decision is what both ends' policies make of one connection.
type Decision struct {
	Egress, Ingress Side
}

// Allowed says whether the connection passes: both ends must let it.
func (d Decision) Allowed() bool { return d.Egress.Allowed && d.Ingress.Allowed }

// Decide says whether a connection passes, and why.
func (s *Set) Decide(from, to End, port uint16, protocol model.Protocol) Decision {
	return Decision{
		Egress:  s.Governing(networkingv1.PolicyTypeEgress, from).Decide(to, port, protocol),
		Ingress: s.Governing(networkingv1.PolicyTypeIngress, to).Decide(from, port, protocol),
	}
}

// Ports are all ports of the second end that pass from the first.
func (s *Set) Ports(from, to End) Ports {
	return s.Governing(networkingv1.PolicyTypeEgress, from).Ports(to).Intersect(s.Governing(networkingv1.PolicyTypeIngress, to).Ports(from))
}
