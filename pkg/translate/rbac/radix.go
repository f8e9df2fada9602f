package rbac

import (
	"maps"
	"slices"
	"strings"
)

// radix is a dimension for requests that no map can look up, since one value may be spelt in many ways: at each level a handful of expressions
// for the next byte of the values tell their terms apart. It costs a request the length of the value, not the number of terms. The keys do not
// imply what they stand for: terms keep their predicates.
type radix struct {
	input extension
	// placed is place of dimension; the keys are the values that the term compares with.
	placed func(*term) ([]placement, *term)
	// begins is an expression for every spelling of every value that begins with the prefix.
	begins func(prefix string) string
}

func (d *radix) place(t *term) ([]placement, *term) { return d.placed(t) }

func (d *radix) odd() (predicate, []dimension) { return nil, nil }

func (d *radix) lookup(t tree, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	return d.level(t, slices.Sorted(maps.Keys(buckets)), buckets, dims, next)
}

// level splits sorted keys by the byte that follows what they have in common.
func (d *radix) level(t tree, keys []string, buckets map[string][]*term, dims []dimension, next *onMatch) *onMatch {
	var here []*term
	if len(keys) <= flat {
		for _, k := range keys {
			here = append(here, buckets[k]...)
		}
		return t.build(here, dims, next)
	}
	common := commonPrefix(keys[0], keys[len(keys)-1])
	if keys[0] == common {
		here, keys = buckets[common], keys[1:]
	}
	var entries []*field
	for len(keys) > 0 {
		prefix := keys[0][:len(common)+1]
		n := 1
		for n < len(keys) && strings.HasPrefix(keys[n], prefix) {
			n++
		}
		if onMatch := d.level(t, keys[:n], buckets, dims, nil); onMatch != nil {
			entries = append(entries, entry(where(d.input, regex(d.begins(prefix))), onMatch))
		}
		keys = keys[n:]
	}
	return inOrder(t.build(here, dims, next), entries...)
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

func byValues(p pattern) []string { return p.values }

// segmentEnd stands between segments in the values of denied paths. No path holds the byte.
const segmentEnd = "\x00"

// deniedPaths holds the literal paths of a Deny.
func deniedPaths(in *inputs) *radix {
	return &radix{
		input: in.path,
		placed: func(t *term) ([]placement, *term) {
			return paths().place(t, byValues)
		},
		begins: deniedBeginning,
	}
}

// deniedBeginning is the beginning of deniedSegments, up to the middle of a segment.
func deniedBeginning(prefix string) string {
	segments := strings.Split(prefix, segmentEnd)[1:]
	last := len(segments) - 1
	expr, complete := deniedSegments(segments[:last])
	if complete {
		tail, _ := deniedSegments(segments[last:])
		expr += strings.TrimSuffix(tail, parameters)
	}
	return expr + `\C*`
}

// anyCaseHosts holds host names, whatever the case of the authority.
func anyCaseHosts(in *inputs) *radix {
	return &radix{
		input: in.authority,
		placed: func(t *term) ([]placement, *term) {
			return hosts().place(t, byValues)
		},
		begins: func(prefix string) string { return "(?i)" + quote(prefix) + `\C*` },
	}
}

// wildcardHosts holds the names that wildcards end with. No map looks suffixes up, so this serves every request.
func wildcardHosts(in *inputs) *radix {
	bySuffix := func(p pattern) []string {
		if p.suffix == "" {
			return nil
		}
		return []string{p.suffix}
	}
	return &radix{
		input:  in.authority,
		placed: func(t *term) ([]placement, *term) { return hosts().place(t, bySuffix) },
		begins: func(prefix string) string { return `(?i)\C*` + quote(backwards(prefix)) + hostTail },
	}
}

// listedValues holds the exact values of one header, wherever in a list they stand.
func listedValues(d *headerDimension) *radix {
	before := listOf(d.name).before
	return &radix{
		input:  headerInput(d.name),
		placed: d.listed,
		begins: func(prefix string) string { return before + quote(prefix) + `\C*` },
	}
}
