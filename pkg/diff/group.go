package diff

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// subjects are the entities about which one answer holds.
type subjects struct {
	layer     Layer
	direction model.Direction
	guards    []string
	answer    *answer
	entities  []int
}

// flips joins everything that flips alike into what people read.
func (c *comparison) flips() []Flip {
	type key struct {
		layer     Layer
		direction model.Direction
		guards    string
		answer    *answer
	}
	var order []*subjects
	byKey := map[key]*subjects{}
	for _, r := range c.raw {
		guards := c.guardsOf(&c.entities[r.entity])
		k := key{r.layer, r.direction, strings.Join(guards, ","), r.answer}
		if byKey[k] == nil {
			byKey[k] = &subjects{layer: r.layer, direction: r.direction, guards: guards, answer: r.answer}
			order = append(order, byKey[k])
		}
		byKey[k].entities = append(byKey[k].entities, r.entity)
	}
	g := &grouping{comparison: c, at: map[string]int{}, found: []Flip{}} // a list in JSON, though it is empty
	for _, s := range order {
		for _, j := range s.answer.join() {
			g.addJoined(s, &j)
		}
		if !s.answer.complete {
			g.add(s, s.entities, &Flip{Effect: EffectMayFlip, Ports: everyPort()[:len(s.layer.protocols())], Before: tooLarge(), After: tooLarge()}, Parties{Members: Members{Pods: []Pods{{}}}})
		}
	}
	return g.sorted()
}

// grouping collects flips, each with the entities that it is about.
type grouping struct {
	*comparison

	at    map[string]int
	found []Flip
	names []map[string]bool // of the entities, by flip
}

// addJoined adds what flips for some classes, apart for those whose other end shuts it.
func (g *grouping) addJoined(s *subjects, j *joined) {
	f := &Flip{Effect: j.effect, Ports: j.ports, Before: j.before, After: j.after}
	for _, o := range j.outcomes {
		if o.request != nil {
			f.Requests = append(f.Requests, *o.request)
		}
	}
	others := g.parties(s.answer, j.classes, true)
	rest := func() parties { return g.parties(s.answer, j.classes, false) }
	if s.layer == L7 {
		g.add(s, s.entities, f, g.describe(others, rest))
		return
	}
	var order []string
	shutBy, entities := map[string]bitset{}, map[string][]int{}
	for _, e := range s.entities {
		shut := g.shutByOtherEnd(s.direction, &g.entities[e], others.points, f)
		key := shut.key()
		if entities[key] == nil {
			order = append(order, key)
			shutBy[key] = shut
		}
		entities[key] = append(entities[key], e)
	}
	for _, key := range order {
		shut := shutBy[key]
		flowing := others
		flowing.points = others.points.minus(shut)
		if !flowing.empty() {
			g.add(s, entities[key], f, g.describe(flowing, func() parties {
				beside := rest()
				beside.points.addAll(shut)
				return beside
			}))
		}
		if !shut.empty() {
			held := *f
			held.OtherEndShuts = true
			g.add(s, entities[key], &held, Parties{Members: g.members(&parties{points: shut})})
		}
	}
}

// shutByOtherEnd are those of some points whose own NetworkPolicies let none of it through: of what opens, after the edit; of what closes, before it.
func (g *grouping) shutByOtherEnd(d model.Direction, e *entity, others bitset, f *Flip) bitset {
	w, opposite := g.after, model.Egress
	if f.Effect == EffectCloses {
		w = g.before
	}
	if d == model.Egress {
		opposite = model.Ingress
	}
	out := newBitset(len(g.points))
	others.each(func(i int) {
		if !g.frameOf(w, g.points[i].entity, opposite).passes(e, f.Ports) {
			out.add(i)
		}
	})
	return out
}

// passes says whether NetworkPolicies let anything through, to or from an entity at some of the ports.
func (f *frame) passes(e *entity, ports []PortRange) bool {
	floats := len(e.addresses) == 0
	return !f.isolated || slices.ContainsFunc(f.rules, func(r rule) bool {
		return (r.sources == nil || r.sources.points.meets(e.points) || floats && r.sources.namesBlocks()) && slices.ContainsFunc(r.ports, func(p PortRange) bool {
			return slices.ContainsFunc(ports, func(q PortRange) bool { return p.Protocol == q.Protocol && p.From <= q.To && q.From <= p.To })
		})
	})
}

// frameOf is a frame of NetworkPolicies, made once.
func (c *comparison) frameOf(w *world, entity int, d model.Direction) *frame {
	key := frameKey{w.side, entity, d}
	if c.frames[key] == nil {
		c.frames[key] = c.networkFrame(w, &c.entities[entity], d)
	}
	return c.frames[key]
}

type frameKey struct {
	side      side
	entity    int
	direction model.Direction
}

func (g *grouping) add(s *subjects, entities []int, f *Flip, others Parties) {
	flip := *f
	flip.Layer, flip.Direction, flip.Guards = s.layer, s.direction, s.guards
	flip.Callers = others
	if s.direction == model.Egress {
		flip.Callers, flip.Callees = Parties{}, others
	}
	text, err := json.Marshal(flip)
	if err != nil {
		text = []byte(others.String()) // cannot be: there is nothing in it that JSON does not know
	}
	i, known := g.at[string(text)]
	if !known {
		i = len(g.found)
		g.at[string(text)] = i
		g.found, g.names = append(g.found, flip), append(g.names, map[string]bool{})
	}
	for _, e := range entities {
		g.names[i][g.entities[e].name] = true
	}
}

func (g *grouping) sorted() []Flip {
	for i := range g.found {
		f := &g.found[i]
		subject := Parties{Members: Members{Workloads: slices.Sorted(maps.Keys(g.names[i]))}}
		if f.Direction == model.Ingress {
			f.Callees = subject
		} else {
			f.Callers = subject
		}
	}
	slices.SortStableFunc(g.found, compareFlips)
	return g.found
}

// compareFlips has first what opens, and of that what anyone may do, layer by layer for the same ends.
func compareFlips(a, b Flip) int {
	effects := []Effect{EffectOpens, EffectMayFlip, EffectCloses}
	width := func(f *Flip) int { return slices.Index([]bool{f.Callers.Anyone, f.Callees.Anyone, true}, true) }
	return cmp.Or(
		cmp.Compare(slices.Index(effects, a.Effect), slices.Index(effects, b.Effect)), falseFirst(a.OtherEndShuts, b.OtherEndShuts), cmp.Compare(width(&a), width(&b)),
		strings.Compare(a.Callees.String(), b.Callees.String()), strings.Compare(a.Callers.String(), b.Callers.String()), -strings.Compare(string(a.Layer), string(b.Layer)),
		slices.CompareFunc(a.Ports, b.Ports, comparePorts), strings.Compare(a.Before.Decider, b.Before.Decider), strings.Compare(a.After.Decider, b.After.Decider),
	)
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
