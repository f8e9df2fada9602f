package diff

import (
	"fmt"
	"maps"
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
	direction model.Direction
	entity    int
	answer    *answer
}

// compareEntity compares what two frames decide about an entity, each pair of frames once.
func (c *comparison) compareEntity(l Layer, d model.Direction, e *entity, before, after *frame) {
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

	classes []int // ascending
}

// join joins what flips alike: by ports that the same classes flip on, or by classes that flip on the same ports, whichever comes to less.
func (a *answer) join() []joined {
	var order []string
	alike := map[string][]classFlip{}
	for _, f := range a.flips {
		key := f.key()
		if alike[key] == nil {
			order = append(order, key)
		}
		alike[key] = append(alike[key], f)
	}
	var out []joined
	for _, key := range order {
		byClass, byPort := joinClasses(alike[key]), joinPortParts(alike[key])
		if len(byPort) < len(byClass) {
			byClass = byPort
		}
		out = append(out, byClass...)
	}
	return out
}

// joinClasses joins classes that flip on the same ports.
func joinClasses(alike []classFlip) []joined {
	ports := map[int][]PortRange{}
	var order []int
	for _, f := range alike {
		if ports[f.class] == nil {
			order = append(order, f.class)
		}
		ports[f.class] = append(ports[f.class], f.ports...)
	}
	var out []joined
	at := map[string]int{}
	for _, class := range order {
		all := joinPorts(ports[class])
		key := fmt.Sprint(all)
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, joined{classFlip: alike[0]})
			out[i].ports = all
		}
		out[i].classes = append(out[i].classes, class)
	}
	return out
}

// joinPortParts joins ports that the same classes flip on.
func joinPortParts(alike []classFlip) []joined {
	var bounds []PortRange
	protocols := map[model.Protocol]bool{}
	for _, f := range alike {
		bounds = append(bounds, f.ports...)
		for _, p := range f.ports {
			protocols[p.Protocol] = true
		}
	}
	var out []joined
	at := map[string]int{}
	for _, protocol := range slices.Sorted(maps.Keys(protocols)) {
		for _, part := range portParts(protocol, bounds) {
			var classes []int
			for _, f := range alike {
				if hold(f.ports, part) {
					classes = append(classes, f.class)
				}
			}
			if len(classes) == 0 {
				continue
			}
			slices.Sort(classes)
			classes = slices.Compact(classes)
			key := fmt.Sprint(classes)
			i, known := at[key]
			if !known {
				i = len(out)
				at[key] = i
				out = append(out, joined{classFlip: alike[0], classes: classes})
				out[i].ports = nil
			}
			out[i].ports = joinPorts(append(slices.Clone(out[i].ports), part))
		}
	}
	return out
}
