package eval

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// L4 is what the enforced policies mean at L3/4 for one end of a connection: the governed end is the callee for Ingress and the caller for Egress. It is what companions should
// let pass, but for what NetworkPolicy cannot say. NetworkPolicies that pilot-lite did not make have no part in it.
func L4(ix *model.Index, d networkingv1.PolicyType, governed, other Party, port uint16, protocol model.Protocol) model.Verdict {
	return newL4(ix, d, governed, other, port, protocol).meant(enforced(ix))
}

// L4Among is L4 for whoever knows which policies may govern the end: enforced ones, in the snapshot's order.
func L4Among(ix *model.Index, policies []*model.Policy, d networkingv1.PolicyType, governed, other Party, port uint16, protocol model.Protocol) model.Verdict {
	return newL4(ix, d, governed, other, port, protocol).meant(among{policies: policies})
}

// l4 is one connection as one of its ends' policies see it.
type l4 struct {
	ix              *model.Index
	direction       networkingv1.PolicyType
	governed, other Party
	target          target
}

func newL4(ix *model.Index, d networkingv1.PolicyType, governed, other Party, port uint16, protocol model.Protocol) l4 {
	c := l4{ix, d, governed, other, target{port: port, protocol: protocol}}
	if d == networkingv1.PolicyTypeIngress { // a caller knows no names: in egress one matches nothing in an Allow and everything in a Deny
		c.target.pod = governed.Pod
	}
	return c
}

func (c l4) governedBy(p *model.Policy) bool {
	if c.direction == networkingv1.PolicyTypeEgress {
		return p.IsolatesEgress
	}
	return p.IsolatesIngress
}

func (c l4) rules(p *model.Policy) []model.Rule {
	if c.direction == networkingv1.PolicyTypeEgress {
		return p.Egress
	}
	return p.Ingress
}

// governing are those of some policies that have a say about the governed end.
func (c l4) governing(policies among) []*model.Policy {
	var out []*model.Policy
	for _, p := range policies.policies {
		if (policies.dryRun || !p.DryRun) && c.governedBy(p) && p.Namespace == c.governed.Pod.Namespace && p.Selector.Matches(labels.Set(c.governed.Pod.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// meant: NetworkPolicy knows no deny, so a Deny without http isolates as an Allow does, and leaves open what it does not name. A Deny with http is the sidecar's alone.
func (c l4) meant(policies among) model.Verdict {
	switch {
	case c.governed.Pod == nil:
		return model.Verdict{Allowed: true, Decider: OutcomeOutside}
	case c.governed.Pod.HostNetwork:
		return model.Verdict{Allowed: true, Decider: OutcomeHostNetwork}
	case c.governed.Pod == c.other.Pod:
		return model.Verdict{Allowed: true, Decider: OutcomeSelf}
	}
	var isolated, shut bool
	var denies, allows string
	for _, p := range c.governing(policies) {
		isolated = isolated || p.Action == model.Allow
		rules := c.rules(p)
		for i := range rules {
			r := &rules[i]
			switch {
			case p.Action == model.Deny && r.HTTP != nil:
			case p.Action == model.Deny:
				shut = true
				if denies == "" && peersMatch(c.ix, p.Namespace, r.Peers, c.other) && c.target.matches(model.Deny, r.Ports) {
					denies = model.RuleName(p.PolicyRef, r.Name)
				}
			case allows == "" && c.opens(r) == "" && peersMatch(c.ix, p.Namespace, r.Peers, c.other) && c.allowsPort(r):
				allows = model.RuleName(p.PolicyRef, r.Name)
			}
		}
	}
	switch {
	case !isolated && !shut:
		return model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}
	case c.plumbing():
		return model.Verdict{Allowed: true, Decider: OutcomePlumbing}
	case c.target.protocol == model.TCP && reserved(c.target.port):
		return model.Verdict{Decider: model.OutcomeReservedPort}
	case denies != "":
		return model.Verdict{Decider: denies}
	case !isolated:
		return model.Verdict{Allowed: true, Decider: OutcomeNotDenied}
	case allows != "":
		return model.Verdict{Allowed: true, Decider: allows}
	}
	return model.Verdict{Decider: model.OutcomeDefaultDeny}
}

// opens says why an Allow's rule opens nothing at L3/4, "" where it does: where no sidecar checks the http, the rule is shut.
func (c l4) opens(r *model.Rule) string {
	if r.HTTP == nil {
		return ""
	}
	pod := c.governed.Pod
	switch {
	case c.target.protocol != model.TCP:
		return "the rule has http, which is over TCP"
	case pod.Labels[v1alpha1.LabelProxy] != v1alpha1.ProxyInjected:
		return "the rule has http, and pod " + pod.Namespace + "/" + pod.Name + " carries no sidecar that would check it"
	case slices.Contains(pod.Proxy.ExcludedInbound, c.target.port):
		return "the rule has http, and the pod leaves the port out of the capture, so no sidecar checks it"
	}
	return ""
}

// allowsPort: a rule without ports opens TCP.
func (c l4) allowsPort(r *model.Rule) bool {
	if r.Ports == nil {
		return c.target.protocol == model.TCP
	}
	return c.target.matches(model.Allow, r.Ports)
}

// plumbing says whether an isolated pod needs the connection to live at all. No Deny takes it away.
func (c l4) plumbing() bool {
	mesh := &c.ix.Snapshot.Mesh
	if c.direction == networkingv1.PolicyTypeIngress {
		return c.target.protocol == model.TCP && slices.Contains(mesh.MetricsPorts, c.target.port) && c.plumbed(mesh.Metrics)
	}
	const dns = 53
	return c.target.protocol != model.SCTP && c.reaches(mesh.DNS, dns) || c.target.protocol == model.TCP && c.reaches(mesh.ControlPlane, mesh.ControlPlanePort)
}

// plumbed: peers of the mesh that name no namespace mean nobody, and where none is written nobody is meant.
func (c l4) plumbed(peers []model.Peer) bool {
	return peers != nil && peersMatch(c.ix, "", peers, c.other)
}

// reaches says whether the other end is one of the peers, called on a port or where calls to that port of their Services arrive.
func (c l4) reaches(peers []model.Peer, port uint16) bool {
	return c.plumbed(peers) && (c.target.port == port || c.arrives(peers, port))
}

func (c l4) arrives(peers []model.Peer, port uint16) bool {
	for i := range c.ix.Snapshot.Services {
		s := &c.ix.Snapshot.Services[i]
		if len(s.Selector) == 0 {
			continue
		}
		for _, q := range s.Ports {
			if q.Port != port || q.Protocol != c.target.protocol {
				continue
			}
			for _, w := range c.ix.InNamespace(s.Namespace) {
				if labels.SelectorFromSet(s.Selector).Matches(labels.Set(w.Labels)) && slices.ContainsFunc(w.Pods, func(p *model.Pod) bool {
					return c.listens(p, q) && peersMatch(c.ix, "", peers, Party{Pod: p})
				}) {
					return true
				}
			}
		}
	}
	return false
}

// listens says whether a Service's port is the called one in a pod.
func (c l4) listens(p *model.Pod, q model.ServicePort) bool {
	if q.TargetName == "" {
		return q.TargetPort == c.target.port
	}
	number, _ := target{pod: p, port: c.target.port, protocol: q.Protocol}.named(q.TargetName)
	return number
}
