package main

import (
	"net/http"
	"slices"
)

// request is a request to a workload, and who may send it: every edge of the graph that bookinfo needs, and beside each edge what must stay shut.
type request struct {
	app     string // every workload with this app label is asked
	port    uint16
	method  string
	path    string
	header  http.Header
	note    string   // what stands in the table beside method and path
	callers []string // by name; anybody, or nobody
	allow   string   // the rule that allows
	deny    string   // the rule or outcome that denies; "": the default deny
	tls     bool
	tcp     bool // the sidecar knows bytes only on this port, and its log names no rule that allowed
}

const (
	anybody     = "*"
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

// graph is the whole table.
func graph() []request {
	debug := http.Header{"X-Debug": {"1"}}
	form := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	jason := http.Header{"End-User": {"jason"}}
	everyone := []string{anybody}
	fromIngress, fromPage, withStars := []string{"ingress"}, []string{"productpage-v1"}, []string{"reviews-v2", "reviews-v3"}
	return []request{
		{app: "ingress", port: 80, method: "GET", path: "/productpage", callers: everyone, allow: pagesIn},
		{app: "ingress", port: 80, method: "POST", path: "/login", header: form, callers: everyone, allow: pagesIn},
		{app: "ingress", port: 80, method: "DELETE", path: "/productpage"},
		{app: "ingress", port: 80, method: "GET", path: "/admin"},
		{app: "ingress", port: 80, method: "GET", path: "/productpage", header: debug, note: "x-debug", deny: noDebug},
		{app: "ingress", port: 443, method: "GET", path: "/productpage", note: "TLS", tls: true, tcp: true, callers: everyone, allow: tlsIn},
		{app: "ingress", port: 8001, method: "GET", path: "/", note: "admin port", tcp: true},

		{app: "productpage", port: 9080, method: "GET", path: "/productpage", callers: fromIngress, allow: pages},
		{app: "productpage", port: 9080, method: "POST", path: "/login", header: form, callers: fromIngress, allow: pages},
		{app: "productpage", port: 9080, method: "POST", path: "/login", note: "no form"},
		{app: "productpage", port: 9080, method: "PUT", path: "/productpage"},
		{app: "productpage", port: 9080, method: "GET", path: "/healthz"},
		{app: "productpage", port: 9080, method: "GET", path: "/productpage", header: debug, note: "x-debug", deny: noDebug},

		{app: "details", port: 9080, method: "GET", path: "/details/0", callers: fromPage, allow: detailsIn},
		{app: "details", port: 9080, method: "POST", path: "/details/0"},
		{app: "details", port: 9080, method: "GET", path: "/detailsandmore"},
		{app: "details", port: 9080, method: "GET", path: "/details/0", header: debug, note: "x-debug", deny: noDebug},

		{app: "reviews", port: 9080, method: "GET", path: "/reviews/0", callers: fromPage, allow: reviewsIn},
		{app: "reviews", port: 9080, method: "DELETE", path: "/reviews/0"},
		{app: "reviews", port: 9080, method: "GET", path: "/reviews/%2e%2e/healthz"},
		{app: "reviews", port: 9080, method: "GET", path: "/reviews/0", header: debug, note: "x-debug", deny: noDebug},

		{app: "ratings", port: 9080, method: "GET", path: "/ratings/0", callers: withStars, allow: ratingsIn},
		{app: "ratings", port: 9080, method: "POST", path: "/ratings/0", header: jason, note: "end-user", callers: fromPage, allow: ratingsPut},
		{app: "ratings", port: 9080, method: "POST", path: "/ratings/0", note: "no end-user", deny: anonymous},
		{app: "ratings", port: 9080, method: "PUT", path: "/ratings/0", header: jason, note: "end-user"},
		{app: "ratings", port: 9080, method: "GET", path: "/ratingsandmore"},
		{app: "ratings", port: 9080, method: "GET", path: "/ratings/0", header: debug, note: "x-debug", deny: noDebug},
	}
}

// verdict is allow or deny, and what decided.
type verdict struct {
	allowed bool
	decider string // "": not told
}

func (v verdict) String() string {
	if v.allowed {
		return "allow"
	}
	return "deny"
}

// expected is the verdict that a caller should get.
func (r *request) expected(caller string) verdict {
	switch {
	case slices.Contains(r.callers, anybody), slices.Contains(r.callers, caller):
		return verdict{true, r.allow}
	case r.deny != "":
		return verdict{false, r.deny}
	}
	return verdict{false, defaultDeny}
}

// String is method and path, and what else matters.
func (r *request) String() string {
	s := r.method + " " + r.path
	if r.note != "" {
		s += " (" + r.note + ")"
	}
	return s
}
