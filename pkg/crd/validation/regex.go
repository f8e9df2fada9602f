package validation

import (
	"regexp/syntax"
	"strconv"
	"strings"
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
func (c *checker) regularExpression(field, expr string) {
	if !c.short(field, expr, maxExpression) {
		return
	}
	if detail, remedy := expressionProblem(expr); detail != "" {
		c.add(CheckRegularExpression, field, remedy, "%s %s", quote(expr), detail)
	}
}

// expressionProblem says what is wrong with an expression of bounded length.
func expressionProblem(expr string) (detail, remedy string) {
	if expr == "" {
		return "is empty", "give an expression"
	}
	if detail, remedy := tokenProblem(expr); detail != "" {
		return detail, remedy
	}
	parsed, err := syntax.Parse(TrimAnchors(expr), syntax.Perl)
	if err != nil {
		return "is not a regular expression: " + strings.TrimPrefix(err.Error(), "error parsing regexp: "), "use RE2 syntax"
	}
	if hasAnchor(parsed) {
		return "holds an anchor inside", `remove ^, $, \A and \z: the whole value is compared`
	}
	if programSize(parsed) > maxExpressionSize {
		return "is too complex for a proxy", "repeat less: x{100} costs as much as x written a hundred times"
	}
	return "", ""
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
	inClass := false
	for i := 0; i < len(expr); i++ {
		switch b := expr[i]; {
		case b < 0x20 || b >= 0x7f:
			return "holds a control or non-ASCII character", `use ASCII; requests have other characters as escapes, for example %C3%A9`
		case b == '\\':
			if i+1 == len(expr) {
				return "ends with a backslash", `write \\ for a backslash`
			}
			i++
			if detail, remedy := escapedProblem(expr[i:]); detail != "" {
				return detail, remedy
			}
		case inClass:
			inClass = b != ']'
			if strings.HasPrefix(expr[i:], "[:") {
				if end := strings.Index(expr[i+2:], ":]"); end >= 0 {
					i += 2 + end + 1
				}
			}
		case b == '[':
			inClass = true
			i += classOpening(expr[i+1:])
		case b == '(' && strings.HasPrefix(expr[i+1:], "?") && !strings.HasPrefix(expr[i+1:], "?:") && !(i == 0 && strings.HasPrefix(expr, "(?i)")):
			return "holds a group with a flag or a name", "use (?:...), and (?i) at the very beginning only"
		}
	}
	return "", ""
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
	for _, sub := range re.Sub {
		if hasAnchor(sub) {
			return true
		}
	}
	return false
}

// programSize bounds from above the size of RE2's program for an expression and for the same with one character taken out of each of its classes,
// which the translation does (for the ? of a path and the comma of a header). Envoy's RE2 compares bytes: a class costs an instruction for each
// of its ranges below 256. It stops growing at the limit, so that repetitions of repetitions cannot overflow.
func programSize(re *syntax.Regexp) int {
	const fixed = 6
	return min(fixed+size(re), 2*maxProgram)
}

func size(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n = min(n+size(sub), 2*maxProgram)
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
	case syntax.OpCapture, syntax.OpStar, syntax.OpPlus, syntax.OpQuest:
		n += 2
	case syntax.OpRepeat:
		n = (n + 2) * max(re.Min, re.Max, 1)
	default: // an empty match, a word boundary
		n++
	}
	return min(n, 2*maxProgram)
}
