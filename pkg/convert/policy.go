package convert

import (
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Policy converts a policy: defaults filled in, selectors parsed, and the effect of every broken part applied. It checks the policy itself: one
// that was written past admission, or before a check existed, fails closed like any other, and each finding tells how.
func Policy(p *v1alpha1.L7Policy) (model.Policy, []model.Diagnostic) {
	out, findings := convertPolicy(p)
	effect := func(e *validation.Error) string { return ": " + string(effectOf(out.Action, partOf(e.Field))) }
	return out, append(report(p, findings, effect), warnings(p, &out)...)
}

// PolicyInFile converts a policy of a file. Nothing of a file with an error is taken, so that its findings promise none of the effects that they have in a cluster.
func PolicyInFile(p *v1alpha1.L7Policy) (model.Policy, []model.Diagnostic) {
	out, findings := convertPolicy(p)
	none := func(*validation.Error) string { return "" }
	return out, append(report(p, findings, none), warnings(p, &out)...)
}

func convertPolicy(p *v1alpha1.L7Policy) (model.Policy, []*validation.Error) {
	findings := validation.Findings(p)
	c := &policyConverter{action: model.Allow, broken: brokenFields(findings)}
	if p.Spec.Action != "" && p.Spec.Action != v1alpha1.ActionAllow {
		c.action = model.Deny // an unknown action too: it denies everything
	}
	c.shut = slices.ContainsFunc(findings, func(e *validation.Error) bool { return partOf(e.Field) == partFrame })
	out := model.Policy{
		PolicyRef: model.PolicyRef{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Generation: p.Generation},
		Action:    c.action,
		DryRun:    p.Spec.Enforcement == v1alpha1.EnforcementDryRun,
		Accepted:  len(findings) == 0,
		Guarded:   guarded(&p.ObjectMeta),
	}
	out.IsolatesIngress, out.IsolatesEgress = c.directions(&p.Spec)
	out.Selector = c.policySelector(&p.Spec.PodSelector)
	if out.IsolatesIngress {
		out.Ingress = c.rules("spec.ingress", ingressRules(p.Spec.Ingress))
	}
	if out.IsolatesEgress {
		out.Egress = c.rules("spec.egress", egressRules(p.Spec.Egress))
	}
	return out, findings
}

// policyConverter converts one policy.
type policyConverter struct {
	action model.Action
	broken broken
	shut   bool // broken as a whole
}

// directions says which directions the policy governs, as NetworkPolicy defines it; both where that is not understood.
func (c *policyConverter) directions(s *v1alpha1.L7PolicySpec) (ingress, egress bool) {
	if c.broken.within("spec.policyTypes") {
		return true, true
	}
	if len(s.PolicyTypes) == 0 {
		return true, len(s.Egress) > 0
	}
	for _, t := range s.PolicyTypes {
		ingress = ingress || t == v1alpha1.PolicyTypeIngress
		egress = egress || t == v1alpha1.PolicyTypeEgress
	}
	return ingress, egress
}

// policySelector: a selector that is not understood governs every pod of the namespace.
func (c *policyConverter) policySelector(s *v1alpha1.LabelSelector) labels.Selector {
	if c.broken.within("spec.podSelector") {
		return labels.Everything()
	}
	return selector(s)
}

// selector parses a selector in which validation found nothing, so that it parses.
func selector(s *v1alpha1.LabelSelector) labels.Selector {
	out, err := validation.ParseSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return out
}

// policyRule is a rule of either direction.
type policyRule struct {
	name       v1alpha1.RuleName
	peers      []v1alpha1.Peer
	peersField string
	ports      []v1alpha1.Port
	http       []v1alpha1.HTTPMatch
}

func ingressRules(rules []v1alpha1.IngressRule) []policyRule {
	out := make([]policyRule, 0, len(rules))
	for _, r := range rules {
		out = append(out, policyRule{name: r.Name, peers: r.From, peersField: "from", ports: r.Ports, http: r.HTTP})
	}
	return out
}

func egressRules(rules []v1alpha1.EgressRule) []policyRule {
	out := make([]policyRule, 0, len(rules))
	for _, r := range rules {
		out = append(out, policyRule{name: r.Name, peers: r.To, peersField: "to", ports: r.Ports})
	}
	return out
}

// rules converts the rules of a governed direction.
func (c *policyConverter) rules(field string, rules []policyRule) []model.Rule {
	if c.shut || c.broken.at(field) {
		return shutRules(c.action)
	}
	var out []model.Rule
	for i, r := range rules {
		if converted, kept := c.rule(index(field, i), strconv.Itoa(i), r); kept {
			out = append(out, converted)
		}
	}
	return out
}

// shutRules are the rules of what is broken as a whole: an Allow isolates and allows nothing, a Deny denies everything.
func shutRules(action model.Action) []model.Rule {
	if action == model.Deny {
		return []model.Rule{{Name: "0"}}
	}
	return nil
}

// rule converts one rule, and says whether it is kept.
func (c *policyConverter) rule(field, name string, r policyRule) (model.Rule, bool) {
	peersField, portsField, httpField := field+"."+r.peersField, field+".ports", field+".http"
	for _, dimension := range []string{peersField, portsField, httpField} {
		if c.broken.within(dimension) && effectOf(c.action, partDimension) == effectDropRule {
			return model.Rule{}, false
		}
	}
	out := model.Rule{Name: name}
	if r.name != "" && !c.broken.within(field+".name") {
		out.Name = string(r.name)
	}
	// From here on what is broken belongs to a Deny, and is left nil: any.
	if len(r.peers) > 0 && !c.broken.within(peersField) {
		out.Peers = peers(r.peers)
	}
	if len(r.ports) > 0 && !c.broken.within(portsField) {
		out.Ports = ports(r.ports)
	}
	if r.http != nil && !c.broken.at(httpField) {
		out.HTTP = c.http(httpField, r.http)
	}
	return out, true
}

func peers(in []v1alpha1.Peer) []model.Peer {
	out := make([]model.Peer, 0, len(in))
	for i := range in {
		p := &in[i]
		var m model.Peer
		if p.PodSelector != nil {
			m.Pods = selector(p.PodSelector)
		}
		if p.NamespaceSelector != nil {
			m.Namespaces = selector(p.NamespaceSelector)
		}
		for _, a := range p.ServiceAccounts {
			m.ServiceAccounts = append(m.ServiceAccounts, a.Name)
		}
		if p.IPBlock != nil {
			m.Block = block(p.IPBlock)
		}
		out = append(out, m)
	}
	return out
}

func block(b *v1alpha1.IPBlock) *model.IPBlock {
	out := &model.IPBlock{}
	out.CIDR, _ = validation.ParseCIDR(b.CIDR)
	for _, e := range b.Except {
		except, _ := validation.ParseCIDR(e)
		out.Except = append(out.Except, except)
	}
	return out
}

func ports(in []v1alpha1.Port) []model.PortRange {
	out := make([]model.PortRange, 0, len(in))
	for _, p := range in {
		m := model.PortRange{Protocol: model.TCP}
		if p.Protocol != nil {
			m.Protocol = model.Protocol(*p.Protocol)
		}
		switch {
		case p.Port == nil:
		case p.Port.Type == intstr.String:
			m.Name = p.Port.StrVal
		default: // validation holds numbers within 1 to 65535
			m.From, m.To = uint16(p.Port.IntVal), uint16(p.Port.IntVal)
			if p.EndPort != nil {
				m.To = uint16(*p.EndPort)
			}
		}
		out = append(out, m)
	}
	return out
}
