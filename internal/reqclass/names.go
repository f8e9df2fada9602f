package reqclass

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// methods: each that a term names, one that none names, and each in another case, which only a Deny takes for the same.
func (s *search) methods() []value {
	var named []string
	for _, t := range s.terms {
		named = append(named, t.Match.Methods...)
	}
	if named == nil {
		return nil
	}
	slices.Sort(named)
	named = slices.Compact(named)
	var candidates []string
	folded := func(m string) bool {
		return slices.ContainsFunc(named, func(n string) bool { return strings.EqualFold(n, m) })
	}
	for _, other := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", freshName("OTHER", folded)} {
		if !folded(other) {
			candidates = append(candidates, other)
			break
		}
	}
	candidates = append(candidates, named...)
	// The first of a class is the one that is shown.
	if i := slices.Index(candidates, "GET"); i > 0 {
		candidates[0], candidates[i] = candidates[i], candidates[0]
	}
	for _, m := range named {
		if variant, ok := otherCase(m, named); ok {
			candidates = append(candidates, variant)
		}
	}
	return s.values(candidates, func(t Term, m string) bool {
		switch {
		case t.Match.Methods == nil:
			return true
		case t.Action == model.Deny:
			return slices.ContainsFunc(t.Match.Methods, func(n string) bool { return strings.EqualFold(n, m) })
		}
		return slices.Contains(t.Match.Methods, m)
	}, func(r *model.HTTPRequest, m string) { r.Method = m })
}

// otherCase writes a method with letters in another case, so that it is none of those named.
func otherCase(m string, named []string) (string, bool) {
	const manyLetters = 8
	lower := []byte(strings.ToLower(m))
	for mask := range 1 << min(len(lower), manyLetters) {
		variant := slices.Clone(lower)
		for i := range min(len(lower), manyLetters) {
			if mask>>i&1 == 1 {
				variant[i] = strings.ToUpper(string(variant[i]))[0]
			}
		}
		if !slices.Contains(named, string(variant)) {
			return string(variant), true
		}
	}
	return "", false
}

// hosts: each name that a term spells out, a name below each wildcard, and one that is neither. A name that nobody spells out matches the wildcards
// that are suffixes of the longest one it matches, so these are all.
func (s *search) hosts() []value {
	var named, bases []string
	for _, t := range s.terms {
		for _, h := range t.Match.Hosts {
			if h.Wildcard {
				bases = append(bases, lower(h.Name))
				continue
			}
			named = append(named, lower(h.Name))
			for _, a := range h.Aliases {
				named = append(named, lower(a))
			}
		}
	}
	if named == nil && bases == nil {
		return nil
	}
	taken := func(name string) bool { return slices.Contains(named, name) }
	candidates := named
	for _, b := range bases {
		candidates = append(candidates, freshName("any", func(label string) bool { return taken(label + "." + b) })+"."+b)
	}
	candidates = append(candidates, freshName("other", taken))
	return s.values(candidates, func(t Term, name string) bool {
		return t.Match.Hosts == nil || slices.ContainsFunc(t.Match.Hosts, func(h model.Host) bool { return hostMatches(h, name) })
	}, func(r *model.HTTPRequest, name string) { r.Host = name })
}

func hostMatches(h model.Host, name string) bool {
	if h.Wildcard {
		base := "." + lower(h.Name)
		return len(name) > len(base) && strings.HasSuffix(name, base)
	}
	return name == lower(h.Name) || slices.ContainsFunc(h.Aliases, func(a string) bool { return name == lower(a) })
}

func lower(s string) string { return strings.ToLower(s) }

// freshName is a name that is not taken, most like the given one.
func freshName(like string, taken func(string) bool) string {
	name := like
	for i := 1; taken(name); i++ {
		name = like + strconv.Itoa(i)
	}
	return name
}

// values makes one value of each candidate that no earlier one equals.
func (s *search) values(candidates []string, matches func(Term, string) bool, show func(*model.HTTPRequest, string)) []value {
	var out []value
	seen := map[string]bool{}
	key := make([]byte, len(s.terms))
	for _, c := range candidates {
		v := value{holds: make([]bool, len(s.terms)), show: func(r *model.HTTPRequest) { show(r, c) }}
		for i, t := range s.terms {
			v.holds[i], key[i] = matches(t, c), 0
			if v.holds[i] {
				key[i] = 1
			}
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			out = append(out, v)
		}
	}
	return out
}
