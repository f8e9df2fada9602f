// Package validation checks L7Policies: all that the API server's schema says, and what a schema cannot say, regular expressions above all. What
// Envoy would refuse is refused here. Input: one policy. Output: every finding, each with its check, field and remedy. One entry point: Validate
// (Findings for callers that act on single fields).
package validation

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// Check names a check. Stable: users search for it, and diagnostics carry it as their code.
type Check string

// The checks.
const (
	CheckLimit             Check = "limit"
	CheckObjectName        Check = "object-name"
	CheckAction            Check = "action"
	CheckEnforcement       Check = "enforcement"
	CheckPolicyType        Check = "policy-type"
	CheckLabelSelector     Check = "label-selector"
	CheckRuleName          Check = "rule-name"
	CheckRuleNameUnique    Check = "rule-name-unique"
	CheckPeerEmpty         Check = "peer-empty"
	CheckPeerBlockAlone    Check = "ip-block-alone"
	CheckServiceAccount    Check = "service-account"
	CheckCIDR              Check = "cidr"
	CheckExcept            Check = "except"
	CheckProtocol          Check = "protocol"
	CheckPort              Check = "port"
	CheckEndPort           Check = "end-port"
	CheckHTTPOverTCP       Check = "http-over-tcp"
	CheckEmptyList         Check = "empty-list"
	CheckHTTPEmpty         Check = "http-empty"
	CheckHost              Check = "host"
	CheckMethod            Check = "method"
	CheckPathType          Check = "path-type"
	CheckPath              Check = "path"
	CheckPathDenySize      Check = "path-deny-size"
	CheckHeaderName        Check = "header-name"
	CheckHeaderType        Check = "header-type"
	CheckHeaderValue       Check = "header-value"
	CheckRegularExpression Check = "regular-expression"
)

// Error is one finding.
type Error struct {
	Check  Check
	Field  string // for example spec.ingress[0].http[1].paths[0].value
	Detail string // what is wrong
	Remedy string // what to do
}

// Error is one line.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s; %s [%s]", e.Field, e.Detail, e.Remedy, e.Check)
}

// Validate returns nil, or a *multierror.Error whose elements are *Error.
func Validate(p *v1alpha1.L7Policy) error {
	merr := &multierror.Error{ErrorFormat: oneLineEach}
	for _, e := range Findings(p) {
		merr.Errors = append(merr.Errors, e)
	}
	return merr.ErrorOrNil()
}

// oneLineEach prints one finding a line. A policy with hundreds of findings has one cause: the first ones tell it.
func oneLineEach(errs []error) string {
	const most = 20
	var b strings.Builder
	for i, err := range errs {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more", len(errs)-most)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// Findings returns every finding, in the order of the fields. A list or string that is too long is one finding, and its contents are not looked at.
func Findings(p *v1alpha1.L7Policy) []*Error {
	c := &checker{deny: p.Spec.Action != v1alpha1.ActionAllow && p.Spec.Action != ""}
	c.metadata(p)
	c.spec(&p.Spec)
	return c.found
}

// checker collects findings.
type checker struct {
	found []*Error
	deny  bool // literal paths become expressions in a Deny
}

func (c *checker) add(check Check, field, remedy, detail string, args ...any) {
	c.found = append(c.found, &Error{Check: check, Field: field, Detail: fmt.Sprintf(detail, args...), Remedy: remedy})
}

// fits says whether a list is within its limit, and reports it otherwise: what is too long is not looked into.
func (c *checker) fits(field string, length, most int) bool {
	if length <= most {
		return true
	}
	c.add(CheckLimit, field, fmt.Sprintf("keep at most %d; split the policy in two", most), "%d entries are too many", length)
	return false
}

// short says the same of a string.
func (c *checker) short(field, s string, most int) bool {
	if len(s) <= most {
		return true
	}
	c.add(CheckLimit, field, fmt.Sprintf("keep at most %d bytes", most), "%d bytes are too many", len(s))
	return false
}

// written says whether a list that is there holds anything: an empty list reads as "none" and would mean "any".
func written[T any](c *checker, field string, list []T) {
	if list != nil && len(list) == 0 {
		c.add(CheckEmptyList, field, "remove the field if anything may match, else list what does", "the list is empty")
	}
}

func child(field, name string) string { return field + "." + name }

func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// quote shows a value in a finding, whatever bytes it holds, and not more than the start of it.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
