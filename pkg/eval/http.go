package eval

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// reading is how a doubtful request is read: an Allow must hold for every reading of it, a Deny for any.
type reading string

const (
	allowReading reading = "allow"
	denyReading  reading = "deny"
)

func (rd reading) matches(m *model.HTTPMatch, r *model.HTTPRequest) bool {
	return rd.host(m.Hosts, r.Host) && rd.method(m.Methods, r.Method) && rd.path(m.Paths, r.Path) && rd.headers(m.Headers, r.Headers)
}

func (rd reading) host(hosts []model.Host, authority string) bool {
	if hosts == nil {
		return true
	}
	name := hostName(authority)
	return slices.ContainsFunc(hosts, func(h model.Host) bool {
		if h.Wildcard {
			return len(name) > len(h.Name)+1 && strings.HasSuffix(name, "."+lower(h.Name))
		}
		return name == lower(h.Name) || slices.ContainsFunc(h.Aliases, func(a string) bool { return name == lower(a) })
	})
}

// hostName takes one port and one trailing dot off an authority, and its case.
func hostName(authority string) string {
	name := lower(authority)
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.Contains(name[i:], "]") && strings.Trim(name[i+1:], "0123456789") == "" {
		name = name[:i]
	}
	return strings.TrimSuffix(name, ".")
}

func (rd reading) method(methods []string, method string) bool {
	if methods == nil {
		return true
	}
	if rd == denyReading {
		return slices.ContainsFunc(methods, func(m string) bool { return strings.EqualFold(m, method) })
	}
	return slices.Contains(methods, method)
}

func (rd reading) path(paths []model.PathMatch, target string) bool {
	if paths == nil {
		return true
	}
	path, _, _ := strings.Cut(target, "?")
	return slices.ContainsFunc(paths, func(m model.PathMatch) bool {
		switch {
		case m.Type == model.Regex && rd == denyReading:
			return hasParameters(path) || fullMatch(m.Value, path)
		case m.Type == model.Regex:
			return !hasParameters(path) && fullMatch(m.Value, path)
		case rd == denyReading:
			return denyPath(m, path)
		case m.Type == model.Exact:
			return path == m.Value
		}
		return strings.HasPrefix(path, m.Value) && (strings.HasSuffix(m.Value, "/") || len(path) == len(m.Value) || path[len(m.Value)] == '/')
	})
}

// hasParameters says whether a path may have parameters of segments: some applications find them in the decoded path.
func hasParameters(path string) bool {
	return strings.Contains(path, ";") || strings.Contains(lower(path), "%3b")
}

// denyPath compares segment by segment, without ";params", empty segments and percent-escapes: what any application may make of the path.
func denyPath(m model.PathMatch, path string) bool {
	want, got := segments(m.Value), segments(path)
	if m.Type == model.Prefix && len(got) > len(want) {
		got = got[:len(want)]
	}
	return slices.Equal(want, got)
}

func segments(path string) []string {
	var out []string
	for s := range strings.SplitSeq(path, "/") {
		if s, _, _ = strings.Cut(unescape(s), ";"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// unescape decodes every well-formed percent-escape, once.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b.WriteByte(fromHex(s[i+1])<<4 | fromHex(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func fromHex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// fullMatch: an expression that does not compile was refused long before; here it matches nothing.
func fullMatch(expr, s string) bool {
	flags := ""
	if rest, found := strings.CutPrefix(expr, "(?i)"); found {
		flags, expr = "(?i)", rest
	}
	re, err := regexp.Compile(flags + `\A(?:` + expr + `)\z`)
	return err == nil && re.MatchString(byteByByte(s))
}

// byteByByte has each byte be a character: Envoy's engine matches bytes, and a header's value need not be UTF-8. Expressions are ASCII, so they mean no other character.
func byteByByte(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return s
	}
	out := make([]rune, 0, len(s))
	for i := range len(s) {
		out = append(out, rune(s[i]))
	}
	return string(out)
}

func (rd reading) headers(matches []model.HeaderMatch, headers []model.Header) bool {
	for _, m := range matches {
		if !rd.header(m, headers) {
			return false
		}
	}
	return true
}

// header: the lines of one header are one list, as RFC 9110 section 5.3 has it. The negations of one reading are the other reading's positives.
func (rd reading) header(m model.HeaderMatch, headers []model.Header) bool {
	var lines []string
	for _, h := range headers {
		if lower(h.Name) == lower(m.Name) {
			lines = append(lines, h.Value)
		}
	}
	present, joined := len(lines) > 0, strings.Join(lines, ",")
	switch m.Type {
	case model.Present:
		return present
	case model.Absent:
		return !present
	case model.NotExact, model.NotRegex:
		if !present {
			return true
		}
		if rd == denyReading {
			return !everyElement(m, joined)
		}
		return utf8.ValidString(joined) && !anyElement(m, joined, separators(m.Name))
	case model.Exact, model.Regex, model.Prefix:
		if rd == denyReading {
			return present && anyElement(m, joined, separators(m.Name))
		}
		return present && everyElement(m, joined)
	}
	return rd == denyReading
}

// everyElement: an exact value is compared with the whole list, so that a repeated header never passes for a single one.
func everyElement(m model.HeaderMatch, joined string) bool {
	if m.Type == model.Exact || m.Type == model.NotExact {
		return joined == m.Value
	}
	for e := range strings.SplitSeq(joined, ",") {
		if !fullMatch(m.Value, strings.Trim(e, " \t")) {
			return false
		}
	}
	return true
}

// separators stand between the values of a header. A cookie's pairs may each come in a line of their own over HTTP/2, and the sidecar joins them with "; ".
func separators(name string) string {
	if lower(name) == "cookie" {
		return ",;"
	}
	return ","
}

// anyElement says whether any run of the list's elements, written as one value, satisfies the match.
func anyElement(m model.HeaderMatch, joined, separators string) bool {
	var begins, ends []int
	begins = append(begins, 0)
	for i := range len(joined) {
		if strings.IndexByte(separators, joined[i]) >= 0 {
			begins, ends = append(begins, i+1), append(ends, i)
		}
	}
	ends = append(ends, len(joined))
	for i := range begins {
		for _, end := range ends[i:] {
			run := strings.Trim(joined[begins[i]:end], " \t")
			if m.Type == model.Exact || m.Type == model.NotExact {
				if run == m.Value {
					return true
				}
			} else if fullMatch(m.Value, run) {
				return true
			}
		}
	}
	return false
}
