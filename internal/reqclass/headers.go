package reqclass

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/internal/automaton"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// headerNames are the headers that terms look at.
func (s *search) headerNames() []string {
	names := map[string]bool{}
	for _, t := range s.terms {
		for _, h := range t.Match.Headers {
			names[lower(h.Name)] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// reach says of how much of a list a match speaks: the lines of one header are one list, as RFC 9110 section 5.3 has it.
type reach string

const (
	every reach = "every" // of every element; of an exact value, the whole list
	some  reach = "some"  // of some run of elements
)

// headerTerm is the language that a header match compares the list with.
type headerTerm struct {
	reach  reach
	regex  bool
	cookie bool // whose values are separated by semicolons, too
	value  string
}

func (t headerTerm) String() string {
	return fmt.Sprintf("%s %t %t %q", t.reach, t.regex, t.cookie, t.value)
}

// headerRule is what a header match makes of it.
type headerRule struct {
	absent bool  // holds for a request without the header
	always []int // languages that the list must belong to
	never  []int // languages that it must not belong to
	closed bool  // holds for no list
}

// header values: absent, and every combination of the languages that terms compare the list with.
func (s *search) header(name string) []value {
	var languages []headerTerm
	place := map[headerTerm]int{}
	valid := headerTerm{} // any valid UTF-8
	language := func(t headerTerm) int {
		if _, known := place[t]; !known {
			place[t] = len(languages)
			languages = append(languages, t)
		}
		return place[t]
	}
	rules := make([][]headerRule, len(s.terms))
	for i, t := range s.terms {
		for _, h := range t.Match.Headers {
			if lower(h.Name) == name {
				rules[i] = append(rules[i], ruleOf(t.Action, h, valid, language))
			}
		}
	}
	classes := s.ask(fmt.Sprintf("header %v", languages), func() automaton.Question { return s.headerQuestion(languages, nonEmpty()) })
	classes = slices.Concat(classes, s.ask(fmt.Sprintf("empty header %v", languages), func() automaton.Question {
		return s.headerQuestion(languages, automaton.Empty())
	}))
	out := []value{{holds: make([]bool, len(s.terms)), show: func(*model.HTTPRequest) {}}}
	for i, of := range rules {
		out[0].holds[i] = !slices.ContainsFunc(of, func(r headerRule) bool { return !r.absent })
	}
	for _, c := range classes {
		v := value{holds: make([]bool, len(s.terms)), show: func(r *model.HTTPRequest) {
			r.Headers = append(r.Headers, model.Header{Name: name, Value: c.Witness})
		}}
		for i, of := range rules {
			v.holds[i] = !slices.ContainsFunc(of, func(r headerRule) bool { return !r.holds(c.Member) })
		}
		out = append(out, v)
	}
	return out
}

// ruleOf reads a header match. The negations of one reading are the other reading's positives.
func ruleOf(action model.Action, h model.HeaderMatch, valid headerTerm, language func(headerTerm) int) headerRule {
	positive, negative := every, some
	if action == model.Deny {
		positive, negative = some, every
	}
	term := func(r reach) headerTerm {
		return headerTerm{reach: r, regex: h.Type == model.Regex || h.Type == model.NotRegex, cookie: lower(h.Name) == "cookie", value: h.Value}
	}
	switch h.Type {
	case model.Present:
		return headerRule{}
	case model.Absent:
		return headerRule{absent: true, closed: true}
	case model.NotExact, model.NotRegex:
		r := headerRule{absent: true, never: []int{language(term(negative))}}
		if action == model.Allow {
			r.always = []int{language(valid)}
		}
		return r
	case model.Exact, model.Regex, model.Prefix:
		return headerRule{always: []int{language(term(positive))}}
	}
	if action == model.Deny {
		return headerRule{absent: true}
	}
	return headerRule{closed: true}
}

func (r headerRule) holds(member []bool) bool {
	return !r.closed && !slices.ContainsFunc(r.always, func(l int) bool { return !member[l] }) &&
		!slices.ContainsFunc(r.never, func(l int) bool { return member[l] })
}

func blank() automaton.Set { return automaton.Single(' ', '\t') }

func nonEmpty() *automaton.Expr {
	return automaton.Seq(automaton.One(automaton.Set{0, automaton.Last}), automaton.Any())
}

// headerQuestion asks about lists without white space around them, which no header value that is received has.
func (s *search) headerQuestion(terms []headerTerm, in *automaton.Expr) automaton.Question {
	q := automaton.Question{
		Alphabet: automaton.Set{'\t', '\t', ' ', '~', 0x80, automaton.Last},
		In:       []*automaton.Expr{automaton.Trimmed(automaton.Any(), blank()), in},
	}
	for _, t := range terms {
		q.Exprs = append(q.Exprs, s.headerExpr(t))
	}
	return q
}

func (s *search) headerExpr(t headerTerm) *automaton.Expr {
	white := automaton.Star(automaton.One(blank()))
	comma := automaton.Literal(",")
	switch {
	case t.reach == "":
		return validUTF8()
	case t.reach == every && !t.regex:
		return automaton.Literal(t.value)
	case t.reach == every:
		element := automaton.Trimmed(automaton.Without(s.regexp(t.value), automaton.Single(',')), blank())
		padded := automaton.Seq(white, element, white)
		return automaton.Seq(padded, automaton.Star(automaton.Seq(comma, padded)))
	}
	separator := comma
	if t.cookie {
		separator = automaton.One(automaton.Single(',', ';'))
	}
	run := automaton.Literal(t.value)
	if t.regex {
		run = automaton.Trimmed(s.regexp(t.value), blank())
	} else if t.value != strings.Trim(t.value, " \t") {
		run = automaton.None()
	}
	return automaton.Seq(automaton.Maybe(automaton.Seq(automaton.Any(), separator)), white, run, white, automaton.Maybe(automaton.Seq(separator, automaton.Any())))
}

// validUTF8 are the sequences of bytes that are UTF-8.
func validUTF8() *automaton.Expr {
	bytes := func(first, last byte) *automaton.Expr { return automaton.One(automaton.Set{rune(first), rune(last)}) }
	return automaton.Star(automaton.Alt(bytes(0, 0x7f), sequencesUTF8(bytes)))
}

// sequencesUTF8 are the sequences of one character above ASCII (the table of RFC 3629, section 4), given how a byte in a range is written.
func sequencesUTF8(bytes func(first, last byte) *automaton.Expr) *automaton.Expr {
	tail := bytes(0x80, 0xbf)
	return automaton.Alt(
		automaton.Seq(bytes(0xc2, 0xdf), tail),
		automaton.Seq(bytes(0xe0, 0xe0), bytes(0xa0, 0xbf), tail),
		automaton.Seq(automaton.Alt(bytes(0xe1, 0xec), bytes(0xee, 0xef)), tail, tail),
		automaton.Seq(bytes(0xed, 0xed), bytes(0x80, 0x9f), tail),
		automaton.Seq(bytes(0xf0, 0xf0), bytes(0x90, 0xbf), tail, tail),
		automaton.Seq(bytes(0xf1, 0xf3), tail, tail, tail),
		automaton.Seq(bytes(0xf4, 0xf4), bytes(0x80, 0x8f), tail, tail),
	)
}
