package hcm

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// ServedMethods are those that Envoy's parser of HTTP/1 knows.
func ServedMethods() []string {
	return strings.Fields("GET HEAD POST PUT DELETE OPTIONS TRACE PATCH COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE " +
		"NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK SOURCE QUERY")
}

const (
	letters     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	tokens      = letters + "!#$%&'*+-.^_`|~"      // RFC 9110 section 5.6.2
	authorities = letters + "!$%&'()*+,-.:;=@[]_~" // RFC 3986 section 3.2
)

func bad(reason string) *Refusal { return &Refusal{statusBad, reason} }

// target reads the request line.
func target(r *model.HTTPRequest, secure bool) *Refusal {
	switch {
	case !slices.Contains(ServedMethods(), r.Method):
		return bad("the method is not one that Envoy serves")
	case r.Path == "" || strings.ContainsFunc(r.Path, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		return bad("the path holds what no path may")
	}
	if r.Path == "*" && r.Method == "OPTIONS" {
		return &Refusal{statusNotFound, "nobody serves *"}
	}
	if r.Path[0] != '/' {
		if refused := absolute(r, secure); refused != nil {
			return refused
		}
	}
	switch {
	case strings.Trim(r.Host, authorities) != "":
		return bad("the host holds what no host may")
	case r.Path[0] != '/':
		return &Refusal{statusNotFound, "the path does not begin with a slash"}
	case strings.Contains(r.Path, "#"):
		return bad("the path holds a fragment")
	}
	return nil
}

// absolute reads a target that names the host itself, which counts then.
func absolute(r *model.HTTPRequest, secure bool) *Refusal {
	scheme, rest, found := strings.Cut(r.Path, "://")
	switch {
	case !found:
		return bad("the path does not begin with a slash")
	case strings.EqualFold(scheme, "https") && !secure:
		return &Refusal{statusForbidden, "https, where there is no TLS"}
	case !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https"):
		return bad("the scheme is not one that Envoy serves")
	}
	r.Host, r.Path = rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		r.Host, r.Path = rest[:i], rest[i:]
	}
	r.Host = r.Host[strings.LastIndexByte(r.Host, '@')+1:]
	if r.Host == "" {
		return bad("the target names no host")
	}
	return nil
}

// lines checks the headers and takes those away that are about the connection.
func (m *Manager) lines(r, sent *model.HTTPRequest) *Refusal {
	for _, h := range sent.Headers {
		h = model.Header{Name: strings.ToLower(h.Name), Value: strings.Trim(h.Value, " \t")}
		switch {
		case h.Name == "" || strings.Trim(h.Name, tokens) != "":
			return bad("a header's name holds what no name may")
		case strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }):
			return bad("a header's value holds a control character")
		case strings.Contains(h.Name, "_") && m.underscores == corev3.HttpProtocolOptions_REJECT_REQUEST:
			return bad("a header's name holds an underscore")
		case strings.Contains(h.Name, "_") && m.underscores == corev3.HttpProtocolOptions_DROP_HEADER:
			continue
		}
		if i := slices.IndexFunc(r.Headers, func(x model.Header) bool { return x.Name == h.Name }); i >= 0 && slices.Contains(singleLine(), h.Name) {
			both := slices.DeleteFunc([]string{r.Headers[i].Value, h.Value}, func(v string) bool { return v == "" })
			r.Headers[i].Value = strings.Join(both, ",")
			continue
		}
		r.Headers = append(r.Headers, h)
	}
	if kind, _ := first(r, "content-type"); r.Method == "QUERY" && kind == "" {
		return bad("QUERY without content-type")
	}
	return connection(r, !strings.HasPrefix(sent.Path, "/"))
}

// singleLine are the headers whose lines Envoy joins with commas before anybody looks: to conditions on any of a header's values they are one value.
func singleLine() []string {
	return strings.Fields("accept accept-encoding access-control-request-headers access-control-request-method authorization cache-control connection content-encoding content-type " +
		"expect grpc-accept-encoding grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma proxy-status referer te upgrade user-agent via " +
		"x-client-trace-id x-envoy-attempt-count x-envoy-is-timeout-retry x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-request-id")
}

// connection takes away what the header Connection names, and the headers that are about the connection alone. A request for another protocol keeps most of them.
func connection(r *model.HTTPRequest, isAbsolute bool) *Refusal {
	value, _ := first(r, "connection")
	names := strings.Split(strings.ToLower(value), ",")
	for i := range names {
		names[i] = strings.Trim(names[i], " \t")
	}
	protocol, _ := first(r, "upgrade")
	// An upgrade to HTTP/2 without TLS is what no client that could use it asks for: Envoy ignores it.
	upgrade := slices.Contains(names, "upgrade") && protocol != "" && protocol != "h2c"
	if !upgrade {
		if refused := nominated(names, isAbsolute); refused != nil {
			return refused
		}
	}
	r.Headers = slices.DeleteFunc(r.Headers, func(h model.Header) bool {
		switch h.Name {
		case "connection", "upgrade":
			return !upgrade
		case "keep-alive", "proxy-connection", "transfer-encoding":
			return true
		case "te":
			return !upgrade && !acceptsTrailers(h.Value, slices.Contains(names, "te"))
		case "referer":
			return !soundReferer(h.Value)
		}
		return !upgrade && slices.Contains(names, h.Name)
	})
	if _, kept := first(r, "te"); kept && !upgrade {
		set(r, "te", "trailers")
	}
	return nil
}

// nominated refuses names that would take away what others count on. A host that the target names does not need the header.
func nominated(names []string, isAbsolute bool) *Refusal {
	const limit = 9
	if len(names) > limit {
		return bad("the header Connection names too many headers")
	}
	for _, name := range names {
		switch {
		case name == "host" && !isAbsolute, strings.HasPrefix(name, ":"), name == "x-forwarded-for", name == "x-forwarded-host", name == "x-forwarded-proto":
			return bad("the header Connection names " + name)
		}
	}
	return nil
}

// acceptsTrailers: of what a client takes, trailers alone are about the message.
func acceptsTrailers(te string, anyCase bool) bool {
	for t := range strings.SplitSeq(te, ",") {
		if t = strings.Trim(t, " \t"); t == "trailers" || anyCase && strings.EqualFold(t, "trailers") {
			return true
		}
	}
	return false
}

// soundReferer says whether Envoy takes a value for a URL, absolute or relative; else it removes the header.
func soundReferer(s string) bool {
	if strings.Contains(s, "://") {
		sound, _ := regexp.MatchString(`^[a-zA-Z][a-zA-Z0-9+.-]*://([a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?([/?][!-~]*)?$`, s)
		return sound
	}
	segment, _, _ := strings.Cut(s, "/")
	return !strings.Contains(segment, ":") && strings.Trim(s, letters+"!$%&'()*+,-./:;=?@_~") == ""
}

// first is the first value of a header.
func first(r *model.HTTPRequest, name string) (string, bool) {
	for _, h := range r.Headers {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

// set makes a header's only value.
func set(r *model.HTTPRequest, name, value string) {
	remove(r, name)
	r.Headers = append(r.Headers, model.Header{Name: name, Value: value})
}

func remove(r *model.HTTPRequest, name string) {
	r.Headers = slices.DeleteFunc(r.Headers, func(h model.Header) bool { return h.Name == name })
}

// distrust takes away what callers from outside cannot tell, and adds what Envoy knows of them.
func distrust(r *model.HTTPRequest, source netip.Addr, secure bool) {
	for _, name := range []string{
		"x-forwarded-client-cert", "x-envoy-internal", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster", "x-envoy-downstream-service-node",
		"x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes", "x-envoy-retriable-header-names",
		"x-envoy-hedge-on-per-try-timeout", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-upstream-rq-timeout-alt-response", "x-envoy-expected-rq-timeout-ms", "x-envoy-force-trace", "x-envoy-ip-tags",
		"x-envoy-original-url", "x-envoy-original-path", "x-envoy-original-host",
	} {
		remove(r, name)
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	set(r, "x-forwarded-proto", scheme)
	set(r, "x-envoy-external-address", source.Unmap().WithZone("").String())
}
