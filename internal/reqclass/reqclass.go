// Package reqclass divides all HTTP requests into classes that a set of matches cannot tell apart, each with a request that shows it. Requests are
// those that a sidecar's policy sees: paths are normalized, and what the guard refuses is not among them. Input: terms. Output: classes, and whether
// they are all. One entry point: Finder.Classes. Pure.
package reqclass

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/internal/automaton"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Term is one match of a rule, as its policy's action reads it: an Allow must hold for every reading of a doubtful request, a Deny for any.
type Term struct {
	Action model.Action
	Match  *model.HTTPMatch
}

// Class are the requests that satisfy the same terms.
type Class struct {
	Holds   []bool            // by term
	Request model.HTTPRequest // one of them; its Host is empty where any will do
}

const (
	// maxClasses bounds the classes of one question.
	maxClasses = 4096
	// budget bounds the steps of one question about paths or values of a header.
	budget = 4 << 20
)

// Finder finds classes, and remembers what it found about paths and headers. The zero value is ready. Not safe for concurrent use.
type Finder struct {
	known map[string]answer
}

type answer struct {
	classes  []automaton.Class
	complete bool
}

// Classes divides the requests by the terms. When relevant is not nil, only classes that satisfy a term that it names are wanted. The answer is
// complete unless it would have been too large; what it lists is true all the same.
func (f *Finder) Classes(terms []Term, relevant []bool) (classes []Class, complete bool) {
	s := &search{finder: f, terms: terms, relevant: relevant, complete: true}
	s.frontier = []Class{{Holds: slices.Repeat([]bool{true}, len(terms)), Request: model.HTTPRequest{Method: "GET", Path: "/"}}}
	s.split(s.methods())
	s.split(s.hosts())
	for _, name := range s.headerNames() {
		s.split(s.header(name))
	}
	s.split(s.paths())
	return s.frontier, s.complete
}

// search is one division: the requests are split by one dimension after another, and classes that satisfy the same terms are joined again.
type search struct {
	finder   *Finder
	terms    []Term
	relevant []bool
	frontier []Class
	complete bool
}

// value is a class of one dimension.
type value struct {
	holds []bool // by term
	show  func(r *model.HTTPRequest)
}

func (s *search) split(values []value) {
	if values == nil {
		return // no term looks at the dimension
	}
	var next []Class
	seen := map[string]bool{}
	key := make([]byte, len(s.terms))
	for _, c := range s.frontier {
		for _, v := range values {
			wanted := s.relevant == nil
			for i := range key {
				key[i] = 0
				if c.Holds[i] && v.holds[i] {
					key[i] = 1
					wanted = wanted || s.relevant[i]
				}
			}
			if !wanted || seen[string(key)] {
				continue
			}
			if len(next) == maxClasses {
				s.complete = false
				break
			}
			seen[string(key)] = true
			joined := Class{Holds: make([]bool, len(key)), Request: c.Request}
			for i := range key {
				joined.Holds[i] = key[i] == 1
			}
			joined.Request.Headers = slices.Clone(c.Request.Headers)
			v.show(&joined.Request)
			next = append(next, joined)
		}
	}
	s.frontier = next
}

// possible are the terms that some class on the way satisfies so far.
func (s *search) possible() []bool {
	out := make([]bool, len(s.terms))
	for _, c := range s.frontier {
		for i, h := range c.Holds {
			out[i] = out[i] || h
		}
	}
	return out
}

// ask asks about a question once.
func (s *search) ask(key string, question func() automaton.Question) []automaton.Class {
	if s.finder.known == nil {
		s.finder.known = map[string]answer{}
	}
	a, known := s.finder.known[key]
	if !known {
		before := s.complete
		s.complete = true
		q := question()
		q.Budget = budget
		a.classes, a.complete = automaton.Classes(q)
		a.complete = a.complete && s.complete
		s.complete = before
		s.finder.known[key] = a
	}
	s.complete = s.complete && a.complete
	return a.classes
}

// regexp is an expression's language. One that is not understood matches nothing here, and the answer is not complete.
func (s *search) regexp(expr string) *automaton.Expr {
	e, err := automaton.Regexp(expr)
	if err != nil {
		s.complete = false
		return automaton.None()
	}
	return e
}
