package automaton

import (
	"slices"
	"strings"
)

// alphabet divides the symbols into classes that no set of a question tells apart.
type alphabet struct {
	bounds  []rune // first symbol of each stretch; the last ends at Last
	class   []int  // by stretch; -1 for symbols that do not occur
	symbols []rune // by class: the one that is shown
	byFirst map[rune]int
}

// newAlphabet divides the symbols of universe by all sets of the expressions.
func newAlphabet(universe Set, exprs []*Expr) *alphabet {
	sets := []Set{universe}
	for _, e := range exprs {
		sets = e.appendSets(sets)
	}
	a := &alphabet{bounds: []rune{0}, byFirst: map[rune]int{}}
	for _, s := range sets {
		for i := 0; i+1 < len(s); i += 2 {
			a.bounds = append(a.bounds, s[i], s[i+1]+1)
		}
	}
	// Witnesses are nicer where letters, digits and the rest of ASCII stand apart.
	a.bounds = append(a.bounds, []rune{0x7f, 'a', 'z' + 1, 'A', 'Z' + 1, '0', '9' + 1}...)
	slices.Sort(a.bounds)
	a.bounds = slices.Compact(a.bounds)
	a.bounds = slices.DeleteFunc(a.bounds, func(r rune) bool { return r > Last })
	a.classify(universe, sets)
	return a
}

func (e *Expr) appendSets(sets []Set) []Set {
	if e.set != nil {
		sets = append(sets, e.set)
	}
	for _, s := range e.subs {
		sets = s.appendSets(sets)
	}
	return sets
}

// classify gives stretches that the same sets hold the same class. The nicest symbol of a class comes to stand for it, and nicer classes come first.
func (a *alphabet) classify(universe Set, sets []Set) {
	sets = distinct(sets)
	members := map[string][]rune{} // by the sets that hold them: first symbols
	for i, first := range a.bounds {
		a.byFirst[first] = i
		if !universe.contains(first) {
			continue
		}
		var key strings.Builder
		for _, s := range sets {
			if s.contains(first) {
				key.WriteByte(1)
			} else {
				key.WriteByte(0)
			}
		}
		members[key.String()] = append(members[key.String()], first)
	}
	groups := make([][]rune, 0, len(members))
	for _, g := range members {
		slices.SortFunc(g, byNiceness)
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(x, y []rune) int { return byNiceness(x[0], y[0]) })
	a.class = slices.Repeat([]int{-1}, len(a.bounds))
	for c, g := range groups {
		a.symbols = append(a.symbols, g[0])
		for _, first := range g {
			a.class[a.byFirst[first]] = c
		}
	}
}

func distinct(sets []Set) []Set {
	seen := map[string]bool{}
	return slices.DeleteFunc(sets, func(s Set) bool {
		key := string([]rune(s))
		if slices.Contains(s, Last) {
			key += "!" // string() writes Last like U+FFFD
		}
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

// byNiceness orders symbols as people like to read them.
func byNiceness(a, b rune) int {
	if x, y := niceness(a), niceness(b); x != y {
		return x - y
	}
	return int(a - b)
}

func niceness(r rune) int {
	switch {
	case r >= 'a' && r <= 'z':
		return 0
	case r >= '0' && r <= '9':
		return 1
	case r == '/':
		return 2
	case r >= 'A' && r <= 'Z':
		return 3
	case r == '-', r == '_', r == '.':
		return 4
	case r > ' ' && r < 0x7f:
		return 5
	case r == ' ':
		return 6
	case r == Last:
		return 8
	}
	return 7
}

// classes are the classes of a set's symbols.
func (a *alphabet) classes(s Set) []bool {
	out := make([]bool, len(a.symbols))
	for i, first := range a.bounds {
		if a.class[i] >= 0 && s.contains(first) {
			out[a.class[i]] = true
		}
	}
	return out
}
