package diff

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Found is what a comparison found, before it is joined for people.
type Found struct{ c *comparison }

// Find compares.
func Find(before, after *model.Index) *Found {
	c := newComparison(before, after, everything(func() bool { return false }))
	for i := range c.entities {
		c.compareL7(&c.entities[i])
		c.compareL4(&c.entities[i])
	}
	return &Found{c}
}

// Complete says whether every question was answered whole.
func (f *Found) Complete() bool {
	for _, r := range f.c.raw {
		if !r.answer.complete {
			return false
		}
		for _, x := range r.answer.flips {
			if x.effect == EffectMayFlip {
				return false
			}
		}
	}
	return true
}

// Class are requests that flip: those that Judge says satisfy exactly Holds of Terms, those that the guard refuses for Guard, or, without either, anything.
type Class struct {
	Effect        Effect
	Before, After Verdict
	Terms         []reqclass.Term
	Holds         []bool
	Guard         string
	Request       *Request
}

// Match says whether peers of an object in a namespace mean somebody, on one side; without peers, whether a function holds for the name of somebody's pod.
type Match func(s Side, peers []model.Peer, namespace string, among func(pod string) bool) bool

// Subject tells, of an entity that decides in one direction, which classes of requests flip for whoever matches, at a port.
func (f *Found) Subject(l Layer, d model.Direction, subject *model.Workload) func(m Match, p PortRange) []Class {
	type prepared struct {
		census *census
		answer *answer
	}
	var all []prepared
	for _, r := range f.c.raw {
		e := &f.c.entities[r.entity]
		if r.layer != l || r.direction != d || e.before != subject {
			continue
		}
		n := &census{comparison: f.c}
		if l == L7 {
			n.before, n.after = f.c.policyFrame(f.c.before, e), f.c.policyFrame(f.c.after, e)
		} else {
			n.before, n.after = f.c.networkFrame(f.c.before, e, d), f.c.networkFrame(f.c.after, e, d)
		}
		all = append(all, prepared{n, r.answer})
	}
	return func(m Match, p PortRange) []Class {
		var out []Class
		for _, r := range all {
			vector := newBitset(r.census.size())
			for i := range r.census.size() {
				if f.matches(r.census, i, m) {
					vector.add(i)
				}
			}
			for _, x := range r.answer.flips {
				if r.answer.classes[x.class].matches.key() != vector.key() || !hold(x.ports, p) {
					continue
				}
				for _, o := range x.outcomes {
					out = append(out, Class{o.effect, o.before, o.after, o.terms, o.holds, o.guard, o.request})
				}
			}
		}
		return out
	}
}

// Side is one of the two snapshots.
type Side = side

// Sides.
const (
	Before = sideBefore
	After  = sideAfter
)

func (f *Found) matches(n *census, i int, m Match) bool {
	s := n.rule(i).sources
	if s == nil {
		return true
	}
	var peers []model.Peer
	namespace := ""
	for _, p := range s.peers {
		peers, namespace = append(peers, p.Peer), p.namespace
	}
	if s.among == nil {
		return m(n.world(i).side, peers, namespace, nil)
	}
	among := func(pod string) bool {
		for at, p := range f.c.points {
			for _, q := range f.c.entities[p.entity].after.Pods {
				if s.among.has(at) && q.Namespace+"/"+q.Name == pod {
					return true
				}
			}
		}
		return false
	}
	return m(n.world(i).side, nil, "", among) && (peers == nil || m(n.world(i).side, peers, namespace, nil))
}

// Witness is somebody who flips.
type Witness struct {
	Layer           Layer
	Direction       model.Direction
	Subject         *model.Workload // before
	Pod             string          // NAMESPACE/NAME of one that stands
	Namespace       string          // of one that does not
	NamespaceLabels labels.Set
	Labels          labels.Set
	Address         netip.Addr
	Outside         bool // an address without a pod
	Port            PortRange
	Request         *Request
	Effect          Effect
}

// Witnesses are one of each kind of parties that flip, for each class of requests.
func (f *Found) Witnesses() []Witness {
	var out []Witness
	for _, r := range f.c.raw {
		for _, x := range r.answer.flips {
			k := r.answer.classes[x.class]
			for _, o := range x.outcomes {
				for _, p := range x.ports {
					w := Witness{Layer: r.layer, Direction: r.direction, Subject: f.c.entities[r.entity].before, Port: p, Request: o.request, Effect: o.effect}
					out = append(out, f.parties(w, k)...)
				}
			}
		}
	}
	return out
}

func (f *Found) parties(w Witness, k *class) []Witness {
	var out []Witness
	k.points.each(func(i int) {
		e := &f.c.entities[f.c.points[i].entity]
		w := w
		w.Pod = fmt.Sprint(e.before.Namespace, "/", e.before.Pods[0].Name)
		out = append(out, w)
	})
	for i, spans := range k.floating {
		w := w
		e := &f.c.entities[f.c.points[i].entity]
		w.Pod = fmt.Sprint(e.before.Namespace, "/", e.before.Pods[0].Name)
		for _, s := range spans {
			if a, ok := f.c.free(s); ok {
				w.Address = a
				out = append(out, w)
			}
		}
	}
	for _, s := range k.outside {
		w := w
		w.Outside = true
		w.Address, _ = f.c.free(s)
		out = append(out, w)
	}
	for _, s := range k.strangers {
		w := w
		w.Labels, w.NamespaceLabels, w.Namespace = s.labels, s.namespaceLabels, s.namespace
		if len(s.namespaces) > 0 {
			w.Namespace = s.namespaces[0]
		}
		for _, at := range s.spans {
			if a, ok := f.c.free(at); ok {
				w.Address = a
				out = append(out, w)
				break
			}
		}
	}
	return out
}

// Known tells, of an entity that is called, whether whoever matches is in a class.
func (f *Found) Known(subject *model.Workload) func(m Match) bool {
	var all []*census
	for i := range f.c.entities {
		if e := &f.c.entities[i]; e.before == subject {
			all = append(all, f.c.census(f.c.policyFrame(f.c.before, e), f.c.policyFrame(f.c.after, e)))
		}
	}
	return func(m Match) bool {
		for _, n := range all {
			vector := newBitset(n.size())
			for r := range n.size() {
				if f.matches(n, r, m) {
					vector.add(r)
				}
			}
			if n.byMatches[vector.key()] == nil {
				return false
			}
		}
		return true
	}
}
