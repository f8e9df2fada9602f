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
	odd() (*predicate, []dimension)
}

type placement struct {
	key  string
	term *term
}

// dimensions lists what an index over the terms may use.
func (c *compiler) dimensions(terms []*term, action model.Action) []dimension {
	out := []dimension{
		&pathDimension{in: c.in, action: action}, &hostDimension{in: c.in}, &portDimension{in: c.in}, &sourceDimension{in: c.in, sets: &c.sets},
	}
	for _, name := range commonHeaders(terms) {
		out = append(out, &headerDimension{in: c.in, name: name, action: action})
	}
	return append(out, &methodDimension{in: c.in, action: action}, wildcardHosts(c.in))
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
	of  func(*term) []pattern
	set func(*term, []pattern)
}

func paths() alternatives {
	return alternatives{func(t *term) []pattern { return t.paths }, func(t *term, ps []pattern) { t.paths = ps }}
}

func hosts() alternatives {
	return alternatives{func(t *term) []pattern { return t.hosts }, func(t *term, ps []pattern) { t.hosts = ps }}
}

// place puts patterns under their keys: alternatives with one key stand together.
func (a alternatives) place(t *term, keys func(pattern) []string) (placed []placement, rest *term) {
	patterns := a.of(t)
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
		inner := *t
		a.set(&inner, held[k])
		placed = append(placed, placement{k, &inner})
	}
	if left != nil {
		inner := *t
		a.set(&inner, left)
		rest = &inner
	}
	return placed, rest
}

type pathDimension struct {
	in     *inputs
	action model.Action
}

func (d *pathDimension) place(t *term) ([]placement, *term) {
	return paths().place(t, func(p pattern) []string { return p.keys })
}

func (d *pathDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byPrefix(d.in.path, t.entries(buckets, dims), next)
}

// odd: what an Allow admits is literal, so its keys always hold.
func (d *pathDimension) odd() (*predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(d.in.path, regex(oddPath)), []dimension{deniedPaths(d.in)}
}

type hostDimension struct{ in *inputs }

func (d *hostDimension) place(t *term) ([]placement, *term) {
	return hosts().place(t, func(p pattern) []string { return p.keys })
}

func (d *hostDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byPrefix(d.in.authority, t.entries(buckets, dims), next)
}

func (d *hostDimension) odd() (*predicate, []dimension) {
	return where(d.in.authority, regex(oddHost)), []dimension{anyCaseHosts(d.in)}
}

type portDimension struct{ in *inputs }

func (d *portDimension) place(t *term) (placed []placement, rest *term) {
	ports := t.ports.listed()
	if t.ports.any || ports == nil {
		return nil, t
	}
	inner := *t
	inner.ports = portSet{any: true}
	for _, p := range ports {
		placed = append(placed, placement{p, &inner})
	}
	return placed, nil
}

func (d *portDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.port, t.entries(buckets, dims), next)
}

func (d *portDimension) odd() (*predicate, []dimension) { return nil, nil }

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
	inner := *t
	inner.sources = nil
	for _, a := range t.sources.addresses {
		placed = append(placed, placement{a.String(), &inner})
	}
	if blocks := d.sets.intern(&sourceSet{plain: t.sources.plain, blocks: t.sources.blocks}); blocks != nil {
		left := *t
		left.sources = blocks
		rest = &left
	}
	return placed, rest
}

func (d *sourceDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.source, t.entries(buckets, dims), next)
}

func (d *sourceDimension) odd() (*predicate, []dimension) { return nil, nil }

// headerDimension is over the exact values of one header.
type headerDimension struct {
	in     *inputs
	name   string
	action model.Action
}

func (d *headerDimension) place(t *term) ([]placement, *term) {
	for i, h := range t.headers {
		if h.name == d.name && h.exact != "" {
			inner := *t
			inner.headers = slices.Delete(slices.Clone(t.headers), i, i+1)
			return []placement{{h.exact, &inner}}, nil
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
	return byExact(d.in.header(d.name), t.entries(buckets, dims), next)
}

// odd: in a list of values a Deny looks for one of them.
func (d *headerDimension) odd() (*predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(d.in.header(d.name), regex(`\C*,\C*`)), []dimension{listedValues(d)}
}

type methodDimension struct {
	in     *inputs
	action model.Action
}

func (d *methodDimension) place(t *term) (placed []placement, rest *term) {
	if t.methods == nil {
		return nil, t
	}
	inner := *t
	inner.methods = nil
	keys := map[string]bool{}
	for _, m := range t.methods {
		if d.action == model.Deny {
			m = strings.ToUpper(m)
		}
		keys[m] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		placed = append(placed, placement{k, &inner})
	}
	return placed, nil
}

func (d *methodDimension) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return byExact(d.in.method, t.entries(buckets, dims), next)
}

// odd: a Deny ignores the case of methods.
func (d *methodDimension) odd() (*predicate, []dimension) {
	if d.action == model.Allow {
		return nil, nil
	}
	return where(d.in.method, regex(`\C*[a-z]\C*`)), nil
}
