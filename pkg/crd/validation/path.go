package validation

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pathProblem says why a literal path could never match, and what to write instead. Requests are compared after Envoy normalized their path: no
// empty or dot segments, no escapes of characters that need none, no query, and no reading that differs from one application to the next.
func pathProblem(path string) (detail, remedy string) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "does not begin with a slash", "begin with /"
	case strings.Contains(path, "//"):
		return "holds an empty segment, and requests have none", "write one slash"
	case strings.Contains(path, "?"):
		return "holds a query, which is not compared", "end the path before the ?"
	case strings.Contains(path, "#"):
		return "holds a fragment, which no request sends", "end the path before the #"
	case strings.Contains(path, ";"):
		return "holds path parameters, which are not compared", "leave out each ; and what follows in its segment"
	case strings.Contains(path, `\`):
		return "holds a backslash, which requests have as a slash", "write a slash"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "holds a dot segment, and requests have none", "write the path that it leads to"
		}
	}
	for i := range len(path) {
		switch b := path[i]; {
		case b == '%':
			if detail, remedy := escapeProblem(path[i+1:]); detail != "" {
				return detail, remedy
			}
		case b <= 0x20 || b >= 0x7f || strings.IndexByte("\"<>^`{|}", b) >= 0:
			return "holds a character that requests have as an escape", escapeRemedy(path[i:])
		}
	}
	if decoded, err := url.PathUnescape(path); err != nil || !utf8.ValidString(decoded) {
		return "holds escapes that are not UTF-8, which are refused in every request", "write characters as their bytes in UTF-8, for example %C3%A9"
	}
	return "", ""
}

// escapeRemedy says how the character at the front of a path is written. Braces stand around names in the templates of other programs, whose authors do not mean them.
func escapeRemedy(path string) string {
	_, size := utf8.DecodeRuneInString(path)
	escape := fmt.Sprintf("% X", path[:size])
	escape = "%" + strings.ReplaceAll(escape, " ", "%")
	if path[0] == '{' {
		return "for any segment, use a RegularExpression with [^/]+; for a brace, write " + escape
	}
	return "write " + escape
}

// escapeProblem looks at what follows a percent sign.
func escapeProblem(s string) (detail, remedy string) {
	if len(s) < 2 {
		return "holds a percent sign without two hexadecimal digits", "write %25 for a percent sign"
	}
	value, err := strconv.ParseUint(s[:2], 16, 8)
	if err != nil {
		return "holds a percent sign without two hexadecimal digits", "write %25 for a percent sign"
	}
	switch b := byte(value); {
	case isLetterOrDigit(b) || strings.IndexByte("-._~", b) >= 0:
		return "escapes a character that requests have as itself", "write " + string(rune(b)) + " for %" + s[:2]
	case b < 0x20 || b == 0x7f:
		return "holds an escape that is refused in every request", "remove %" + s[:2]
	case b == '/' || b == '\\' || b == ';':
		return "holds an escape that applications read in different ways", "remove %" + s[:2]
	case b == '%' && len(s) >= 4 && strings.Contains(" 2e 2f 5c 3b 00 ", " "+strings.ToLower(s[2:4])+" "):
		return "holds an escape of an escape, which is refused in every request", "remove %" + s[:4]
	}
	return "", ""
}

// denyPathSize bounds the size of the program that Envoy runs for a literal path of a Deny, which is an expression: it allows for empty segments,
// path parameters and escapes of reserved characters, whatever the application makes of them.
func denyPathSize(path string) int {
	const fixed, perSegment, perReserved = 40, 38, 8
	size := fixed + len(path)
	for i := range len(path) {
		switch b := path[i]; {
		case b == '/':
			size += perSegment
		case !isLetterOrDigit(b) && strings.IndexByte("-._~", b) < 0:
			size += perReserved
		}
	}
	return size
}
