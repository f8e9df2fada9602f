// Package graph is what bookinfo's parts ask of each other: every edge that the application needs, and beside each edge what must stay shut. The demo and the
// end to end test hold real sidecars and kernels against it. Entry points: Requests (what HTTP may be asked) and Connections (what may be connected).
package graph

import (
	"net/http"
	"slices"
)

// Request is a request to a workload, and who may send it: every edge of the graph that bookinfo needs, and beside each edge what must stay shut.
type Request struct {
	App     string // every workload with this app label is asked
	Port    uint16
	Method  string
	Path    string
	Header  http.Header
	Note    string   // what stands in the table beside method and path
	Callers []string // by name; Anybody, or nobody
	Allow   string   // the rule that allows
	Deny    string   // the rule or outcome that denies; "": the default deny
	TLS     bool
	TCP     bool // the sidecar knows bytes only on this port, and its log names no rule that allowed
}

// Anybody stands among a request's callers for everybody.
const Anybody = "*"

const (
	defaultDeny = "default-deny"

	pagesIn    = "bookinfo/ingress/pages"
	tlsIn      = "bookinfo/ingress/tls"
	pages      = "bookinfo/productpage/pages"
	detailsIn  = "bookinfo/details/productpage-reads"
	reviewsIn  = "bookinfo/reviews/productpage-reads"
	ratingsIn  = "bookinfo/ratings/reviews-read"
	ratingsPut = "bookinfo/ratings/productpage-writes"
	anonymous  = "bookinfo/ratings-no-anonymous-posts/anonymous"
	noDebug    = "bookinfo/no-debug/debug"
)

// Requests is the whole table.
func Requests() []Request {
	debug := http.Header{"X-Debug": {"1"}}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	jason := http.Header{"End-User": {"jason"}}
	everyone := []string{Anybody}
	fromIngress, fromPage, withStars := []string{"ingress"}, []string{"productpage-v1"}, []string{"reviews-v2", "reviews-v3"}
	return []Request{
		{App: "ingress", Port: 80, Method: "GET", Path: "/productpage", Callers: everyone, Allow: pagesIn},
		{App: "ingress", Port: 80, Method: "POST", Path: "/login", Header: form, Callers: everyone, Allow: pagesIn},
		{App: "ingress", Port: 80, Method: "DELETE", Path: "/productpage"},
		{App: "ingress", Port: 80, Method: "GET", Path: "/admin"},
		{App: "ingress", Port: 80, Method: "GET", Path: "/productpage", Header: debug, Note: "x-debug", Deny: noDebug},
		{App: "ingress", Port: 443, Method: "GET", Path: "/productpage", Note: "TLS", TLS: true, TCP: true, Callers: everyone, Allow: tlsIn},
		{App: "ingress", Port: 8001, Method: "GET", Path: "/", Note: "admin port", TCP: true},

		{App: "productpage", Port: 9080, Method: "GET", Path: "/productpage", Callers: fromIngress, Allow: pages},
		{App: "productpage", Port: 9080, Method: "POST", Path: "/login", Header: form, Callers: fromIngress, Allow: pages},
		{App: "productpage", Port: 9080, Method: "POST", Path: "/login", Note: "no form"},
		{App: "productpage", Port: 9080, Method: "PUT", Path: "/productpage"},
		{App: "productpage", Port: 9080, Method: "GET", Path: "/healthz"},
		{App: "productpage", Port: 9080, Method: "GET", Path: "/productpage", Header: debug, Note: "x-debug", Deny: noDebug},

		{App: "details", Port: 9080, Method: "GET", Path: "/details/0", Callers: fromPage, Allow: detailsIn},
		{App: "details", Port: 9080, Method: "POST", Path: "/details/0"},
		{App: "details", Port: 9080, Method: "GET", Path: "/detailsandmore"},
		{App: "details", Port: 9080, Method: "GET", Path: "/details/0", Header: debug, Note: "x-debug", Deny: noDebug},

		{App: "reviews", Port: 9080, Method: "GET", Path: "/reviews/0", Callers: fromPage, Allow: reviewsIn},
		{App: "reviews", Port: 9080, Method: "DELETE", Path: "/reviews/0"},
		{App: "reviews", Port: 9080, Method: "GET", Path: "/reviews/%2e%2e/healthz"},
		{App: "reviews", Port: 9080, Method: "GET", Path: "/reviews/0", Header: debug, Note: "x-debug", Deny: noDebug},

		{App: "ratings", Port: 9080, Method: "GET", Path: "/ratings/0", Callers: withStars, Allow: ratingsIn},
		{App: "ratings", Port: 9080, Method: "POST", Path: "/ratings/0", Header: jason, Note: "end-user", Callers: fromPage, Allow: ratingsPut},
		{App: "ratings", Port: 9080, Method: "POST", Path: "/ratings/0", Note: "no end-user", Deny: anonymous},
		{App: "ratings", Port: 9080, Method: "PUT", Path: "/ratings/0", Header: jason, Note: "end-user"},
		{App: "ratings", Port: 9080, Method: "GET", Path: "/ratingsandmore"},
		{App: "ratings", Port: 9080, Method: "GET", Path: "/ratings/0", Header: debug, Note: "x-debug", Deny: noDebug},
	}
}

// Verdict is allow or deny, and what decided.
type Verdict struct {
	Allowed bool
	Decider string // "": not told
}

func (v Verdict) String() string {
	if v.Allowed {
		return "allow"
	}
	return "deny"
}

// Expected is the verdict that a caller should get.
func (r *Request) Expected(caller string) Verdict {
	switch {
	case slices.Contains(r.Callers, Anybody), slices.Contains(r.Callers, caller):
		return Verdict{Allowed: true, Decider: r.Allow}
	case r.Deny != "":
		return Verdict{Decider: r.Deny}
	}
	return Verdict{Decider: defaultDeny}
}

// Body is what is sent along: JSON, or a form where the header says so.
func (r *Request) Body() string {
	switch {
	case r.Method != http.MethodPost:
		return ""
	case r.Header.Get("Content-Type") != "":
		return "user=jason"
	}
	return `{"stars":5}`
}

// String is method and path, and what else matters.
func (r *Request) String() string {
	s := r.Method + " " + r.Path
	if r.Note != "" {
		s += " (" + r.Note + ")"
	}
	return s
}

// Outsider is a caller that is none of bookinfo's parts.
const Outsider = "outsider"

// Connection is a caller, a callee and its port.
type Connection struct {
	From, To string
	Port     uint16
}

// Connections are those that the graph needs. Who may call the ingress at all is not bookinfo's business, and its own parts never do.
func Connections() map[Connection]bool {
	return map[Connection]bool{
		{Outsider, "ingress", 80}:              true,
		{Outsider, "ingress", 443}:             true,
		{"ingress", "productpage-v1", 9080}:    true,
		{"productpage-v1", "details-v1", 9080}: true,
		{"productpage-v1", "reviews-v1", 9080}: true,
		{"productpage-v1", "reviews-v2", 9080}: true,
		{"productpage-v1", "reviews-v3", 9080}: true,
		{"productpage-v1", "ratings-v1", 9080}: true,
		{"reviews-v2", "ratings-v1", 9080}:     true,
		{"reviews-v3", "ratings-v1", 9080}:     true,
	}
}
