package hcm

import (
	"slices"
	"strings"
)

// unescapeSlashes decodes the escapes of both slashes in a path, once, and says whether there were any.
func unescapeSlashes(target string) (string, bool) {
	path, query := cutQuery(target)
	out := strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`).Replace(path)
	return out + query, out != path
}

// cutQuery returns a target's path, and its query with the question mark.
func cutQuery(target string) (path, query string) {
	if i := strings.IndexByte(target, '?'); i >= 0 {
		return target[:i], target[i:]
	}
	return target, ""
}

// mergeSlashes makes one of slashes that follow one another; of a path of slashes alone it makes two.
func mergeSlashes(target string) string {
	path, query := cutQuery(target)
	if !strings.Contains(path, "//") {
		return target
	}
	inner := strings.Join(slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" }), "/")
	if strings.HasPrefix(path, "/") {
		inner = "/" + inner
	}
	if strings.HasSuffix(path, "/") {
		inner += "/"
	}
	return inner + query
}

// normalizePath removes dot segments, decodes what is never reserved, and escapes what no path holds, as RFC 3986 has it in section 6.2.2 and browsers do: a backslash is a slash. The
// path is refused where it holds an escaped NUL.
func normalizePath(target string) (string, bool) {
	path, query := cutQuery(target)
	n := normalizer{in: plainDots(path), invalid: -1, sound: true}
	if path == "" || path[0] != '/' && path[0] != '\\' {
		n.out = append(n.out, '/')
	}
	for n.at < len(n.in) {
		n.step()
	}
	return string(n.out) + query, n.sound
}

// plainDots takes the parameters off dot segments, where the dots are not escaped: without them they are dot segments.
func plainDots(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if name, _, _ := strings.Cut(s, ";"); name == "." || name == ".." {
			segments[i] = name
		}
	}
	return strings.Join(segments, "/")
}

type normalizer struct {
	in      string
	at      int
	out     []byte
	invalid int // where in out the last percent sign stands that begins no escape; -1: none
	sound   bool
}

func (n *normalizer) step() {
	c := n.in[n.at]
	if dot := dotAt(n.in, n.at); dot > 0 {
		n.dot(dot)
		return
	}
	n.at++
	switch {
	case c == '\\':
		n.out = append(n.out, '/')
	case c == '%':
		n.escape()
	case strings.IndexByte("\"#<>?^`{|}", c) >= 0, c <= ' ', c >= 0x7f:
		const digits = "0123456789ABCDEF"
		n.out = append(n.out, '%', digits[c>>4], digits[c&0xf])
	default:
		n.out = append(n.out, c)
	}
}

// dotAt is the length of a dot, plain or escaped, or 0.
func dotAt(s string, i int) int {
	switch {
	case i < len(s) && s[i] == '.':
		return 1
	case i+2 < len(s) && s[i] == '%' && s[i+1] == '2' && s[i+2]|0x20 == 'e':
		return 3
	}
	return 0
}

// dot reads a dot of the given length: part of a name, or a segment of one or two dots.
func (n *normalizer) dot(length int) {
	if len(n.out) == 0 || n.out[len(n.out)-1] != '/' {
		n.out = append(n.out, '.')
		n.at += length
		return
	}
	after := n.at + length
	if end, ok := segmentEnd(n.in, after); ok {
		n.at = end
		return
	}
	if second := dotAt(n.in, after); second > 0 {
		if end, ok := segmentEnd(n.in, after+second); ok {
			n.at = end
			n.up()
			return
		}
	}
	n.out = append(n.out, '.')
	n.at = after
}

// segmentEnd says whether a segment ends at a place, and where the next begins.
func segmentEnd(s string, i int) (int, bool) {
	switch {
	case i == len(s):
		return i, true
	case s[i] == '/' || s[i] == '\\':
		return i + 1, true
	}
	return 0, false
}

// up removes the last segment, whose slash stays.
func (n *normalizer) up() {
	i := len(n.out) - 1
	if i == 0 {
		return
	}
	for i--; n.out[i] != '/' && i > 0; i-- {
	}
	n.out = n.out[:i+1]
	if n.invalid >= len(n.out) {
		n.invalid = -1
	}
}

// escape reads what follows a percent sign.
func (n *normalizer) escape() {
	value, ok := hex(n.in, n.at)
	switch {
	case !ok:
		n.invalid = len(n.out)
		n.out = append(n.out, '%')
	case unreserved(value):
		n.at += 2
		n.out = append(n.out, value)
		if n.invalid >= 0 && n.invalid >= len(n.out)-3 {
			n.nested()
		}
	default:
		n.out = append(n.out, n.in[n.at-1:n.at+2]...)
		n.at += 2
		n.sound = n.sound && value != 0
	}
}

// nested escapes a percent sign that would begin an escape only now, since what followed it was decoded.
func (n *normalizer) nested() {
	last := n.out[len(n.out)-1]
	next := n.invalid == len(n.out)-2 // one more byte could complete it
	if next {
		if n.at == len(n.in) {
			return
		}
		n.out = append(n.out, n.in[n.at])
	}
	if _, ok := hex(string(n.out), n.invalid+1); ok {
		if !next {
			n.out = append(n.out, n.out[n.invalid+1])
		}
		n.out[n.invalid+1], n.out[n.invalid+2] = '2', '5'
		n.out = append(n.out, last)
	} else if next {
		n.out = n.out[:len(n.out)-1]
	}
}

// hex reads two digits.
func hex(s string, i int) (byte, bool) {
	if i+1 >= len(s) {
		return 0, false
	}
	hi, lo := digit(s[i]), digit(s[i+1])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

func digit(c byte) int {
	if c >= 'A' && c <= 'F' {
		c += 'a' - 'A'
	}
	return strings.IndexByte("0123456789abcdef", c)
}

// unreserved bytes mean the same escaped and not.
func unreserved(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._~", c) >= 0
}
