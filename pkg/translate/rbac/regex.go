package rbac

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// maxProgram is the RE2 program size up to which Envoy takes an expression (runtime key re2.max_program_size.error_level of the bootstrap).
// Beyond it Envoy refuses the whole configuration, so nothing larger is ever generated.
const maxProgram = 1000

// problem is why a part of a policy cannot be expressed.
type problem string

func (p problem) Error() string { return string(p) }

const (
	errTooLarge    problem = "it is longer than Envoy takes"
	errUnknownType problem = "its type is not known"
	errNotText     problem = "it holds characters that nothing compared with it can hold"
)

// expression is a user's regular expression, rewritten: without flags, anchors and captures, in bytes (Envoy's RE2 reads bytes, not runes), and
// with one byte taken out of every class.
type expression struct {
	text    string
	program int    // never below the size that Envoy counts
	literal string // every match begins with it
	never   bool   // matches nothing
}

// rewriter says how doubt is settled: an Allow must hold for every reading, a Deny for any.
type rewriter struct {
	action  model.Action
	without rune // no part of the expression may match it: it ends the part of the input that the expression is about
}

// rewrite parses an expression and writes it anew. Anchors at its ends mean nothing, since the whole is matched; elsewhere they would speak of
// the ends of the input, not of its part.
func rewrite(expr string, action model.Action, without rune) (expression, error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return expression{}, fmt.Errorf("parse the regular expression: %w", err)
	}
	if !validText(expr) {
		return expression{}, errNotText
	}
	w := rewriter{action: action, without: without}
	out := w.write(trimAnchors(tree))
	if out.never {
		return out, nil
	}
	out.program += 4
	return out, nil
}

// trimAnchors takes ^ off the beginning and $ off the end.
func trimAnchors(re *syntax.Regexp) *syntax.Regexp {
	atStart := func(int) int { return 0 }
	atEnd := func(n int) int { return n - 1 }
	return trimAnchor(trimAnchor(re, syntax.OpBeginText, atStart), syntax.OpEndText, atEnd)
}

// trimAnchor takes an anchor off the end of an expression that place names, given the number of parts there are.
func trimAnchor(re *syntax.Regexp, anchor syntax.Op, place func(int) int) *syntax.Regexp {
	copied := *re
	copied.Sub = slices.Clone(re.Sub)
	switch re.Op {
	case anchor:
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	case syntax.OpConcat:
		i := place(len(re.Sub))
		copied.Sub[i] = trimAnchor(re.Sub[i], anchor, place)
	case syntax.OpAlternate, syntax.OpCapture:
		for i, s := range re.Sub {
			copied.Sub[i] = trimAnchor(s, anchor, place)
		}
	}
	return &copied
}

func (w rewriter) write(re *syntax.Regexp) expression {
	switch re.Op {
	case syntax.OpLiteral:
		return w.literal(re)
	case syntax.OpCharClass:
		return w.class(re.Rune)
	case syntax.OpAnyCharNotNL:
		return w.class([]rune{0, '\n' - 1, '\n' + 1, unicode.MaxRune})
	case syntax.OpAnyChar:
		return w.class([]rune{0, unicode.MaxRune})
	case syntax.OpCapture:
		return w.write(re.Sub[0])
	case syntax.OpConcat:
		return w.concat(re.Sub)
	case syntax.OpAlternate:
		return w.alternate(re.Sub)
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		return w.repeat(re)
	case syntax.OpEmptyMatch:
		return expression{program: 1}
	case syntax.OpWordBoundary:
		return expression{text: `\b`, program: 2}
	case syntax.OpNoWordBoundary:
		return expression{text: `\B`, program: 2}
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText:
		if w.action == model.Deny {
			return expression{program: 1}
		}
	}
	return expression{never: true}
}

// literal writes bytes, and both cases of a letter where case is ignored.
func (w rewriter) literal(re *syntax.Regexp) expression {
	var out expression
	var b, prefix strings.Builder
	fixed := true
	for _, r := range re.Rune {
		if r == w.without {
			return expression{never: true}
		}
		other := r
		if re.Flags&syntax.FoldCase != 0 && r < unicode.MaxASCII {
			other = swapCase(r)
		}
		if other != r {
			b.WriteString("[" + string(min(r, other)) + string(max(r, other)) + "]")
			out.program += 2
			fixed = false
			continue
		}
		for _, c := range []byte(string(r)) {
			b.WriteString(quoteByte(c))
			out.program++
		}
		if fixed {
			prefix.WriteRune(r)
		}
	}
	out.text, out.literal = b.String(), prefix.String()
	return out
}

func swapCase(r rune) rune {
	if unicode.IsUpper(r) {
		return unicode.ToLower(r)
	}
	return unicode.ToUpper(r)
}

// class writes a class of bytes. What a class says of runes above ASCII becomes all or none of the bytes above ASCII: all where it means all of
// them (a negated class), or for a Deny where it means any. Without case, Go takes two of them for the letters s and k: they are no bytes.
func (w rewriter) class(runes []rune) expression {
	letters := [...]rune{'\u017f', '\u212a'} // a long s and the sign of the kelvin
	var members [256]bool
	above := 0
	for i := 0; i+1 < len(runes); i += 2 {
		for r := runes[i]; r <= min(runes[i+1], unicode.MaxASCII); r++ {
			members[r] = r != w.without
		}
		if hi, lo := runes[i+1], max(runes[i], unicode.MaxASCII+1); hi >= lo {
			above += int(hi-lo) + 1
			for _, letter := range letters {
				if lo <= letter && letter <= hi {
					above--
				}
			}
		}
	}
	if above == unicode.MaxRune-unicode.MaxASCII-len(letters) || above > 0 && w.action == model.Deny {
		for i := int(unicode.MaxASCII) + 1; i < len(members); i++ {
			members[i] = true
		}
	}
	var b strings.Builder
	ranges := 0
	for lo := 0; lo < len(members); lo++ {
		if !members[lo] {
			continue
		}
		hi := lo
		for hi+1 < len(members) && members[hi+1] {
			hi++
		}
		b.WriteString(quoteByte(byte(lo)))
		if hi > lo {
			b.WriteString("-" + quoteByte(byte(hi)))
		}
		ranges++
		lo = hi
	}
	if ranges == 0 {
		return expression{never: true}
	}
	return expression{text: "[" + b.String() + "]", program: ranges}
}

// quoteByte writes a byte so that it means itself inside and outside of a class.
func quoteByte(c byte) string { return string(appendByte(nil, c)) }

func appendByte(b []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '/', c == '_':
		return append(b, c)
	case c > ' ' && c < unicode.MaxASCII:
		return append(b, '\\', c)
	}
	return append(b, '\\', 'x', hex[c>>4], hex[c&0xf])
}

func (w rewriter) concat(subs []*syntax.Regexp) expression {
	out := expression{}
	fixed := true
	for _, s := range subs {
		part := w.write(s)
		if part.never {
			return part
		}
		if fixed {
			out.literal += part.literal
			fixed = s.Op == syntax.OpLiteral && part.literal == string(s.Rune)
		}
		out.text += part.text
		out.program += part.program
	}
	return out
}

func (w rewriter) alternate(subs []*syntax.Regexp) expression {
	var parts []string
	program := 0
	for _, s := range subs {
		if part := w.write(s); !part.never {
			parts = append(parts, part.text)
			program += part.program + 2
		}
	}
	if len(parts) == 0 {
		return expression{never: true}
	}
	return expression{text: "(?:" + strings.Join(parts, "|") + ")", program: program}
}

func (w rewriter) repeat(re *syntax.Regexp) expression {
	sub := w.write(re.Sub[0])
	lo, hi, sign := 0, 1, "?"
	switch re.Op {
	case syntax.OpStar:
		hi, sign = -1, "*"
	case syntax.OpPlus:
		lo, hi, sign = 1, -1, "+"
	case syntax.OpRepeat:
		lo, hi = re.Min, re.Max
		sign = "{" + strconv.Itoa(lo) + "," + strconv.Itoa(hi) + "}"
		if hi < 0 {
			sign = "{" + strconv.Itoa(lo) + ",}"
		}
	}
	switch {
	case sub.never && lo > 0:
		return sub
	case sub.never || hi == 0:
		return expression{program: 1}
	}
	copies := max(hi, lo+1)
	return expression{text: "(?:" + sub.text + ")" + sign, program: copies*(sub.program+2) + 1}
}

// quote is the expression that matches a literal's bytes.
func quote(literal string) string {
	return string(appendQuoted(make([]byte, 0, len(literal)+len(literal)/4), literal))
}

func appendQuoted(b []byte, literal string) []byte {
	for i := range len(literal) {
		b = appendByte(b, literal[i])
	}
	return b
}
