package validation

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

func (c *checker) http(field string, matches []v1alpha1.HTTPMatch) {
	written(c, field, matches)
	if !c.fits(field, len(matches), maxHTTP) {
		return
	}
	for i := range matches {
		c.httpMatch(index(field, i), &matches[i])
	}
}

func (c *checker) httpMatch(field string, m *v1alpha1.HTTPMatch) {
	if m.Hosts == nil && m.Methods == nil && m.Paths == nil && m.Headers == nil {
		c.add(CheckHTTPEmpty, field, "name a host, method, path or header; for any request, use a path of type PathPrefix and value /", "the entry is empty")
		return
	}
	each(c, child(field, "hosts"), m.Hosts, c.host)
	each(c, child(field, "methods"), m.Methods, c.method)
	each(c, child(field, "paths"), m.Paths, c.path)
	each(c, child(field, "headers"), m.Headers, c.header)
}

// each checks the elements of a list within its limit.
func each[T any](c *checker, field string, list []T, check func(field string, v T)) {
	written(c, field, list)
	if !c.fits(field, len(list), maxEach) {
		return
	}
	for i, v := range list {
		check(index(field, i), v)
	}
}

func (c *checker) host(field, host string) {
	if !c.short(field, host, maxString) {
		return
	}
	name, wildcard := strings.CutPrefix(host, "*.")
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil {
		bracketed := strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]")
		plain := !strings.ContainsAny(name, "[]")
		if !wildcard && a.Zone() == "" && (plain || bracketed && a.Is6()) {
			return
		}
	}
	remedy := `use a name, "*." and a name, or an address`
	switch {
	case strings.Contains(host, ":"):
		remedy = "leave out the scheme and the port: ports go into the rule's ports"
	case strings.HasSuffix(host, ".") && host != "*.":
		remedy = "leave out the trailing dot: it is ignored in requests"
	case strings.Contains(name, "*"):
		remedy = `a wildcard stands for whole leading labels: "*." and a name`
	}
	for label := range strings.SplitSeq(name, ".") {
		word := onlyBytes(label, func(b byte) bool { return isLetterOrDigit(b) || b == '-' || b == '_' })
		if label == "" || !word || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			c.add(CheckHost, field, remedy, "%s is not a host", quote(host))
			return
		}
	}
	if _, err := netip.ParseAddr(name); wildcard && err == nil {
		c.add(CheckHost, field, remedy, "%s is not a host", quote(host))
	}
}

// isToken says whether s is a token of RFC 9110 section 5.6.2. The backtick is one there, and is refused: no method or header that anybody uses has it.
func isToken(s string) bool {
	return s != "" && onlyBytes(s, func(b byte) bool { return isLetterOrDigit(b) || strings.IndexByte("!#$%&'*+-.^_|~", b) >= 0 })
}

func (c *checker) method(field, method string) {
	if !c.short(field, method, maxMethod) {
		return
	}
	switch {
	case strings.Contains(method, "*"): // it could be part of one, and nobody who writes it means that
		c.add(CheckMethod, field, "for any method, leave the list out", "%s is not a method", quote(method))
	case !isToken(method) || method != strings.ToUpper(method):
		c.add(CheckMethod, field, "write the method in upper case, as GET", "%s is not a method", quote(method))
	}
}

func (c *checker) header(field string, h v1alpha1.HeaderMatch) {
	c.headerName(child(field, "name"), h.Name)
	value := child(field, "value")
	switch h.Type {
	case v1alpha1.HeaderPresent, v1alpha1.HeaderAbsent:
		if h.Value != "" {
			c.add(CheckHeaderValue, value, "remove the value, or use Exact or NotExact", "%s takes no value", h.Type)
		}
		return
	case "", v1alpha1.HeaderExact, v1alpha1.HeaderNotExact, v1alpha1.HeaderRegularExpression, v1alpha1.HeaderNotRegularExpression:
	default:
		c.add(CheckHeaderType, child(field, "type"), "use Exact, RegularExpression, Present, Absent, NotExact or NotRegularExpression",
			"%s is not a type", quote(string(h.Type)))
		return
	}
	switch {
	case h.Value == "":
		c.add(CheckHeaderValue, value, "give a value, or use Present or Absent", "the value is empty")
	case h.Type == v1alpha1.HeaderRegularExpression || h.Type == v1alpha1.HeaderNotRegularExpression:
		c.regularExpression(value, h.Value, c.headerExpressionProblem(h.Type))
	case !c.short(value, h.Value, maxString):
	case !onlyBytes(h.Value, func(b byte) bool { return b == '\t' || b >= 0x20 && b < 0x7f }):
		c.add(CheckHeaderValue, value, "use visible ASCII characters, spaces and tabs", "%s holds a control or non-ASCII character", quote(h.Value))
	case strings.Trim(h.Value, " \t") != h.Value:
		c.add(CheckHeaderValue, value, "remove it: no header value that is received begins or ends so", "%s begins or ends with white space", quote(h.Value))
	}
}

func (c *checker) headerName(field, name string) {
	switch {
	case !c.short(field, name, maxString):
	case strings.HasPrefix(name, ":"):
		c.add(CheckHeaderName, field, "use hosts, methods and paths", "%s is a pseudo-header", quote(name))
	case strings.EqualFold(name, "host"):
		c.add(CheckHeaderName, field, "use hosts, which ignores case, port and trailing dot", "Host is not compared as a header")
	case slices.Contains([]string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "x-envoy-external-address"}, strings.ToLower(name)):
		c.add(CheckHeaderName, field, "compare another header", "%s is between two hops: what the caller sends ends at the sidecar, which writes its own", quote(name))
	case !isToken(name):
		c.add(CheckHeaderName, field, "use letters, digits and dashes", "%s is not a header name", quote(name))
	}
}

func (c *checker) path(field string, p v1alpha1.PathMatch) {
	value := child(field, "value")
	if p.Type == v1alpha1.PathRegularExpression {
		c.regularExpression(value, p.Value, pathExpressionProblem)
		return
	}
	if !slices.Contains([]v1alpha1.PathMatchType{"", v1alpha1.PathExact, v1alpha1.PathPrefix}, p.Type) {
		c.add(CheckPathType, child(field, "type"), "use Exact, PathPrefix or RegularExpression", "%s is not a type", quote(string(p.Type)))
		return
	}
	if !c.short(value, p.Value, maxPath) {
		return
	}
	if detail, remedy := pathProblem(p.Value); detail != "" {
		c.add(CheckPath, value, remedy, "%s %s", quote(p.Value), detail)
		return
	}
	if c.deny && denyPathSize(p.Value) > maxProgram {
		c.add(CheckPathDenySize, value, "deny a shorter prefix of it", "%s has too many segments for a Deny", quote(p.Value))
	}
}
