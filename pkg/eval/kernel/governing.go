package kernel

import (
	"cmp"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Governing are the policies that isolate one end in one direction: none leaves it open, and the union of what they let pass holds otherwise.
type Governing struct {
	direction networkingv1.PolicyType
	governed  End
	policies  []*Policy
}

// Governing finds the policies that isolate an end in a direction.
func (s *Set) Governing(d networkingv1.PolicyType, governed End) Governing {
	g := Governing{direction: d, governed: governed}
	if !governed.selectable() {
		return g
	}
	for _, p := range s.byNamespace[governed.Pod.Namespace] {
		if p.Governs(d) && p.pods.Matches(labels.Set(governed.Pod.Labels)) {
			g.policies = append(g.policies, p)
		}
	}
	return g
}

// GovernedBy is Governing for whoever knows the policies that select an end and isolate it in a direction, by name.
func GovernedBy(d networkingv1.PolicyType, governed End, policies []*Policy) Governing {
	g := Governing{direction: d, governed: governed}
	if governed.selectable() {
		g.policies = policies
	}
	return g
}

// Isolating are the NetworkPolicies that isolate the end, by name.
func (g Governing) Isolating() []*networkingv1.NetworkPolicy {
	out := make([]*networkingv1.NetworkPolicy, 0, len(g.policies))
	for _, p := range g.policies {
		out = append(out, p.object)
	}
	return out
}

// always says whether the policies have no say about the other end, and why.
func (g Governing) always(other End) (Reason, bool) {
	switch {
	case g.governed.Pod == nil:
		return ReasonOutside, true
	case g.governed.Pod.HostNetwork:
		return ReasonHostNetwork, true
	case other.Pod != nil && g.governed.Pod.Namespace == other.Pod.Namespace && g.governed.Pod.Name == other.Pod.Name:
		return ReasonSelf, true
	case len(g.policies) == 0:
		return ReasonNotIsolated, true
	}
	return "", false
}

// callee is the end whose container ports a port's name means: it is the one that is called, whichever end is governed.
func (g Governing) callee(other End) End {
	if g.direction == networkingv1.PolicyTypeEgress {
		return other
	}
	return g.governed
}

// Allows says whether the governed end lets a connection with the other pass.
func (g Governing) Allows(other End, port uint16, protocol model.Protocol) bool {
	if _, always := g.always(other); always {
		return true
	}
	callee := g.callee(other)
	for _, p := range g.policies {
		for i := range p.entries[g.direction] {
			if e := &p.entries[g.direction][i]; e.portsMatch(callee, port, protocol) && e.peersMatch(p.namespace, other) {
				return true
			}
		}
	}
	return false
}

// Decide is Allows with the reason.
func (g Governing) Decide(other End, port uint16, protocol model.Protocol) Side {
	side := Side{Direction: g.direction, Isolating: g.Isolating()}
	if reason, always := g.always(other); always {
		side.Allowed, side.Reason, side.Isolating = true, reason, nil
		return side
	}
	callee := g.callee(other)
	for _, p := range g.policies {
		for i := range p.entries[g.direction] {
			e := &p.entries[g.direction][i]
			at := Entry{Policy: p.object, Direction: g.direction, Index: i}
			peers, ports := e.peersMatch(p.namespace, other), e.portsMatch(callee, port, protocol)
			if peers && ports {
				side.Allowed, side.Reason, side.By, side.Misses = true, ReasonEntry, &at, nil
				side.ByAddress = other.selectable() && !e.peersMatch(p.namespace, End{Pod: other.Pod, NamespaceLabels: other.NamespaceLabels})
				return side
			}
			m := Miss{Entry: at, Term: TermPorts, Failing: 1}
			if !peers {
				m.Term, m.Reason = TermPeers, e.peersMissed(p.namespace, other)
			} else {
				m.Reason = e.portsMissed(callee, port, protocol)
			}
			if !peers && !ports {
				m.Failing = 2
			}
			side.Misses = append(side.Misses, m)
		}
	}
	side.Reason = ReasonNoEntry
	// Among entries that fail as much, one that knows the caller is nearer than one that knows the port.
	slices.SortStableFunc(side.Misses, func(a, b Miss) int { return cmp.Or(cmp.Compare(a.Failing, b.Failing), cmp.Compare(b.Term, a.Term)) })
	return side
}

// Ports are all ports on which the governed end lets connections with the other pass.
func (g Governing) Ports(other End) Ports {
	if _, always := g.always(other); always {
		return EveryPort()
	}
	callee := g.callee(other)
	var out Ports
	for _, p := range g.policies {
		for i := range p.entries[g.direction] {
			if e := &p.entries[g.direction][i]; e.peersMatch(p.namespace, other) {
				out = append(out, e.allowed(callee)...)
			}
		}
	}
	return out.tidy()
}

// Opening are the entries that let any of some ports of connections with the other pass. Where nothing isolates, none does.
func (g Governing) Opening(other End, ports Ports) []Entry {
	var out []Entry
	if _, always := g.always(other); always {
		return nil
	}
	callee := g.callee(other)
	for _, p := range g.policies {
		for i := range p.entries[g.direction] {
			if e := &p.entries[g.direction][i]; e.peersMatch(p.namespace, other) && e.opens(callee, ports) {
				out = append(out, Entry{Policy: p.object, Direction: g.direction, Index: i})
			}
		}
	}
	return out
}
