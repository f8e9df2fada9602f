package eval

import (
	"strings"
	"unicode/utf8"
)

// ambiguousPath says whether applications may read a path in more than one way, whatever the policies: bytes that are not UTF-8 once they are
// decoded, overlong forms among them, an escaped control character, an escape of an escape that yields a dot, a slash, a backslash, a semicolon or a
// NUL, a malformed escape, or a dot segment hidden behind path parameters ("/..;").
func ambiguousPath(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	if !utf8.ValidString(unescape(path)) {
		return true
	}
	for i := range len(path) {
		switch path[i] {
		case '%':
			if ambiguousEscape(path[i+1:]) {
				return true
			}
		case '/':
			rest := strings.TrimPrefix(path[i+1:], ".")
			if rest == path[i+1:] {
				continue
			}
			for _, r := range []string{rest, strings.TrimPrefix(rest, ".")} {
				if strings.HasPrefix(r, ";") || strings.HasPrefix(lower(r), "%3b") {
					return true
				}
			}
		}
	}
	return false
}

// ambiguousEscape looks at what follows a percent sign.
func ambiguousEscape(s string) bool {
	if len(s) < 2 || !isHex(s[0]) || !isHex(s[1]) {
		return true
	}
	b := fromHex(s[0])<<4 | fromHex(s[1])
	switch {
	case b < 0x20, b == 0x7f:
		return true
	case b == '%' && len(s) >= 4:
		switch lower(s[2:4]) {
		case "2e", "2f", "5c", "3b", "00":
			return true
		}
	}
	return false
}

// wellFormedAuthority says whether an authority is one host name or bracketed address with at most one trailing dot and one port.
func wellFormedAuthority(authority string) bool {
	host := lower(authority)
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.Contains(host[i:], "]") {
		port := host[i+1:]
		if len(port) == 0 || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return false
		}
		host = host[:i]
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		return closed && inner != "" && strings.Trim(inner, "0123456789abcdef:.") == ""
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return false
		}
	}
	return true
}
