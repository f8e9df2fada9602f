package rbac

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// flat is the number of terms up to which a list costs a request no more than an index, and is smaller.
	flat = 16
	// spread bounds how many places an index may hold its terms in, as a multiple of their number.
	spread = 4
	// fanout is the number of source sets that are tried one after the other.
	fanout = 4
)

// tree arranges terms with one verdict so that a request meets few of them. An index over one dimension narrows the candidates, and the place
// where a term stands still holds all of the term that its keys do not imply: an index can miss a term, never make one hold. A subtree that
// does not match falls through to what follows it, so that unions need no cross product.
//
// What a request costs does not grow with the number of rules that differ in paths, hosts, ports, methods, exact headers or callers' addresses,
// and grows with its logarithm where they differ in address blocks. Rules that differ only in expressions without a literal beginning, in
// negations, or in ranges of more than 16 ports are tried one by one.
type tree struct {
	in     *inputs
	sets   *sourceSets
	action model.Action
}

func (c *common) tree(action model.Action) tree { return tree{in: c.in, sets: &c.sets, action: action} }

// of decides by the terms, and by next where none holds.
func (t tree) of(terms []*term, next *onMatch) *onMatch {
	var dims []dimension
	if len(terms) > flat {
		dims = t.dimensions(terms)
	}
	return t.build(terms, dims, next)
}

// build is of, with the dimensions that an index may still use.
func (t tree) build(terms []*term, dims []dimension, next *onMatch) *onMatch {
	if len(terms) == 0 {
		return next
	}
	for _, x := range terms {
		if x.unconditional() {
			return x.decision
		}
	}
	if shared, rest := t.shared(terms); len(shared) > 0 {
		return t.bySources(shared, dims, t.build(rest, dims, next))
	}
	if alike := t.alike(terms); alike != nil {
		return t.byFrames(alike, dims, next)
	}
	if len(terms) <= flat {
		return t.list(terms, next)
	}
	best := t.choose(terms, dims)
	switch {
	case best != nil:
		return t.index(best, terms, dims, next)
	case t.sourcesHelp(terms):
		groups, rest := bySourceSet(terms, func(*sourceSet) bool { return true })
		return t.bySources(groups, dims, t.build(rest, dims, next))
	}
	return t.list(terms, next)
}

// list tries terms in their order.
func (t tree) list(terms []*term, next *onMatch) *onMatch {
	entries := make([]*field, 0, len(terms))
	for _, x := range terms {
		entries = append(entries, x.field(t.in, t.action))
	}
	return inOrder(next, entries...)
}

// choose returns the dimension whose index leaves the fewest candidates, or nil where none helps.
func (t tree) choose(terms []*term, dims []dimension) dimension {
	var best dimension
	fewest, bound := len(terms)*9/10, spread*len(terms)+spread*flat
	counts := map[string]int{}
	for _, d := range dims {
		clear(counts)
		places, most, rest := 0, 0, 0
		for _, x := range terms {
			if places > bound || most+rest >= fewest {
				break // more terms make it no better
			}
			placed, left := d.place(x)
			for _, p := range placed {
				counts[p.key]++
				most = max(most, counts[p.key])
			}
			places += len(placed)
			if left != nil {
				rest++
			}
		}
		if places > 0 && places <= bound && most+rest < fewest {
			best, fewest = d, most+rest
		}
	}
	return best
}

// index splits by a dimension: odd requests, which the index is blind for, meet every term of it; the others those under their keys; all of
// them then what the index cannot hold.
func (t tree) index(d dimension, terms []*term, dims []dimension, next *onMatch) *onMatch {
	buckets := map[string][]*term{}
	var held, rest []*term
	for _, x := range terms {
		placed, left := d.place(x)
		for _, p := range placed {
			buckets[p.key] = append(buckets[p.key], p.term)
		}
		if left != nil {
			rest = append(rest, left)
		}
		if len(placed) > 0 {
			held = append(held, x)
		}
	}
	others := slices.DeleteFunc(slices.Clone(dims), func(o dimension) bool { return o == d })
	out := d.lookup(t, buckets, others, t.build(rest, dims, next))
	if odd, instead := d.odd(); odd != nil {
		return inOrder(out, entry(odd, t.build(held, append(instead, others...), nil)))
	}
	return out
}

// entries builds what stands under the keys of a map.
func (t tree) entries(buckets map[string][]*term, dims []dimension) map[string]*onMatch {
	out := make(map[string]*onMatch, len(buckets))
	for key, terms := range buckets {
		out[key] = t.build(terms, dims, nil)
	}
	return out
}

// group is the terms of one source set, without their sources.
type group struct {
	set   *sourceSet
	terms []*term
}

// bySourceSet groups terms by equal callers, where the set is wanted.
func bySourceSet(terms []*term, wanted func(*sourceSet) bool) (groups []*group, rest []*term) {
	known := map[*sourceSet]*group{}
	for _, x := range terms {
		if x.sources == nil || !wanted(x.sources) {
			rest = append(rest, x)
			continue
		}
		g := known[x.sources]
		if g == nil {
			g = &group{set: x.sources}
			known[x.sources], groups = g, append(groups, g)
		}
		g.terms = append(g.terms, x.less(partSources))
	}
	return groups, rest
}

// shared returns the groups of terms whose callers are many and equal: written once, not in every rule.
func (t tree) shared(terms []*term) (groups []*group, rest []*term) {
	const many = 8
	uses := map[*sourceSet]int{}
	repeated := false
	for _, x := range terms {
		if x.sources != nil && x.sources.size() >= many {
			uses[x.sources]++
			repeated = repeated || uses[x.sources] > 1
		}
	}
	if !repeated {
		return nil, terms
	}
	return bySourceSet(terms, func(s *sourceSet) bool { return uses[s] > 1 })
}

// sourcesHelp says whether there are enough source sets to tell terms apart.
func (t tree) sourcesHelp(terms []*term) bool {
	sets := map[*sourceSet]bool{}
	for _, x := range terms {
		if x.sources != nil {
			sets[x.sources] = true
		}
	}
	return len(sets) > fanout
}

// bySources tries source sets, in groups of groups where they are many, so that a request meets a few for each level.
func (t tree) bySources(groups []*group, dims []dimension, next *onMatch) *onMatch {
	var entries []*field
	if len(groups) <= fanout {
		for _, g := range groups {
			entries = append(entries, entry(g.set.predicate(t.in), t.build(g.terms, dims, nil)))
		}
		return inOrder(next, entries...)
	}
	size := fanout
	for size*fanout < len(groups) {
		size *= fanout
	}
	for chunk := range slices.Chunk(groups, size) {
		sets := make([]*sourceSet, 0, len(chunk))
		for _, g := range chunk {
			sets = append(sets, g.set)
		}
		entries = append(entries, entry(t.in.union(sets), t.bySources(chunk, dims, nil)))
	}
	return inOrder(next, entries...)
}
