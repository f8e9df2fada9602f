package rbac

import (
	"strings"
	"unicode/utf8"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// pattern is one alternative of a dimension: what it says of the dimension's input, and what an index may know of it. Every value that satisfies the predicate
// begins with one of the keys, unless the dimension's odd predicate holds of it; without keys the index cannot hold it.
type pattern struct {
	expr      expr      // which says it all
	predicate predicate // which says it all, where there is no such expression or something smaller says the same
	keys      []string
	values    []string // what it compares with, for a radix; none where that cannot be listed
	suffix    string   // what every value ends with, backwards, for a radix
}

// says is false of what says nothing: there is no such alternative.
func (p *pattern) says() bool { return p.predicate != nil || p.expr.text != "" }

// alone is the predicate of a pattern, if nothing else is said of the input.
func (p *pattern) alone(input extension) predicate {
	if p.predicate != nil {
		return p.predicate
	}
	return where(input, regex(p.expr.text))
}

// Parts of generated path expressions. The input is the path with its query; an expression says where the path ends.
const (
	anyQuery = `(?:\?\C*)?`
	// hasParameters finds ";" in the path, escaped too: some applications decode first. They differ in what they make of it.
	hasParameters = `[^?]*(?:;|%3[bB])\C*`
	// oddPath is a path whose segments are not simply what stands between its slashes.
	oddPath = `[^?]*(?:;|%3[bB]|//|\\)\C*`
	// separator stands before a segment: a slash, and after it empty segments, which may have parameters.
	separator = `/(?:` + parameters + `/)*`
	// trailer stands after the last segment.
	trailer = `(?:/` + parameters + `)*`
	// parameters may follow a segment.
	parameters = `(?:(?:;|%3[bB])[^/?]*)?`

	separatorProgram, parametersProgram = 16, 13
)

// allowedPath compares literally: whoever is let through must be so by every reading of the path.
func (in *inputs) allowedPath(m model.PathMatch) (pattern, error) {
	switch {
	case !knownPathType(m.Type):
		return pattern{}, errUnknownType
	case m.Type != model.Regex && (!validText(m.Value) || strings.ContainsAny(m.Value, "?#")):
		return pattern{}, errNotText // a query or fragment is no part of a path, and would be compared as one
	case m.Type == model.Regex:
		r, err := rewrite(m.Value, model.Allow, '?')
		if err == nil && r.program+8 > maxProgram {
			err = errTooLarge
		}
		if err != nil || r.never {
			return pattern{}, err
		}
		matches := where(in.path, regex("(?:"+r.text+")"+anyQuery))
		return pattern{predicate: allOf(matches, not(where(in.path, regex(hasParameters)))), keys: keysOf(r.literal)}, nil
	}
	return in.literalPath(m), nil
}

// literalPath is one expression where Envoy takes it: an input weighs more in a message than what it is compared with.
func (in *inputs) literalPath(m model.PathMatch) pattern {
	const tailProgram = 8
	out := pattern{keys: keysOf(m.Value), expr: expr{text: quote(m.Value), program: len(m.Value) + tailProgram}}
	tooLarge := out.expr.program > maxProgram
	switch {
	case strings.HasSuffix(m.Value, "/") && m.Type != model.Exact:
		out.expr.text += `\C*`
		out.predicate = where(in.path, startsWith(m.Value))
	case m.Type == model.Exact && tooLarge:
		out.predicate = anyOf(where(in.path, exactly(m.Value)), where(in.path, startsWith(m.Value+"?")))
	case m.Type == model.Exact:
		out.expr.text += anyQuery
	case tooLarge:
		out.predicate = anyOf(where(in.path, exactly(m.Value)), where(in.path, startsWith(m.Value+"/")), where(in.path, startsWith(m.Value+"?")))
	default:
		out.expr.text += `(?:[/?]\C*)?`
	}
	if tooLarge {
		out.expr = expr{}
	}
	return out
}

func knownPathType(t model.MatchType) bool {
	return t == model.Exact || t == model.Prefix || t == model.Regex
}

// deniedPath compares with everything that an application may make of the path: parameters dropped, empty segments skipped, escapes decoded.
// The returned error tells that the predicate holds more widely than it should.
func (in *inputs) deniedPath(m model.PathMatch) (pattern, error) {
	if !knownPathType(m.Type) {
		return pattern{}, errUnknownType
	}
	if m.Type == model.Regex {
		r, err := rewrite(m.Value, model.Deny, '?')
		if err == nil && r.program+8 > maxProgram {
			err = errTooLarge
		}
		if err != nil {
			return pattern{}, err
		}
		withParameters := where(in.path, regex(hasParameters))
		if r.never {
			return pattern{predicate: withParameters, keys: []string{"/"}}, nil
		}
		return pattern{predicate: anyOf(where(in.path, regex("(?:"+r.text+")"+anyQuery)), withParameters), keys: keysOf(r.literal)}, nil
	}
	segments := decodedSegments(m.Value)
	if len(segments) == 0 && m.Type == model.Prefix {
		return pattern{predicate: where(in.path, regex(`\C*`))}, nil
	}
	out := pattern{keys: deniedKey(segments), values: []string{segmentEnd + strings.Join(segments, segmentEnd)}}
	text, complete := deniedSegments(segments)
	switch {
	case !complete:
		text += `\C*`
	case len(segments) == 0:
		text += "/" + parameters + trailer + anyQuery
	case m.Type == model.Prefix:
		text += `(?:[/?]\C*)?`
	default:
		text += trailer + anyQuery
	}
	if !complete {
		out.predicate = where(in.path, regex(text))
		return out, errTooLarge
	}
	out.expr = expr{text: text, program: len(text)} // each part of it is written longer than its program
	return out, nil
}

// deniedSegments is the expression of a path's segments, with as many bytes of them as Envoy takes.
func deniedSegments(segments []string) (expr string, complete bool) {
	const tail = 2*separatorProgram + 20
	program := 0
	var b strings.Builder
	for _, s := range segments {
		b.WriteString(separator)
		program += separatorProgram
		for _, c := range []byte(s) {
			if program += byteProgram(c); program+tail > maxProgram {
				return b.String(), false
			}
			b.WriteString(deniedByte(c))
		}
		b.WriteString(parameters)
		program += parametersProgram
	}
	return b.String(), true
}

// unreserved bytes are never escaped where RBAC looks: path normalization has decoded them (RFC 3986 section 2.3).
func unreserved(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' || c == '_' || c == '~'
}

func byteProgram(c byte) int {
	const escaped = 8
	if unreserved(c) {
		return 1
	}
	return escaped
}

// deniedByte matches a byte of a segment as it is or escaped, in hex digits of either case. A raw "?" would begin the query.
func deniedByte(c byte) string {
	if unreserved(c) {
		return quoteByte(c)
	}
	escape := "%" + hexDigit(c>>4) + hexDigit(c&0xf)
	if c == '?' {
		return escape
	}
	return "(?:" + quoteByte(c) + "|" + escape + ")"
}

func hexDigit(n byte) string {
	const digits = "0123456789ABCDEF"
	if n < 10 {
		return digits[n : n+1]
	}
	return "[" + digits[n:n+1] + strings.ToLower(digits[n:n+1]) + "]"
}

// decodedSegments are a literal's segments without parameters and empty ones, each escape decoded once.
func decodedSegments(path string) []string {
	var out []string
	for s := range strings.SplitSeq(path, "/") {
		if s, _, _ = strings.Cut(unescape(s), ";"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) int { return strings.IndexByte("0123456789abcdef", c|lowerBit(c)) }

// lowerBit turns A-Z into a-z and leaves every other byte alone.
func lowerBit(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return 'a' - 'A'
	}
	return 0
}

// deniedKey is what a path that is not odd and matches must begin with: the literal up to the first byte that may be spelt in two ways.
func deniedKey(segments []string) []string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		for _, c := range []byte(s) {
			if !unreserved(c) {
				return keysOf(b.String())
			}
			b.WriteByte(c)
		}
	}
	if len(segments) == 0 {
		return []string{"/"}
	}
	return keysOf(b.String())
}

func keysOf(literal string) []string {
	if literal == "" {
		return nil
	}
	return []string{literal}
}

// validText says whether a string can stand in a message and in a request.
func validText(s string) bool { return utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\r\n") }
