package validation

import (
	"iter"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

const (
	maxExpression = 256

	// maxProgram is the size of program at which Envoy refuses an expression: re2.max_program_size.error_level in the bootstrap.
	maxProgram = 1000
	// maxExpressionSize leaves room for what the translation writes around an expression. The largest is an Allow's header, which holds it twice:
	// (?:R)(?:[ \t]*,[ \t]*(?:R))*.
	maxExpressionSize = 470
)

// regularExpression checks an expression that Envoy will match whole with RE2. The length comes first: nothing else looks at a long one.
// The last check knows what the expression is for.
func (c *checker) regularExpression(field, expr string, last func(*syntax.Regexp) (detail, remedy string)) {
	if !c.short(field, expr, maxExpression) {
		return
	}
	if detail, remedy := expressionProblem(expr, last); detail != "" {
		c.add(CheckRegularExpression, field, remedy, "%s %s", quote(expr), detail)
	}
}

// expressionProblem says what is wrong with an expression of bounded length.
func expressionProblem(expr string, last func(*syntax.Regexp) (detail, remedy string)) (detail, remedy string) {
	if expr == "" {
		return "is empty", "give an expression"
	}
	if detail, remedy := tokenProblem(expr); detail != "" {
		return detail, remedy
	}
	expr = TrimAnchors(expr)
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return "is not a regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: "), "use RE2 syntax"
	}
	if hasAnchor(parsed) {
		return "holds an anchor inside", `remove ^, $, \A and \z: the whole value is compared`
	}
	if programSize(expr) > maxExpressionSize {
		return "is too complex for a proxy", "repeat less: x{100} costs as much as x written a hundred times"
	}
	return last(parsed)
}

// pathExpressionProblem refuses what no path could match: a Deny that never holds would be a trap.
func pathExpressionProblem(re *syntax.Regexp) (detail, remedy string) {
	if first := firstLiteral(re); first != 0 && first != '/' {
		return "does not begin with a slash, and every path does", "begin with /"
	}
	if hasLiteral(re, "?#") {
		return "holds a ? or # of its own, and neither query nor fragment is compared", "end the expression before it"
	}
	return "", ""
}

// headerExpressionProblem: where every value of a repeated header must match, values are told apart by commas, and none holds one.
func (c *checker) headerExpressionProblem(t v1alpha1.HeaderMatchType) func(*syntax.Regexp) (detail, remedy string) {
	everyValue := t == v1alpha1.HeaderRegularExpression
	if c.deny {
		everyValue = !everyValue
	}
	return func(re *syntax.Regexp) (detail, remedy string) {
		if everyValue && hasLiteral(re, ",") {
			return "holds a comma, and each value of a list is compared by itself", "write an expression for one value, or use Exact or NotExact for a whole list"
		}
		return "", ""
	}
}

// firstLiteral is the byte that every match begins with, or 0 where that is not plain to see.
func firstLiteral(re *syntax.Regexp) rune {
	switch re.Op {
	case syntax.OpLiteral:
		return re.Rune[0]
	case syntax.OpConcat, syntax.OpCapture, syntax.OpPlus:
		return firstLiteral(re.Sub[0])
	}
	return 0
}

func hasLiteral(re *syntax.Regexp, chars string) bool {
	if re.Op == syntax.OpLiteral && strings.ContainsAny(string(re.Rune), chars) {
		return true
	}
	return slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return hasLiteral(sub, chars) })
}

// TrimAnchors takes off the ^ before and the $ after a whole expression: it is compared whole anyway, and inside what the translation writes
// around it they would mean another place.
func TrimAnchors(expr string) string {
	flags := ""
	if rest, found := strings.CutPrefix(expr, "(?i)"); found {
		flags, expr = "(?i)", rest
	}
	expr = strings.TrimPrefix(expr, "^")
	if rest, found := strings.CutSuffix(expr, "$"); found && (len(rest)-len(strings.TrimRight(rest, `\`)))%2 == 0 {
		expr = rest
	}
	return flags + expr
}

// tokenProblem refuses, token by token, what RE2 and Go read differently, what would reach beyond the group that the expression is put in, and
// what costs much in few bytes. It runs before the parser, which then sees ASCII and known escapes only.
func tokenProblem(expr string) (detail, remedy string) {
	if !onlyBytes(expr, func(b byte) bool { return b >= 0x20 && b < 0x7f }) {
		return "holds a control or non-ASCII character", `use ASCII; requests have other characters as escapes, for example %C3%A9`
	}
	for t := range tokens(expr) {
		switch rest := expr[t.at:]; {
		case rest == `\`:
			return "ends with a backslash", `write \\ for a backslash`
		case rest[0] == '\\':
			if detail, remedy := escapedProblem(rest[1:]); detail != "" {
				return detail, remedy
			}
		case !t.inClass && strings.HasPrefix(rest, "(?") && !strings.HasPrefix(rest, "(?:") && (t.at > 0 || !strings.HasPrefix(rest, "(?i)")):
			return "holds a group with a flag or a name", "use (?:...), and (?i) at the very beginning only"
		}
	}
	return "", ""
}

// token is one byte of an expression that is no part of an escape begun before it.
type token struct {
	at      int
	inClass bool
}

// tokens tells what is syntax from what is escaped or in a class.
func tokens(expr string) iter.Seq[token] {
	return func(yield func(token) bool) {
		inClass := false
		for i := 0; i < len(expr); i++ {
			if !yield(token{at: i, inClass: inClass}) {
				return
			}
			switch b := expr[i]; {
			case b == '\\':
				i++
			case !inClass && b == '[':
				inClass = true
				i += classOpening(expr[i+1:])
			case inClass && strings.HasPrefix(expr[i:], "[:"):
				if end := strings.Index(expr[i+2:], ":]"); end >= 0 {
					i += 2 + end + 1
				}
			case inClass && b == ']':
				inClass = false
			}
		}
	}
}

// classOpening is the length of what may follow a [ without closing the class: ^, and a ] as its first member.
func classOpening(s string) int {
	n := 0
	if strings.HasPrefix(s, "^") {
		n++
	}
	if strings.HasPrefix(s[n:], "]") {
		n++
	}
	return n
}

// escapedProblem looks at what follows a backslash.
func escapedProblem(s string) (detail, remedy string) {
	switch b := s[0]; {
	case b == 'p' || b == 'P':
		return "holds a Unicode class", "list ASCII characters"
	case b == 'C':
		return `holds \C`, "use . or a class"
	case b == 'Q' || b == 'E':
		return `holds \Q or \E`, "escape each character with a backslash"
	case isDigit(b):
		return "holds a back reference or an octal escape", `write \x and two hexadecimal digits`
	case b == 'x':
		if len(s) < 3 {
			return `holds \x without two hexadecimal digits`, `write \x and two hexadecimal digits`
		}
		if v, err := strconv.ParseUint(s[1:3], 16, 8); err != nil || v >= 0x80 {
			return `holds \x without two hexadecimal digits up to 7f`, `write \x and two hexadecimal digits, 00 to 7f`
		}
	}
	return "", ""
}

// hasAnchor: what the translation writes around an expression moves the ends of the text away from it.
func hasAnchor(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText:
		return true
	}
	return slices.ContainsFunc(re.Sub, hasAnchor)
}

// programSize bounds from above the size of RE2's program for an expression that parses, and for the same with one character taken out of each of
// its classes, which the translation does (for the ? of a path and the comma of a header). Envoy's RE2 compares bytes: a class costs an instruction
// for each of its ranges below 256. It stops growing above the limit, so that repetitions of repetitions cannot overflow.
func programSize(expr string) int {
	const fixed = 6
	// Go's parser makes one class of a|[bc], RE2 does not always: an empty group keeps the alternatives apart.
	var apart strings.Builder
	last := 0
	for t := range tokens(expr) {
		if !t.inClass && expr[t.at] == '|' {
			apart.WriteString(expr[last:t.at] + "|(?:)")
			last = t.at + 1
		}
	}
	apart.WriteString(expr[last:])
	re, err := syntax.Parse(apart.String(), syntax.Perl)
	if err != nil {
		return enough
	}
	return min(fixed+size(re), enough)
}

// enough is a size at which counting may stop.
const enough = 2 * maxProgram

func size(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n = min(n+size(sub), enough)
	}
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
		if re.Flags&syntax.FoldCase != 0 {
			n *= 2
		}
	case syntax.OpCharClass:
		n = 1
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if re.Rune[i] <= 0xff {
				n++
			}
		}
	case syntax.OpAnyCharNotNL, syntax.OpAnyChar:
		n = 3
	case syntax.OpAlternate:
		n += 2 * len(re.Sub)
	case syntax.OpCapture:
		n += 2
	case syntax.OpStar:
		n += 4
	case syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		n = copies(re)*(n+2) + 1
	case syntax.OpConcat:
	default: // an empty match, a word boundary
		n += 2
	}
	return min(n, enough)
}

// copies is how often an expression that is repeated may stand in the program.
func copies(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpQuest:
		return 1
	case syntax.OpPlus:
		return 2
	}
	return max(re.Max, re.Min+1)
}
