package model

import "net/netip"

// Names of the outcomes that no rule of a policy decides. They hold no slash, so that no policy's rule can carry them.
const (
	OutcomeNotIsolated  = "not-isolated"   // no Allow policy selects the workload: open
	OutcomeDefaultDeny  = "default-deny"   // isolated, and no Allow rule matches
	OutcomeGuardPath    = "guard-path"     // the path has more than one reading
	OutcomeGuardHost    = "guard-host"     // the authority is malformed
	OutcomeReservedPort = "reserved-port"  // a port of the sidecar's own
	OutcomeUnknown      = "not-configured" // the slot's default: no configuration has come
	OutcomeScraper      = "scraper"        // who asks for the sidecar's metrics may have them
)

// RuleName is the name of a rule's outcome in logs, stats and verdicts.
func RuleName(p PolicyRef, rule string) string { return p.Namespace + "/" + p.Name + "/" + rule }

// Verdict is allow or deny, with the name of the rule or outcome that decided.
type Verdict struct {
	Allowed bool
	Decider string
}

// Request is one connection or HTTP request as the callee's sidecar sees it, after path normalization.
type Request struct {
	Source netip.Addr   // the caller's own address
	Port   uint16       // the port that policies name
	HTTP   *HTTPRequest // nil: plain TCP
}

// HTTPRequest holds what policies look at.
type HTTPRequest struct {
	Method  string
	Host    string // as sent, with port and dot
	Path    string // with its query
	Headers []Header
}

// Header is one header line. Name is lower case.
type Header struct{ Name, Value string }
