package automaton

import "slices"

// nfa is a Thompson automaton: one accepting state.
type nfa struct {
	states []nfaState
	start  int
	accept int
	// Of closure: the round in which a state was seen last, and what is still to be looked at.
	seen  []int
	round int
	stack []int
}

type nfaState struct {
	epsilon []int
	on      []bool // by symbol class; nil: no edge
	to      int
}

type builder struct {
	*nfa
	alphabet  *alphabet
	forbidden []Set
}

// maxStates bounds one automaton: a regular expression of a policy comes to at most some hundreds.
const maxStates = 20_000

// build makes the automaton of an expression; ok is false when it would be too large.
func build(a *alphabet, e *Expr) (n *nfa, ok bool) {
	b := &builder{nfa: &nfa{}, alphabet: a}
	b.start, b.accept = b.add(e)
	return b.nfa, len(b.states) < maxStates
}

func (b *builder) state() int {
	b.states = append(b.states, nfaState{})
	return len(b.states) - 1
}

func (b *builder) link(from, to int) { b.states[from].epsilon = append(b.states[from].epsilon, to) }

// add adds an expression's states and returns its first and last.
func (b *builder) add(e *Expr) (first, last int) {
	first, last = b.state(), b.state()
	if len(b.states) >= maxStates {
		return first, last
	}
	switch e.op {
	case opNone:
	case opEmpty:
		b.link(first, last)
	case opSet:
		on := b.alphabet.classes(e.set)
		for _, f := range b.forbidden {
			for c, forbidden := range b.alphabet.classes(f) {
				on[c] = on[c] && !forbidden
			}
		}
		b.states[first].on, b.states[first].to = on, last
	case opSeq:
		at := first
		for _, sub := range e.subs {
			f, l := b.add(sub)
			b.link(at, f)
			at = l
		}
		b.link(at, last)
	case opAlt:
		for _, sub := range e.subs {
			f, l := b.add(sub)
			b.link(first, f)
			b.link(l, last)
		}
	case opStar:
		f, l := b.add(e.subs[0])
		b.link(first, f)
		b.link(first, last)
		b.link(l, f)
		b.link(l, last)
	case opWithout:
		b.forbidden = append(b.forbidden, e.set)
		f, l := b.add(e.subs[0])
		b.forbidden = b.forbidden[:len(b.forbidden)-1]
		b.link(first, f)
		b.link(l, last)
	case opTrimmed:
		b.trimmed(e, first, last)
	}
	return first, last
}

// trimmed adds a language three times: nothing read yet, last read a symbol to keep, last read one to trim. It ends in the first two only.
func (b *builder) trimmed(e *Expr, first, last int) {
	low := len(b.states)
	f, l := b.add(e.subs[0])
	high := len(b.states)
	trim := b.alphabet.classes(e.set)
	const nothing, kept, trimmed = 0, 1, 2
	at := func(state, copied int) int { return high + (state-low)*6 + copied*2 }
	// Two states a copy: an edge carries one set and one target, and a state's symbols part in two here.
	for range (high - low) * 6 {
		b.state()
	}
	for s := low; s < high; s++ {
		for _, c := range []int{nothing, kept, trimmed} {
			from := at(s, c)
			for _, to := range b.states[s].epsilon {
				b.link(from, at(to, c))
			}
			if b.states[s].on == nil {
				continue
			}
			on, off := slices.Clone(b.states[s].on), slices.Clone(b.states[s].on)
			for class := range on {
				on[class] = on[class] && !trim[class]
				off[class] = off[class] && trim[class]
			}
			b.states[from].on, b.states[from].to = on, at(b.states[s].to, kept)
			if c != nothing {
				b.link(from, from+1)
				b.states[from+1].on, b.states[from+1].to = off, at(b.states[s].to, trimmed)
			}
		}
	}
	b.link(first, at(f, nothing))
	b.link(at(l, nothing), last)
	b.link(at(l, kept), last)
}

// closure adds to a set what is reached without a symbol, and sorts it.
func (n *nfa) closure(set []int) []int {
	if n.seen == nil {
		n.seen = make([]int, len(n.states))
	}
	n.round++
	n.stack = append(n.stack[:0], set...)
	out := set[:0]
	for len(n.stack) > 0 {
		s := n.stack[len(n.stack)-1]
		n.stack = n.stack[:len(n.stack)-1]
		if n.seen[s] == n.round {
			continue
		}
		n.seen[s] = n.round
		// A state that has neither a symbol nor the end is on the way only.
		if n.states[s].on != nil || s == n.accept {
			out = append(out, s)
		}
		n.stack = append(n.stack, n.states[s].epsilon...)
	}
	slices.Sort(out)
	return out
}
