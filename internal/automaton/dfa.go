package automaton

import (
	"encoding/binary"
	"slices"
)

// dfa is an nfa, made deterministic as far as it is walked.
type dfa struct {
	*nfa
	alphabet  *alphabet
	universal []bool // states of the nfa from which every string is accepted that is not empty
	ids       map[string]int
	sets      [][]int
	next      [][]int // by state and symbol class; unknown where not walked
	accepts   []bool
}

const (
	unknown = -1
	dead    = 0 // the state that accepts nothing any more
	all     = 1 // the state that accepts everything from here on
)

func determinize(a *alphabet, n *nfa) *dfa {
	d := &dfa{nfa: n, alphabet: a, ids: map[string]int{}, universal: make([]bool, len(n.states))}
	d.add("", nil, false)
	d.add("all", nil, true)
	for _, fixed := range []int{dead, all} {
		for c := range d.next[fixed] {
			d.next[fixed][c] = fixed
		}
	}
	for s := range n.states {
		if on := n.states[s].on; on != nil && !slices.Contains(on, false) {
			after := n.closure([]int{n.states[s].to})
			d.universal[s] = contains(after, s) && contains(after, n.accept)
		}
	}
	return d
}

func contains(sorted []int, s int) bool {
	_, found := slices.BinarySearch(sorted, s)
	return found
}

func (d *dfa) add(key string, set []int, accepts bool) int {
	id := len(d.sets)
	d.ids[key] = id
	d.sets, d.accepts = append(d.sets, set), append(d.accepts, accepts)
	d.next = append(d.next, slices.Repeat([]int{unknown}, len(d.alphabet.symbols)))
	return id
}

func (d *dfa) first() int { return d.of(d.closure([]int{d.start})) }

// of is the state for a closed set of the nfa's states.
func (d *dfa) of(set []int) int {
	if len(set) == 0 {
		return dead
	}
	accepts := contains(set, d.accept)
	if accepts && slices.ContainsFunc(set, func(s int) bool { return d.universal[s] }) {
		return all
	}
	useful := slices.DeleteFunc(set, func(s int) bool { return d.states[s].on == nil && s != d.accept })
	if len(useful) == 0 {
		return dead
	}
	key := make([]byte, 0, 4*len(useful))
	for _, s := range useful {
		key = binary.LittleEndian.AppendUint32(key, uint32(s))
	}
	if id, known := d.ids[string(key)]; known {
		return id
	}
	return d.add(string(key), useful, accepts)
}

// step walks one symbol.
func (d *dfa) step(state, class int) int {
	if to := d.next[state][class]; to != unknown {
		return to
	}
	var reached []int
	for _, s := range d.sets[state] {
		if on := d.states[s].on; on != nil && on[class] {
			reached = append(reached, d.states[s].to)
		}
	}
	to := d.of(d.closure(reached))
	d.next[state][class] = to
	return to
}
