package automaton

import (
	"encoding/binary"
	"slices"
)

// Question asks which combinations of languages have a string in common.
type Question struct {
	Alphabet Set     // the symbols that strings are made of
	In       []*Expr // languages that a string must belong to
	Out      []*Expr // languages that it must not belong to
	Exprs    []*Expr // languages to tell apart
	Live     []int   // when not nil: only classes that belong to one of these Exprs are asked for
	Budget   int     // steps that may be taken: one for each language, state and symbol
}

// Class is one combination.
type Class struct {
	Member  []bool // by expression
	Witness string // a shortest string of the class
}

// Classes walks the product of all languages, breadth first. The answer is complete unless the budget ran out.
func Classes(q Question) (classes []Class, complete bool) {
	w := newWalk(&q)
	if w == nil {
		return nil, false
	}
	return w.run()
}

// walk is a breadth-first search of the product.
type walk struct {
	question *Question
	alphabet *alphabet
	dfas     []*dfa // In, Out, Exprs
	visited  map[string]bool
	queue    []node
	found    map[string]bool
	classes  []Class
}

type node struct {
	states []int // by dfa
	parent int   // in the queue
	class  int   // the symbol that led here
}

func newWalk(q *Question) *walk {
	languages := slices.Concat(q.In, q.Out, q.Exprs)
	w := &walk{question: q, alphabet: newAlphabet(q.Alphabet, languages), visited: map[string]bool{}, found: map[string]bool{}}
	for _, e := range languages {
		n, ok := build(w.alphabet, e)
		if !ok {
			return nil
		}
		w.dfas = append(w.dfas, determinize(w.alphabet, n))
	}
	return w
}

func (w *walk) run() (classes []Class, complete bool) {
	start := make([]int, len(w.dfas))
	for i, d := range w.dfas {
		start[i] = d.first()
	}
	w.visit(node{states: start, parent: -1})
	budget := w.question.Budget
	cost := len(w.dfas) * len(w.alphabet.symbols)
	for i := 0; i < len(w.queue); i++ {
		if budget -= cost; budget < 0 {
			return w.classes, false
		}
		for class := range w.alphabet.symbols {
			next := make([]int, len(w.dfas))
			for j, d := range w.dfas {
				next[j] = d.step(w.queue[i].states[j], class)
			}
			w.visit(node{states: next, parent: i, class: class})
		}
	}
	return w.classes, true
}

// visit queues a state of the product that is new and can still lead to an answer, and notes the class that ends there.
func (w *walk) visit(n node) {
	in, out := len(w.question.In), len(w.question.In)+len(w.question.Out)
	if slices.Contains(n.states[:in], dead) || slices.Contains(n.states[in:out], all) || !w.live(n.states[out:]) {
		return
	}
	key := make([]byte, 0, 4*len(n.states))
	for _, s := range n.states {
		key = binary.LittleEndian.AppendUint32(key, uint32(s))
	}
	if w.visited[string(key)] {
		return
	}
	w.visited[string(key)] = true
	w.queue = append(w.queue, n)
	w.note(n, in, out)
}

func (w *walk) live(states []int) bool {
	return w.question.Live == nil || slices.ContainsFunc(w.question.Live, func(i int) bool { return states[i] != dead })
}

func (w *walk) note(n node, in, out int) {
	member := make([]bool, len(w.question.Exprs))
	key := make([]byte, len(member))
	for i, d := range w.dfas {
		accepts := d.accepts[n.states[i]]
		switch {
		case i < in && !accepts, i >= in && i < out && accepts:
			return
		case i >= out && accepts:
			member[i-out], key[i-out] = true, 1
		}
	}
	if w.found[string(key)] {
		return
	}
	if l := w.question.Live; l != nil && !slices.ContainsFunc(l, func(i int) bool { return member[i] }) {
		return
	}
	w.found[string(key)] = true
	w.classes = append(w.classes, Class{Member: member, Witness: w.witness(n)})
}

func (w *walk) witness(n node) string {
	var symbols []rune
	for n.parent >= 0 {
		symbols = append(symbols, w.alphabet.symbols[n.class])
		n = w.queue[n.parent]
	}
	slices.Reverse(symbols)
	return Text(symbols)
}
