// Package automaton tells regular languages apart: given several, it finds every combination of them that some string belongs to, with a short
// string for each. Strings are bytes, as they are to the engine in Envoy: no header has to be UTF-8. Input: a Question. Output: its classes, and whether they are all.
// One entry point: Classes. Pure.
package automaton

import (
	"fmt"
	"regexp/syntax"
	"unicode"
)

// Last is the last symbol: a byte is one.
const Last rune = 0xff

// Set is a set of symbols: pairs of first and last, in any order.
type Set []rune

// Single is the set of the given symbols.
func Single(symbols ...rune) Set {
	out := make(Set, 0, 2*len(symbols))
	for _, r := range symbols {
		out = append(out, r, r)
	}
	return out
}

func (s Set) contains(r rune) bool {
	for i := 0; i+1 < len(s); i += 2 {
		if s[i] <= r && r <= s[i+1] {
			return true
		}
	}
	return false
}

type op string

const (
	opNone    op = "none"  // no string
	opEmpty   op = "empty" // the empty string
	opSet     op = "set"
	opSeq     op = "seq"
	opAlt     op = "alt"
	opStar    op = "star"
	opWithout op = "without" // those strings of sub that hold no symbol of set
	opTrimmed op = "trimmed" // those strings of sub that neither begin nor end with a symbol of set
)

// Expr is a regular language.
type Expr struct {
	op   op
	set  Set
	subs []*Expr
}

// None is the language without any string.
func None() *Expr { return &Expr{op: opNone} }

// Empty is the language of the empty string.
func Empty() *Expr { return &Expr{op: opEmpty} }

// One is the language of the single symbols of a set.
func One(s Set) *Expr { return &Expr{op: opSet, set: s} }

// Any is the language of all strings.
func Any() *Expr { return Star(One(Set{0, Last})) }

// Seq is the concatenation of languages.
func Seq(subs ...*Expr) *Expr { return &Expr{op: opSeq, subs: subs} }

// Alt is the union of languages.
func Alt(subs ...*Expr) *Expr { return &Expr{op: opAlt, subs: subs} }

// Star repeats a language any number of times.
func Star(sub *Expr) *Expr { return &Expr{op: opStar, subs: []*Expr{sub}} }

// Maybe is a language and the empty string.
func Maybe(sub *Expr) *Expr { return Alt(sub, Empty()) }

// Without are the strings of a language that hold no symbol of the set.
func Without(sub *Expr, s Set) *Expr { return &Expr{op: opWithout, set: s, subs: []*Expr{sub}} }

// Trimmed are the strings of a language that neither begin nor end with a symbol of the set.
func Trimmed(sub *Expr, s Set) *Expr { return &Expr{op: opTrimmed, set: s, subs: []*Expr{sub}} }

// Literal is the language of one string.
func Literal(s string) *Expr {
	out := Seq()
	for _, r := range Symbols(s) {
		out.subs = append(out.subs, One(Single(r)))
	}
	return out
}

// Symbols are the symbols of a string.
func Symbols(s string) []rune {
	out := make([]rune, 0, len(s))
	for i := range len(s) {
		out = append(out, rune(s[i]))
	}
	return out
}

// Text is the string of some symbols.
func Text(symbols []rune) string {
	out := make([]byte, 0, len(symbols))
	for _, r := range symbols {
		out = append(out, byte(r))
	}
	return string(out)
}

// Regexp is the language of a regular expression that is matched whole. Expressions with anchors or word boundaries are an error.
func Regexp(expr string) (*Expr, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", expr, err)
	}
	return fromSyntax(parsed.Simplify())
}

func fromSyntax(re *syntax.Regexp) (*Expr, error) {
	var subs []*Expr
	for _, s := range re.Sub {
		sub, err := fromSyntax(s)
		if err != nil {
			return nil, err
		}
		subs = append(subs, sub)
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return None(), nil
	case syntax.OpEmptyMatch:
		return Empty(), nil
	case syntax.OpLiteral:
		out := Seq()
		for _, r := range re.Rune {
			out.subs = append(out.subs, One(spellings(r, re.Flags)))
		}
		return out, nil
	case syntax.OpCharClass:
		return One(bytesOf(re.Rune)), nil
	case syntax.OpAnyChar:
		return One(Set{0, Last}), nil
	case syntax.OpAnyCharNotNL:
		return One(Set{0, '\n' - 1, '\n' + 1, Last}), nil
	case syntax.OpCapture, syntax.OpConcat:
		return Seq(subs...), nil
	case syntax.OpAlternate:
		return Alt(subs...), nil
	case syntax.OpStar:
		return Star(subs[0]), nil
	case syntax.OpPlus:
		return Seq(subs[0], Star(subs[0])), nil
	case syntax.OpQuest:
		return Maybe(subs[0]), nil
	}
	return nil, fmt.Errorf("expression %q: %s is not supported", re.String(), re.Op)
}

// spellings are a symbol and, where case does not count, its other cases.
func spellings(r rune, flags syntax.Flags) Set {
	out := Single(r)
	if flags&syntax.FoldCase != 0 {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			out = append(out, f, f)
		}
	}
	return bytesOf(out)
}

// bytesOf are the symbols among some characters.
func bytesOf(characters []rune) Set {
	var out Set
	for i := 0; i+1 < len(characters); i += 2 {
		if characters[i] <= Last {
			out = append(out, characters[i], min(characters[i+1], Last))
		}
	}
	return out
}
