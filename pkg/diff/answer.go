package diff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// answer is what flips for every entity about which the same decides.
type answer struct {
	classes  []*class
	flips    []classFlip
	complete bool
}

// classFlip flips for one class of parties.
type classFlip struct {
	class         int
	ports         []PortRange
	effect        Effect
	before, after Verdict
	outcomes      []outcome
}

// raw is what flips for one entity, before it is joined with others.
type raw struct {
	layer     Layer
	direction Direction
	entity    int
	answer    *answer
}

// compareEntity compares what two frames decide about an entity, each pair of frames once.
func (c *comparison) compareEntity(l Layer, d Direction, e *entity, before, after *frame) {
	key := string(l) + before.key() + "/" + after.key()
	a, known := c.answers[key]
	if !known {
		a = c.answer(l, before, after)
		c.answers[key] = a
	}
	if len(a.flips) > 0 || !a.complete {
		c.raw = append(c.raw, raw{l, d, e.id, a})
	}
}

func (l Layer) protocols() []model.Protocol {
	if l == L7 {
		return []model.Protocol{model.TCP}
	}
	return []model.Protocol{model.TCP, model.UDP, model.SCTP}
}

func (c *comparison) answer(l Layer, before, after *frame) *answer {
	n := c.census(before, after)
	a := &answer{classes: n.classes, complete: n.complete}
	for i, k := range n.classes {
		if c.stop() {
			a.complete = false
			break
		}
		a.flips = append(a.flips, c.classFlips(l, i, k, before, after)...)
	}
	return a
}

// classFlips compares what a class may do, on every port.
func (c *comparison) classFlips(l Layer, at int, k *class, before, after *frame) []classFlip {
	was := func(i int) bool { return k.matches.has(i) }
	is := func(i int) bool { return k.matches.has(len(before.rules) + i) }
	bounds := slices.Concat(before.bounds(was), after.bounds(is))
	type decided struct {
		before, after decision
		ports         []PortRange
	}
	var distinct []*decided
	byKey := map[string]*decided{}
	for _, protocol := range l.protocols() {
		for _, p := range portParts(protocol, bounds) {
			d := &decided{before: before.decide(was, p), after: after.decide(is, p)}
			key := d.before.key() + "/" + d.after.key()
			if known := byKey[key]; known != nil {
				d = known
			} else {
				byKey[key] = d
				distinct = append(distinct, d)
			}
			d.ports = append(d.ports, p)
		}
	}
	var out []classFlip
	for _, d := range distinct {
		for _, o := range c.asker.outcomes(&d.before, &d.after) {
			out = appendOutcome(out, at, joinPorts(d.ports), o)
		}
	}
	return out
}

// appendOutcome joins outcomes that flip alike on the same ports.
func appendOutcome(out []classFlip, class int, ports []PortRange, o outcome) []classFlip {
	for i := range out {
		f := &out[i]
		if f.effect == o.effect && f.before == o.before && f.after == o.after && slices.Equal(f.ports, ports) && (f.outcomes[0].request == nil) == (o.request == nil) {
			f.outcomes = append(f.outcomes, o)
			return out
		}
	}
	return append(out, classFlip{class: class, ports: ports, effect: o.effect, before: o.before, after: o.after, outcomes: []outcome{o}})
}

// key is what flips, apart from ports and from whom it flips for.
func (f *classFlip) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v %v", f.effect, f.before, f.after)
	for _, o := range f.outcomes {
		if o.request != nil {
			fmt.Fprintf(&b, " %q", o.request.String())
		}
	}
	return b.String()
}

// joined are flips of several classes that are the same but for the class.
type joined struct {
	classFlip

	classes []int
}

// join joins what flips alike: first the ports of one class, then the classes.
func (a *answer) join() []joined {
	type place struct {
		class int
		key   string
	}
	var order []place
	byPlace := map[place]*classFlip{}
	for i := range a.flips {
		f := a.flips[i]
		p := place{f.class, f.key()}
		if known := byPlace[p]; known != nil {
			known.ports = joinPorts(slices.Concat(known.ports, f.ports))
			continue
		}
		byPlace[p] = &f
		order = append(order, p)
	}
	var out []joined
	at := map[string]int{}
	for _, p := range order {
		f := byPlace[p]
		key := fmt.Sprint(p.key, f.ports)
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, joined{classFlip: *f})
		}
		out[i].classes = append(out[i].classes, p.class)
	}
	return out
}
