package agree

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// compareEgress looks at those callers whom rules pick and NetworkPolicies isolate: what the callee's layers both let pass, their own egress must, too.
func (f *finding) compareEgress() {
	seen := map[*caller]bool{}
	for _, o := range f.callee.from.outgoing {
		for _, c := range o.callers {
			if seen[c.caller] {
				continue
			}
			seen[c.caller] = true
			for i := range f.classes {
				if slices.Contains(f.classes[i].members, c.caller) {
					f.egressOf(c, &f.classes[i], &f.said[i])
				}
			}
		}
	}
}

// egressOf looks at one caller of a class.
func (f *finding) egressOf(c isolatedCaller, of *class, l7 *said) {
	callers := of.callers
	callers.Workloads = []Caller{c.ref}
	show := eval.Party{Workload: c.workload, Pod: c.workload.Pods[0], Address: of.show.Address}
	if c.caller == f.callee {
		show.Pod = another(show.Pod)
	}
	governing := kernel.GovernedBy(networkingv1.PolicyTypeEgress, show.End(f.x.ix), c.objects)
	pods := f.egressPods(c.objects)
	open, arrives := kernel.EveryPort(), kernel.EveryPort()
	for _, pod := range pods {
		open = open.Intersect(governing.Ports(f.party(pod).End(f.x.ix)))
	}
	for i := range f.faces {
		arrives = arrives.Intersect(f.faces[i].governing.Ports(of.show.End(f.x.ix)))
	}
	for _, m := range l7.must {
		missing := m.ports.Intersect(arrives).Minus(open)
		if len(missing) == 0 {
			continue
		}
		rules, refs := f.picking(m.admission, show)
		if len(rules) == 0 {
			continue
		}
		deliberate, mistaken := f.egressMeant(c.egress, show, missing, pods, governing)
		s := Shut{Callers: callers, Ports: deliberate, Side: CallerEgress, By: namesOf(governing.Isolating()), Rules: rules, Policies: refs, Request: m.request, Deliberate: true}
		if len(deliberate) > 0 {
			f.shut(s)
		}
		if len(mistaken) > 0 { // the caller's own policies mean to let it pass
			s.Ports, s.Deliberate, s.Policies = mistaken, false, slices.Clone(refs)
			for _, p := range c.egress {
				s.Policies = append(s.Policies, p.PolicyRef)
				f.out.elsewhere = true
			}
			f.shut(s)
		}
	}
}

// egressPods are the callee's pods that a caller's NetworkPolicies may tell apart: by what their ports are called, and where blocks stand in those by their addresses.
func (f *finding) egressPods(objects []*kernel.Policy) []*model.Pod {
	pods := f.callee.workload.Pods
	if !slices.ContainsFunc(objects, func(p *kernel.Policy) bool {
		return slices.ContainsFunc(p.Peers(networkingv1.PolicyTypeEgress), func(q kernel.Peer) bool {
			_, _, isBlock := q.Block()
			return isBlock
		})
	}) {
		pods = distinct(pods)
	}
	return pods
}

// egressMeant divides ports that a caller's egress shuts, to some of the callee's pods, by whether its own policies mean to shut them there.
func (f *finding) egressMeant(egress []*model.Policy, from eval.Party, ports kernel.Ports, pods []*model.Pod, governing kernel.Governing) (deliberate, mistaken kernel.Ports) {
	if len(egress) == 0 {
		return nil, ports
	}
	var open []kernel.Range
	cuts := f.x.egressCuts(egress)
	for _, pod := range pods {
		to := f.party(pod)
		for _, r := range split(ports.Minus(governing.Ports(to.End(f.x.ix))), cuts) {
			if eval.L4Among(f.x.ix, egress, networkingv1.PolicyTypeEgress, from, to, r.From, r.Protocol).Allowed {
				open = append(open, r)
			}
		}
	}
	mistaken = kernel.PortsOf(open...)
	return ports.Minus(mistaken), mistaken
}

// serviceCuts are the ports at which what an isolated pod needs may begin and end; kept while the Services and the pods are the same.
type serviceCuts struct {
	round uint64
	ports []uint16
}

const dns = 53

// egressCuts are the ports at which what policies say of a caller's egress may change.
func (x *Checker) egressCuts(egress []*model.Policy) []uint16 {
	out := append([]uint16{model.ReservedFirst, model.ReservedLast + 1}, x.plumbingCuts()...)
	for _, p := range egress {
		for i := range p.Egress {
			for _, r := range p.Egress[i].Ports {
				out = append(out, r.From, r.To+1)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// plumbingCuts: calls to a Service arrive at its pods' own ports.
func (x *Checker) plumbingCuts() []uint16 {
	mesh := &x.ix.Snapshot.Mesh
	own := []uint16{dns, dns + 1, mesh.ControlPlanePort, mesh.ControlPlanePort + 1}
	if x.cuts.round == x.round && slices.Equal(x.cuts.ports[:len(own)], own) {
		return x.cuts.ports
	}
	out := own
	for i := range x.ix.Snapshot.Services {
		s := &x.ix.Snapshot.Services[i]
		for _, q := range s.Ports {
			if q.Port != dns && q.Port != mesh.ControlPlanePort {
				continue
			}
			out = append(out, q.TargetPort, q.TargetPort+1)
			for _, w := range x.ix.InNamespace(s.Namespace) {
				for _, p := range w.Ports {
					if q.TargetName != "" && p.Name == q.TargetName {
						out = append(out, p.Number, p.Number+1)
					}
				}
			}
		}
	}
	x.cuts = serviceCuts{x.round, out}
	return out
}

// split divides ports at cuts.
func split(ports kernel.Ports, cuts []uint16) []kernel.Range {
	var out []kernel.Range
	for _, r := range ports {
		from := r.From
		for _, c := range cuts {
			if c > from && c <= r.To {
				out = append(out, kernel.Range{Protocol: r.Protocol, From: from, To: c - 1})
				from = c
			}
		}
		out = append(out, kernel.Range{Protocol: r.Protocol, From: from, To: r.To})
	}
	return out
}

// picking are the rules of an admission by which a caller is picked, by label or account, and their policies.
func (f *finding) picking(a *admission, who eval.Party) (rules []string, refs []model.PolicyRef) {
	for _, r := range a.Allows {
		if slices.ContainsFunc(r.Rule().Peers, func(p model.Peer) bool { return picks(p) && eval.Means(f.x.ix, r.Policy.Namespace, p, who) }) {
			rules = append(rules, r.Name())
			if !slices.Contains(refs, r.Policy.PolicyRef) {
				refs = append(refs, r.Policy.PolicyRef)
			}
		}
	}
	return rules, refs
}
