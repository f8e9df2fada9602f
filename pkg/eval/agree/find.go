package agree

import (
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// finding is the work on one callee.
type finding struct {
	x        *Checker
	callee   *caller
	policies []*model.Policy
	finder   reqclass.Finder
	isolated bool // some Allow governs it
	ours     bool // some companion isolates it
	faces    []face
	cuts     map[model.Protocol][]uint16
	classes  []class
	said     []said // of each class
	out      *Workload
}

// face is a pod of the callee, of those whose ports are called the same.
type face struct {
	pod       *model.Pod
	governing kernel.Governing
}

// find compares the layers for one callee.
func (x *Checker) find(callee *caller) *Workload {
	clear(x.admitted)
	f := &finding{x: x, callee: callee}
	f.out = &Workload{Key: callee.ref.Key, Namespace: callee.ref.Namespace, Name: callee.ref.Name, IsolatedOut: len(callee.objectsOut) > 0}
	f.out.Policies = refsOfPolicies(callee.policies)
	for _, p := range callee.policies {
		f.policies = append(f.policies, p.source)
		f.isolated = f.isolated || p.source.Action == model.Allow
	}
	var objects []*kernel.Policy
	for _, o := range callee.objects {
		f.ours = f.ours || o.ours
		objects = append(objects, o.parsed)
	}
	for _, pod := range distinct(callee.workload.Pods) {
		f.faces = append(f.faces, face{pod, kernel.GovernedBy(networkingv1.PolicyTypeIngress, f.party(pod).End(x.ix), objects)})
	}
	f.cut()
	f.classes = x.classesOf(callee)
	f.said, f.out.Access = x.said[:0], make([]Access, 0, len(f.classes))
	for i := range f.classes {
		f.said = append(f.said, f.ask(&f.classes[i]))
		f.compare(&f.classes[i], &f.said[i])
	}
	f.compareEgress()
	x.said = f.said
	return f.out
}

// distinct are pods whose ports are called differently, one of each kind.
func distinct(pods []*model.Pod) []*model.Pod {
	var out []*model.Pod
	for _, p := range pods {
		if !slices.ContainsFunc(out, func(o *model.Pod) bool { return slices.Equal(o.Ports, p.Ports) }) {
			out = append(out, p)
		}
	}
	return out
}

func (f *finding) party(pod *model.Pod) eval.Party {
	p := eval.Party{Workload: f.callee.workload, Pod: pod}
	if len(pod.Addresses) > 0 {
		p.Address = pod.Addresses[0]
	}
	return p
}

// cut finds the ports at which what policies say may change: between two of them all ports are one.
func (f *finding) cut() {
	f.cuts = map[model.Protocol][]uint16{model.TCP: {1, model.ReservedFirst, model.ReservedLast + 1}, model.UDP: {1}, model.SCTP: {1}}
	add := func(protocol model.Protocol, from, to uint16) {
		f.cuts[protocol] = append(f.cuts[protocol], from)
		if to < 65535 {
			f.cuts[protocol] = append(f.cuts[protocol], to+1)
		}
	}
	for _, p := range f.callee.workload.Ports {
		add(model.TCP, p.Number, p.Number)
	}
	for _, face := range f.faces {
		for _, c := range face.pod.Ports {
			add(c.Protocol, c.Number, c.Number)
		}
	}
	for _, n := range f.callee.workload.Proxy.ExcludedInbound {
		add(model.TCP, n, n)
	}
	for _, n := range f.x.ix.Snapshot.Mesh.MetricsPorts {
		add(model.TCP, n, n)
	}
	for _, p := range f.policies {
		for i := range p.Ingress {
			for _, r := range p.Ingress[i].Ports {
				if r.From != 0 {
					add(r.Protocol, r.From, r.To)
				}
			}
		}
	}
	for protocol, list := range f.cuts {
		slices.Sort(list)
		f.cuts[protocol] = slices.Compact(list)
	}
}

// eachRange calls what is given with every range that no cut divides.
func (f *finding) eachRange(protocol model.Protocol, yield func(kernel.Range)) {
	cuts := f.cuts[protocol]
	for i, from := range cuts {
		to := uint16(65535)
		if i+1 < len(cuts) {
			to = cuts[i+1] - 1
		}
		if from != 0 && from <= to {
			yield(kernel.Range{Protocol: protocol, From: from, To: to})
		}
	}
}

// said is what the policies say of one class of callers.
type said struct {
	allowed  kernel.Ports // what some request or some bytes may reach
	requests kernel.Ports // those where rules look at requests
	plumbing kernel.Ports
	must     []must
}

// must is what L3/4 must let pass, since a sidecar allows it, or a rule that no sidecar need check.
type must struct {
	ports kernel.Ports
	*admission
}

// compare compares the layers for one class of callers.
func (f *finding) compare(c *class, l7 *said) {
	access := Access{Callers: c.callers, L7: l7.allowed.Of(model.TCP), Requests: l7.requests}
	for i := range f.faces {
		face := &f.faces[i]
		other := c.show.End(f.x.ix)
		l4 := face.governing.Ports(other)
		access.L4 = access.L4.Union(l4)
		if len(f.policies) == 0 {
			continue
		}
		for _, m := range l7.must {
			if missing := m.ports.Minus(l4); len(missing) > 0 {
				rules, policies := f.by(m.admission)
				f.shut(Shut{
					Callers: c.callers, Ports: missing, Side: CalleeIngress, By: namesOf(face.governing.Isolating()), Rules: rules, Policies: policies, Request: m.request,
					// What nothing forbids, and no rule names, may be shut by others' NetworkPolicies.
					Deliberate: !f.isolated && !f.ours,
				})
			}
		}
		wider := l4.Minus(l7.allowed.Of(model.TCP)).Minus(f.meant(face, c, l4))
		for _, part := range []Wider{{Ports: wider.Minus(l7.plumbing)}, {Ports: wider.Intersect(l7.plumbing), Plumbing: true}} {
			if len(part.Ports) == 0 {
				continue
			}
			part.Callers = c.callers
			for _, e := range face.governing.Opening(other, part.Ports) {
				part.By = append(part.By, e.String())
			}
			f.wider(part)
		}
	}
	f.out.Access = append(f.out.Access, access)
}

// shut and wider add to what was found; the faces of one callee say mostly the same.
func (f *finding) shut(s Shut) {
	s.Callee = f.callee.ref
	for i := range f.out.Shut {
		o := &f.out.Shut[i]
		if o.Side == s.Side && o.Deliberate == s.Deliberate && o.Callers.same(s.Callers) && slices.Equal(o.Rules, s.Rules) && slices.Equal(o.By, s.By) {
			o.Ports = o.Ports.Union(s.Ports)
			return
		}
	}
	f.out.Shut = append(f.out.Shut, s)
}

func (f *finding) wider(w Wider) {
	w.Callee = f.callee.ref
	for i := range f.out.Wider {
		o := &f.out.Wider[i]
		if o.Plumbing == w.Plumbing && o.Callers.same(w.Callers) && slices.Equal(o.By, w.By) {
			o.Ports = o.Ports.Union(w.Ports)
			return
		}
	}
	if f.out.Wider == nil {
		f.out.Wider = make([]Wider, 0, len(f.classes))
	}
	f.out.Wider = append(f.out.Wider, w)
}

func (c Callers) same(o Callers) bool {
	return slices.Equal(c.Workloads, o.Workloads) && c.Unknown == o.Unknown &&
		slices.EqualFunc(c.Addresses, o.Addresses, Block.same)
}

func namesOf(list []*networkingv1.NetworkPolicy) []string {
	var out []string
	for _, np := range list {
		out = append(out, np.Namespace+"/"+np.Name)
	}
	return out
}

// sidecarLooks says whether the callee's sidecar decides about a port.
func (f *finding) sidecarLooks(port uint16) bool {
	return f.callee.workload.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected && !slices.Contains(f.callee.workload.Proxy.ExcludedInbound, port)
}

// ask finds what the policies say of TCP from one class of callers.
func (f *finding) ask(c *class) said {
	var out said
	f.eachRange(model.TCP, func(r kernel.Range) {
		connection := eval.ConnectAmong(f.x.ix, f.policies, f.callee.workload, c.show, r.From)
		a := f.admission(&connection)
		if a.possible {
			out.allowed = append(out.allowed, r)
		}
		if a.possible && a.looks {
			out.requests = append(out.requests, r)
		}
		if len(f.policies) == 0 {
			return
		}
		needed := a.possible && !connection.Reserved
		if looks := f.sidecarLooks(r.From); !looks || slices.Contains(f.x.ix.Snapshot.Mesh.MetricsPorts, r.From) {
			meant := eval.L4Among(f.x.ix, f.policies, networkingv1.PolicyTypeIngress, f.party(f.faces[0].pod), c.show, r.From, model.TCP)
			plumbing := meant.Decider == eval.OutcomePlumbing
			if plumbing {
				out.plumbing = append(out.plumbing, r)
			}
			if !looks {
				needed = meant.Allowed && !plumbing
			}
		}
		if !needed {
			return
		}
		if i := slices.IndexFunc(out.must, func(m must) bool { return m.admission == a }); i >= 0 {
			out.must[i].ports = append(out.must[i].ports, r)
			return
		}
		out.must = append(out.must, must{kernel.Ports{r}, a})
	})
	out.allowed, out.requests, out.plumbing = kernel.PortsOf(out.allowed...), kernel.PortsOf(out.requests...), kernel.PortsOf(out.plumbing...)
	for i := range out.must {
		out.must[i].ports = kernel.PortsOf(out.must[i].ports...)
	}
	return out
}

// meant are the ports that are not TCP and that the policies open, of those that are open.
func (f *finding) meant(at *face, c *class, open kernel.Ports) kernel.Ports {
	var out kernel.Ports
	for _, protocol := range []model.Protocol{model.UDP, model.SCTP} {
		if len(open.Of(protocol)) == 0 {
			continue
		}
		f.eachRange(protocol, func(r kernel.Range) {
			if eval.L4Among(f.x.ix, f.policies, networkingv1.PolicyTypeIngress, f.party(at.pod), c.show, r.From, protocol).Allowed {
				out = append(out, r)
			}
		})
	}
	return kernel.PortsOf(out...)
}
