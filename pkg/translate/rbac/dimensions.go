package rbac

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// dimension is something of a request that an index can be made over.
type dimension interface {
	// place returns the keys under which the index holds a term, with the term as it stands there, and what of it the index cannot hold (or nil).
	place(t *term) ([]placement, *term)
	// lookup is the index itself, over the terms by key; dims is what indexes within it may use.
	lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch
	// odd holds of the requests that may satisfy a term under none of its keys (nil: there are none), and what may index them instead.
	odd() (predicate, []dimension)
}

type placement struct {
	key  string
	term *term
}

// places are what place returns, kept with the term for the other workloads that have it.
type places struct {
	placed []placement
	rest   *term
}

func newPlaces(placed []placement, rest *term) *places { return &places{placed, rest} }

func patternKeys(p pattern) []string { return p.keys }

// dimensions lists what an index over the terms may use.
func (t tree) dimensions(terms []*term) []dimension {
	out := []dimension{
		&pathDimension{in: t.in, action: t.action}, &hostDimension{in: t.in}, &portDimension{in: t.in}, &sourceDimension{in: t.in, sets: t.sets},
	}
	for _, name := range commonHeaders(terms) {
		out = append(out, &headerDimension{name: name, action: t.action})
	}
	return append(out, &methodDimension{in: t.in, action: t.action}, wildcardHosts(t.in))
}

// commonHeaders are the few header names that most terms compare exactly.
func commonHeaders(terms []*term) []string {
	const few = 4
	counts := map[string]int{}
	for _, t := range terms {
		for _, h := range t.headers {
			if h.exact != "" {
				counts[h.name]++
			}
		}
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	return names[:min(few, len(names))]
}

// alternatives is the dimension of a term that patterns make up.
type alternatives struct {
	of  func(*conjunction) []pattern
	set func(*conjunction, []pattern)
}

func paths() alternatives {
	return alternatives{func(c *conjunction) []pattern { return c.paths }, func(c *conjunction, ps []pattern) { c.paths = ps }}
}

func hosts() alternatives {
	return alternatives{func(c *conjunction) []pattern { return c.hosts }, func(c *conjunction, ps []pattern) { c.hosts = ps }}
}

// place puts patterns under their keys: alternatives with one key stand together.
func (a alternatives) place(t *term, keys func(pattern) []string) (placed []placement, rest *term) {
	patterns := a.of(&t.conjunction)
	if patterns == nil {
		return nil, t
	}
	held := map[string][]pattern{}
	var left []pattern
	for _, p := range patterns {
		ks := keys(p)
		if len(ks) == 0 {
			left = append(left, p)
		}
		for _, k := range ks {
			held[k] = append(held[k], p)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(held)) {
		placed = append(placed, placement{k, a.only(t, held[k])})
	}
	if left != nil {
		rest = a.only(t, left)
	}
	return placed, rest
}

// only is the term with some of its patterns.
func (a alternatives) only(t *term, some []pattern) *term {
	if len(some) == len(a.of(&t.conjunction)) {
		return t
	}
	c := t.conjunction
	a.set(&c, some)
	return &term{conjunction: c}
}

type pathDimension struct {
	in     *inputs
	action model.Action
}

func (d *pathDimension) place(t *term) ([]placement, *term) {
	if t.byPath == nil {
		t.byPath = newPlaces(paths().place(t, patternKeys))
	}
	return t.byPath.placed, t.byPath.rest
}

func (d *pathDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byPrefix(d.in.path, t.entries(buckets, dims), next)
}

// odd: what an Allow admits is literal, so its keys always hold.
func (d *pathDimension) odd() (predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(d.in.path, regex(oddPath)), []dimension{deniedPaths(d.in)}
}

type hostDimension struct{ in *inputs }

func (d *hostDimension) place(t *term) ([]placement, *term) {
	if t.byHost == nil {
		t.byHost = newPlaces(hosts().place(t, patternKeys))
	}
	return t.byHost.placed, t.byHost.rest
}

func (d *hostDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byPrefix(d.in.authority, t.entries(buckets, dims), next)
}

func (d *hostDimension) odd() (predicate, []dimension) {
	return where(d.in.authority, regex(oddHost)), []dimension{anyCaseHosts(d.in)}
}

type portDimension struct{ in *inputs }

func (d *portDimension) place(t *term) (placed []placement, rest *term) {
	ports := t.ports.listed()
	if t.ports.any || ports == nil {
		return nil, t
	}
	for _, p := range ports {
		placed = append(placed, placement{p, t.less(partPorts)})
	}
	return placed, nil
}

func (d *portDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.port, t.entries(buckets, dims), next)
}

func (d *portDimension) odd() (predicate, []dimension) { return nil, nil }

// sourceDimension looks addresses up by their text, which is how Envoy hands them over.
type sourceDimension struct {
	in   *inputs
	sets *sourceSets
}

func (d *sourceDimension) place(t *term) (placed []placement, rest *term) {
	const few = 64
	if t.sources == nil || len(t.sources.addresses) == 0 || len(t.sources.addresses) > few {
		return nil, t
	}
	keys := t.sources.keys()
	placed = make([]placement, 0, len(keys))
	for _, key := range keys {
		placed = append(placed, placement{key, t.less(partSources)})
	}
	if others := d.sets.others(t.sources); others != nil {
		c := t.conjunction
		c.sources = others
		rest = &term{conjunction: c}
	}
	return placed, rest
}

func (d *sourceDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.source, t.entries(buckets, dims), next)
}

func (d *sourceDimension) odd() (predicate, []dimension) { return nil, nil }

// headerDimension is over the exact values of one header.
type headerDimension struct {
	name   string
	action model.Action
}

func (d *headerDimension) place(t *term) ([]placement, *term) {
	for i, h := range t.headers {
		if h.name == d.name && h.exact != "" {
			c := t.conjunction
			c.headers = slices.Delete(slices.Clone(t.headers), i, i+1)
			return []placement{{h.exact, &term{conjunction: c}}}, nil
		}
	}
	return nil, t
}

// listed is place for a radix, whose keys do not imply the condition.
func (d *headerDimension) listed(t *term) ([]placement, *term) {
	for _, h := range t.headers {
		if h.name == d.name && h.exact != "" {
			return []placement{{h.exact, t}}, nil
		}
	}
	return nil, t
}

func (d *headerDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(headerInput(d.name), t.entries(buckets, dims), next)
}

// odd: in a list of values a Deny looks for one of them.
func (d *headerDimension) odd() (predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(headerInput(d.name), regex(`\C*`+listOf(d.name).separator+`\C*`)), []dimension{listedValues(d)}
}

type methodDimension struct {
	in     *inputs
	action model.Action
}

func (d *methodDimension) place(t *term) (placed []placement, rest *term) {
	if t.methods == nil {
		return nil, t
	}
	keys := map[string]bool{}
	for _, m := range t.methods {
		if d.action == model.Deny {
			m = strings.ToUpper(m)
		}
		keys[m] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		placed = append(placed, placement{k, t.less(partMethods)})
	}
	return placed, nil
}

func (d *methodDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.method, t.entries(buckets, dims), next)
}

// odd: a Deny ignores the case of methods.
func (d *methodDimension) odd() (predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(d.in.method, regex(`\C*[a-z]\C*`)), nil
}
