package reqclass

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/internal/automaton"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// What a normalized path does not hold: empty and dot segments and escaped slashes, which the sidecar merges, resolves or refuses before it asks a policy.
const notNormalized = `.*//.*|.*/(?:\.|%2[eE]){1,2}(?:/.*)?|.*%(?:2[fF]|5[cC]).*`

// What the guard refuses, as pkg/eval has it: escaped control characters, malformed escapes, escaped escapes, and "/..;". It also refuses what does not
// decode to UTF-8.
const ambiguous = `.*%(?:[01][0-9a-fA-F]|7[fF]|25(?:2[eEfF]|5[cC]|3[bB]|00)).*` +
	`|.*%(?:[^0-9a-fA-F].*|[0-9a-fA-F](?:[^0-9a-fA-F].*)?)?` +
	`|.*/\.\.?(?:;|%3[bB]).*`

// pathTerm is a path match as an action reads it.
type pathTerm struct {
	action model.Action
	match  model.PathMatch
}

// bare says whether the match wants a path without parameters: what an expression says of those is read in more than one way.
func (t pathTerm) bare() bool { return t.action == model.Allow && t.match.Type == model.Regex }

// paths are told apart by the automata of the matches that still matter.
func (s *search) paths() []value {
	possible := s.possible()
	var distinct []pathTerm
	place := map[pathTerm]int{}
	live, all := map[int]bool{}, s.relevant == nil
	for i, t := range s.terms {
		if !possible[i] {
			continue
		}
		relevant := s.relevant != nil && s.relevant[i]
		all = all || relevant && t.Match.Paths == nil
		for _, m := range t.Match.Paths {
			p := pathTerm{t.Action, m}
			if _, known := place[p]; !known {
				place[p] = len(distinct)
				distinct = append(distinct, p)
			}
			if relevant {
				live[place[p]] = true
			}
		}
	}
	if len(distinct) == 0 {
		return nil
	}
	var onlyLive []int
	if !all {
		onlyLive = make([]int, 0, len(live))
		for i := range distinct {
			if live[i] {
				onlyLive = append(onlyLive, i)
			}
		}
	}
	classes := s.ask(fmt.Sprintf("path %q %v", distinct, onlyLive), func() automaton.Question { return s.pathQuestion(distinct, onlyLive) })
	out := make([]value, 0, len(classes))
	for _, c := range classes {
		v := value{holds: make([]bool, len(s.terms)), show: func(r *model.HTTPRequest) { r.Path = c.Witness }}
		for i, t := range s.terms {
			v.holds[i] = t.Match.Paths == nil || possible[i] && slices.ContainsFunc(t.Match.Paths, func(m model.PathMatch) bool {
				p := pathTerm{t.Action, m}
				return c.Member[place[p]] && (!p.bare() || !c.Member[len(distinct)])
			})
		}
		out = append(out, v)
	}
	return out
}

func (s *search) pathQuestion(terms []pathTerm, live []int) automaton.Question {
	q := automaton.Question{
		Alphabet: automaton.Set{'!', '"', '$', '>', '@', '[', ']', '~'}, // printable, without # ? and the backslash
		In:       []*automaton.Expr{automaton.Seq(automaton.Literal("/"), automaton.Any())},
		Out:      []*automaton.Expr{s.regexp(notNormalized), s.regexp(ambiguous)},
		Live:     live,
	}
	for _, t := range terms {
		q.Exprs = append(q.Exprs, s.pathExpr(t))
	}
	if slices.ContainsFunc(terms, pathTerm.bare) {
		q.Exprs = append(q.Exprs, withParameters())
	}
	// To terms that name no escape, one that is not UTF-8 is as good as one that is: the question stays small.
	if slices.ContainsFunc(terms, func(t pathTerm) bool { return t.match.Type == model.Regex || strings.Contains(t.match.Value, "%") }) {
		q.In = append(q.In, escapedUTF8())
	}
	return q
}

func (s *search) pathExpr(t pathTerm) *automaton.Expr {
	rest := automaton.Maybe(automaton.Seq(automaton.Literal("/"), automaton.Any()))
	switch {
	case t.match.Type == model.Regex && t.action == model.Deny:
		return automaton.Alt(s.regexp(t.match.Value), withParameters())
	case t.match.Type == model.Regex: // but for paths with parameters
		return s.regexp(t.match.Value)
	case t.action == model.Deny:
		return segmentsExpr(t.match)
	case t.match.Type == model.Exact:
		return automaton.Literal(t.match.Value)
	case strings.HasSuffix(t.match.Value, "/"):
		return automaton.Seq(automaton.Literal(t.match.Value), automaton.Any())
	}
	return automaton.Seq(automaton.Literal(t.match.Value), rest)
}

// semicolon begins the parameters of a segment, escaped too: some applications decode first.
func semicolon() *automaton.Expr {
	return automaton.Alt(automaton.Literal(";"), automaton.Seq(automaton.Literal("%3"), automaton.One(automaton.Single('b', 'B'))))
}

func withParameters() *automaton.Expr {
	return automaton.Seq(automaton.Any(), semicolon(), automaton.Any())
}

// segmentsExpr compares segment by segment, without ";params", empty segments and percent-escapes.
func segmentsExpr(m model.PathMatch) *automaton.Expr {
	anyButSlash := automaton.Without(automaton.Any(), automaton.Single('/'))
	params := automaton.Maybe(automaton.Seq(semicolon(), anyButSlash))
	slash := automaton.Literal("/")
	out := automaton.Seq(automaton.Star(automaton.Seq(params, slash)))
	more := []*automaton.Expr{automaton.Star(automaton.Seq(slash, params))}
	count := 0
	for segment := range strings.SplitSeq(m.Value, "/") {
		segment, _, _ = strings.Cut(unescape(segment), ";")
		if segment == "" {
			continue
		}
		if count++; count > 1 {
			out = automaton.Seq(out, slash, automaton.Star(automaton.Seq(params, slash)))
		}
		out = automaton.Seq(out, spelled(segment), params)
	}
	switch {
	case m.Type == model.Prefix && count == 0:
		return automaton.Any()
	case m.Type == model.Prefix:
		more = append(more, automaton.Maybe(automaton.Seq(slash, automaton.Any())))
	case count == 0:
		return automaton.Seq(params, automaton.Star(automaton.Seq(slash, params)))
	}
	return automaton.Seq(append([]*automaton.Expr{out}, more...)...)
}

// spelled is a segment's bytes, each as it is or escaped. Bytes that no path holds as they are stand escaped only.
func spelled(segment string) *automaton.Expr {
	out := automaton.Seq()
	for i := range len(segment) {
		b := segment[i]
		escaped := automaton.Seq(automaton.Literal("%"), hexDigit(b>>4), hexDigit(b&0xf))
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`;/%?#\`, b) >= 0 {
			out = automaton.Seq(out, escaped)
			continue
		}
		out = automaton.Seq(out, automaton.Alt(automaton.Literal(string(rune(b))), escaped))
	}
	return out
}

func hexDigit(n byte) *automaton.Expr { return hexDigits(n, n) }

// hexDigits are the digits from one to another, in either case.
func hexDigits(first, last byte) *automaton.Expr {
	var digits []rune
	for n := first; n <= last; n++ {
		digit := strconv.FormatUint(uint64(n), 16)
		digits = append(digits, rune(digit[0]), rune(strings.ToUpper(digit)[0]))
	}
	return automaton.One(automaton.Single(digits...))
}

// escapedUTF8 are the paths whose escapes above ASCII are UTF-8.
func escapedUTF8() *automaton.Expr {
	escape := func(first, last byte) *automaton.Expr {
		var of []*automaton.Expr
		for high := first >> 4; high <= last>>4; high++ {
			of = append(of, automaton.Seq(hexDigit(high), hexDigits(max(first, high<<4)&0xf, min(last, high<<4|0xf)&0xf)))
		}
		return automaton.Seq(automaton.Literal("%"), automaton.Alt(of...))
	}
	ascii := automaton.Alt(automaton.One(automaton.Set{0, '%' - 1, '%' + 1, automaton.Last}),
		automaton.Seq(automaton.Literal("%"), automaton.One(automaton.Set{'0', '7'})))
	return automaton.Star(automaton.Alt(ascii, sequencesUTF8(escape)))
}

// unescape decodes every well-formed percent-escape, once.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if decoded, err := hex.DecodeString(s[i+1 : i+3]); err == nil {
				b.Write(decoded)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
