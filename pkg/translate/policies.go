package translate

import (
	"net/netip"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// resolvedPolicy is a policy whose peers are addresses. Only named ports are left to each workload.
type resolvedPolicy struct {
	policy *model.Policy
	rules  []resolvedRule
	// For a policy without named ports, which is the same for every workload: what the compiler is given, and the digest of it.
	same *rbac.Policy
	key  digest
	// What was compiled last, and the digest of what it was compiled from: workloads seldom differ in what a port's name means.
	lowered    *rbac.Lowered
	loweredKey digest
}

type resolvedRule struct {
	rule    *model.Rule
	index   int
	sources *rbac.Sources // nil: anyone
}

// resolve turns peers into addresses. A rule whose peers mean nobody now is left out: in an Allow it admits nobody, and the policy isolates all
// the same; in a Deny there is nobody to refuse. An empty list of sources would mean anyone.
func (r *run) resolve(p *model.Policy) *resolvedPolicy {
	out := &resolvedPolicy{policy: p, rules: make([]resolvedRule, 0, len(p.Ingress))}
	named := false
	for i := range p.Ingress {
		rule := &p.Ingress[i]
		sources, somebody := r.sources(p.Namespace, rule.Peers)
		if !somebody {
			d := p.Finding("peers-mean-nobody", model.SeverityNotice, ruleField(i)+".from")
			d.Consequence = "no pod that runs now is meant, so the rule matches nothing"
			d.Remedy = "check the selectors, and that the callers carry a sidecar where accounts are named"
			r.findings.add(d)
			continue
		}
		named = named || slices.ContainsFunc(rule.Ports, func(pr model.PortRange) bool { return pr.Name != "" })
		out.rules = append(out.rules, resolvedRule{rule, i, sources})
	}
	if named {
		return out
	}
	out.same = r.forWorkload(out, nil)
	out.key = r.digest(out.same)
	return out
}

// sources is the union of what a rule's peers mean, and whether that is anybody.
func (r *run) sources(namespace string, peers []model.Peer) (sources *rbac.Sources, somebody bool) {
	if peers == nil {
		return nil, true
	}
	sources = &rbac.Sources{}
	lists := 0
	for _, peer := range peers {
		if peer.Block != nil {
			sources.Blocks = append(sources.Blocks, *peer.Block)
			continue
		}
		for _, w := range r.ix.PeerWorkloads(namespace, peer) {
			if len(w.Addresses) == 0 {
				continue
			}
			if lists++; lists == 1 {
				sources.Addresses = slices.Clip(w.Addresses) // most rules name one workload: no copy
				continue
			}
			sources.Addresses = append(sources.Addresses, w.Addresses...)
		}
	}
	if lists > 1 {
		slices.SortFunc(sources.Addresses, netip.Addr.Compare)
		sources.Addresses = slices.Compact(sources.Addresses)
	}
	return sources, len(sources.Addresses)+len(sources.Blocks) > 0
}

// forWorkload is a policy as one workload has it. Without named ports the workload does not matter, and may be nil.
func (r *run) forWorkload(p *resolvedPolicy, w *model.Workload) *rbac.Policy {
	out := &rbac.Policy{
		Ref: p.policy.PolicyRef, Action: p.policy.Action, DryRun: p.policy.DryRun, Rules: make([]rbac.Rule, 0, len(p.rules)),
	}
	for _, rule := range p.rules {
		ports, some := r.ports(p.policy, rule, w)
		if !some {
			continue
		}
		out.Rules = append(out.Rules, rbac.Rule{Name: rule.rule.Name, Sources: rule.sources, Ports: ports, HTTP: rule.rule.HTTP})
	}
	return out
}

// ports are the TCP ports that a rule means for a workload, nil for every port, and whether any is left. UDP and SCTP never reach the sidecar.
func (r *run) ports(p *model.Policy, rule resolvedRule, w *model.Workload) (ports []model.PortRange, some bool) {
	if rule.rule.Ports == nil {
		return nil, true
	}
	for _, pr := range rule.rule.Ports {
		switch {
		case pr.Protocol != model.TCP:
		case pr.Name != "":
			numbers := namedPorts(w, pr.Name)
			if len(numbers) == 0 {
				r.reportUnknownPort(w, p, rule.index, pr.Name)
			}
			// A name that no container declares means no port in an Allow, and every port in a Deny.
			if len(numbers) == 0 && p.Action == model.Deny {
				return nil, true
			}
			ports = append(ports, numbers...)
		case pr.From == 0 && pr.To == 0:
			return nil, true
		default:
			ports = append(ports, pr)
		}
	}
	return ports, len(ports) > 0
}

func namedPorts(w *model.Workload, name string) []model.PortRange {
	var out []model.PortRange
	for _, p := range w.Ports {
		if p.Name == name {
			out = append(out, model.PortRange{Protocol: model.TCP, From: p.Number, To: p.Number})
		}
	}
	return out
}

// slots compiles the policies of a workload, or finds what was compiled from the same.
func (r *run) slots(s *workloadState, w *model.Workload) rbac.Slots {
	var maps []rbac.PortMap
	for _, b := range r.inbound.Bound {
		maps = append(maps, rbac.PortMap{Policy: b.Port, Socket: b.Listen.Port()})
	}
	r.slotKey = r.slotKey[:0]
	r.slotKey.portMaps(maps)
	r.meant = r.meant[:0]
	for _, p := range s.governing {
		m := meant{p.same, p.key}
		if p.same == nil {
			m.policy = r.forWorkload(p, w)
			m.key = r.digest(m.policy)
		}
		r.meant = append(r.meant, m)
		r.slotKey = append(r.slotKey, m.key[:]...)
	}
	s.slots = r.slotKey.digest()
	slots, found := r.translator.slots.lookup(s.slots)
	if found {
		return slots
	}
	r.lowered = r.lowered[:0]
	for i, p := range s.governing {
		r.lowered = append(r.lowered, p.lower(&r.translator.compiler, r.meant[i]))
	}
	slots = r.translator.compiler.Compile(r.lowered, maps)
	r.translator.slots.store(s.slots, slots)
	return slots
}

// meant is a policy as one workload has it, and the digest of that.
type meant struct {
	policy *rbac.Policy
	key    digest
}

// lower is what the compiler makes of the policy, whatever else governs a workload. Where it has other ports than the workload before, or other callers than in the round
// before, what it says of them is lowered again.
func (p *resolvedPolicy) lower(c *rbac.Compiler, m meant) *rbac.Lowered {
	if p.lowered == nil || p.loweredKey != m.key {
		p.lowered, p.loweredKey = c.LowerAfter(m.policy, p.lowered), m.key
	}
	return p.lowered
}

func (r *run) digest(p *rbac.Policy) digest {
	r.key = r.key[:0]
	r.key.policy(p)
	return r.key.digest()
}

func refsOf(policies []*resolvedPolicy) []model.PolicyRef {
	out := make([]model.PolicyRef, 0, len(policies))
	for _, p := range policies {
		out = append(out, p.policy.PolicyRef)
	}
	return out
}
