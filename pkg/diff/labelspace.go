package diff

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// labelSpace are all sets of labels, as far as some selectors tell them apart: for each label that they name, its absence, each value that they name,
// and one more value.
type labelSpace struct {
	places  map[string]int // of labels, in domains
	domains []domain
	steps   *int // that searches may still take
}

// owner says whose label it is.
type owner string

const (
	ofPod       owner = "pod"
	ofNamespace owner = "namespace"
)

// selection is a selector of pods or of namespaces.
type selection struct {
	owner    owner
	selector labels.Selector
}

// domain are the candidates for one label.
type domain struct {
	owner  owner
	key    string
	values []candidate // the nicest to show first
}

// candidate is a value, or the absence of a label.
type candidate struct {
	value   string
	present bool
}

// requirement is one that a selector has, as the candidates that satisfy it.
type requirement struct {
	domain int
	holds  bitset
}

// conjunction is a selector; possible is false for one that selects nothing.
type conjunction struct {
	requirements []requirement
	possible     bool
}

// newLabelSpace makes the space of some selections. With names a namespace's label that tells its name is one of these.
func newLabelSpace(selections []selection, names []string, steps *int) *labelSpace {
	named := map[owner]map[string]map[string]bool{ofPod: {}, ofNamespace: {}}
	for _, s := range selections {
		requirements, _ := s.selector.Requirements()
		for _, r := range requirements {
			keys := named[s.owner]
			if keys[r.Key()] == nil {
				keys[r.Key()] = map[string]bool{}
			}
			for v := range r.Values() {
				keys[r.Key()][v] = true
			}
		}
	}
	s := &labelSpace{places: map[string]int{}, steps: steps}
	for _, o := range []owner{ofPod, ofNamespace} {
		for _, key := range slices.Sorted(maps.Keys(named[o])) {
			s.places[place(o, key)] = len(s.domains)
			s.domains = append(s.domains, newDomain(o, key, named[o][key], names))
		}
	}
	return s
}

func place(o owner, key string) string { return string(o) + " " + key }

func newDomain(o owner, key string, named map[string]bool, names []string) domain {
	d := domain{owner: o, key: key}
	if o == ofNamespace && key == namespaceNameLabel {
		for _, v := range names {
			d.values = append(d.values, candidate{v, true})
		}
		return d
	}
	d.values = append(d.values, candidate{})
	for _, v := range slices.Sorted(maps.Keys(named)) {
		d.values = append(d.values, candidate{v, true})
	}
	d.values = append(d.values, candidate{fresh("other", named), true})
	return d
}

// fresh is a name that is not taken, most like the given one.
func fresh(like string, taken map[string]bool) string {
	for taken[like] {
		like += "-x"
	}
	return like
}

// conjunction is where all of some selections hold.
func (s *labelSpace) conjunction(selections []selection) conjunction {
	out := conjunction{possible: true}
	for _, sel := range selections {
		requirements, selectable := sel.selector.Requirements()
		out.possible = out.possible && selectable
		for _, r := range requirements {
			d := s.places[place(sel.owner, r.Key())]
			q := requirement{d, newBitset(len(s.domains[d].values))}
			for i, v := range s.domains[d].values {
				set := labels.Set{}
				if v.present {
					set[r.Key()] = v.value
				}
				if r.Matches(set) {
					q.holds.add(i)
				}
			}
			out.requirements = append(out.requirements, q)
		}
	}
	return out
}

// region is a part of a space: what is left of each label's candidates, and conjunctions that must not hold.
type region struct {
	left    []bitset // nil: all
	clauses [][]requirement
}

func (s *labelSpace) whole() region { return region{left: make([]bitset, len(s.domains))} }

func (r *region) narrow(d int, to bitset) bool {
	if r.left[d] != nil {
		to = r.left[d].and(to)
	}
	if to.empty() {
		return false
	}
	r.left = slices.Clone(r.left)
	r.left[d] = to
	return true
}

// within narrows a region to where a conjunction holds, and says whether anything is left.
func (s *labelSpace) within(r region, q conjunction) (region, bool) {
	if !q.possible {
		return region{}, false
	}
	for _, x := range q.requirements {
		if r.left[x.domain] != nil && !r.left[x.domain].meets(x.holds) || !r.narrow(x.domain, x.holds) {
			return region{}, false
		}
	}
	return r, s.settle(&r)
}

// outside narrows a region to where a conjunction does not hold, and says whether anything is left.
func (s *labelSpace) outside(r region, q conjunction) (region, bool) {
	if !q.possible || s.fails(&r, q.requirements) {
		return r, true
	}
	if len(q.requirements) == 1 {
		x := q.requirements[0]
		return r, r.narrow(x.domain, s.unlike(x)) && s.settle(&r)
	}
	r.clauses = append(slices.Clip(r.clauses), q.requirements)
	return r, s.settle(&r)
}

// unlike are the candidates that do not satisfy a requirement.
func (s *labelSpace) unlike(x requirement) bitset {
	return fullBitset(len(s.domains[x.domain].values)).minus(x.holds)
}

// fails says whether a conjunction holds nowhere in a region, as far as each label by itself tells.
func (s *labelSpace) fails(r *region, q []requirement) bool {
	return slices.ContainsFunc(q, func(x requirement) bool { return r.left[x.domain] != nil && !r.left[x.domain].meets(x.holds) })
}

func (s *labelSpace) settle(r *region) bool {
	if len(r.clauses) == 0 {
		return true
	}
	_, ok := s.search(*r)
	return ok
}

// show is labels of a region that is not empty.
func (s *labelSpace) show(r region) (pod, namespace labels.Set) {
	sets := map[owner]labels.Set{ofPod: {}, ofNamespace: {}}
	settled, ok := s.search(r)
	if !ok {
		return nil, nil
	}
	for i, d := range s.domains {
		chosen := d.values[0]
		if settled.left[i] != nil {
			chosen = d.values[settled.left[i].first()]
		}
		if chosen.present {
			sets[d.owner][d.key] = chosen.value
		}
	}
	return sets[ofPod], sets[ofNamespace]
}

// search narrows a region until none of its clauses can hold; ok is false where there is no way, or the steps ran out.
func (s *labelSpace) search(r region) (region, bool) {
	if *s.steps--; *s.steps < 0 {
		return region{}, false
	}
	for len(r.clauses) > 0 {
		last := r.clauses[len(r.clauses)-1]
		r.clauses = r.clauses[:len(r.clauses)-1]
		if s.fails(&r, last) {
			continue
		}
		for _, x := range last {
			narrowed := r
			if narrowed.narrow(x.domain, s.unlike(x)) {
				if found, ok := s.search(narrowed); ok {
					return found, true
				}
			}
		}
		return region{}, false
	}
	return r, true
}
