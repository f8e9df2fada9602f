// Package envoy decides what Envoy's RBAC filters decide, from the very messages that a proxy runs: what the policies mean to a sidecar can then be
// held against what they mean at all. Input: an RBAC filter of an HTTP or a TCP chain, and a request as the filter sees it. Output: allowed or denied, the
// name of the action or policy that decided, and the way there. It shares no code with the translator. Pure. Entry points: HTTP, Network and Unpack.
//
// What Envoy would refuse is an error of these. What a proxy runs and this package cannot tell, such as a condition on metadata, is an error of the
// decision, where the request gets that far, and denies: never a guess.
package envoy

import (
	"errors"
	"fmt"
	"net/netip"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Request is what a filter can look at.
type Request struct {
	Source netip.Addr // the address at the other end of the connection
	// Remote is whom Envoy takes for the caller where x-forwarded-for is trusted; the zero value is Source.
	Remote netip.Addr
	Port   uint16             // the destination's, as the connection has it
	TLS    *Peer              // nil: plaintext
	HTTP   *model.HTTPRequest // as it is once the HTTP connection manager has done its part; nil: a connection
	// PlainSegments says that url_path is compared without the parameters of segments (ignore_path_parameters_in_path_matching).
	PlainSegments bool
}

// Peer is the other end of a TLS connection by its certificate; the zero value is one without a certificate.
type Peer struct {
	URIs, DNS []string // subject alternative names
	Subject   string
}

// Decision is what a filter makes of a request.
type Decision struct {
	Allowed bool
	Outcome Outcome
	Name    string // of the action or policy that decided; empty where none did
	Way     []Step // to it, from the outside in
	Looks   int    // at inputs, on all ways that were tried: what the request costs
	Err     error  // why it cannot be told; the request is denied then
}

// Outcome says how a decision came about.
type Outcome string

// Outcomes.
const (
	Decided      Outcome = "decided"           // by the action or policy that Name tells
	NoMatch      Outcome = "no-match"          // nothing matched: denied, or by rules that deny allowed
	NotEnforced  Outcome = "not-enforced"      // the filter has neither rules nor a matcher
	Insufficient Outcome = "insufficient-data" // something was compared that the connection has not got: denied
	Unknown      Outcome = "cannot-evaluate"   // Err says why: denied
)

// Step is one turn on the way to a decision.
type Step struct {
	Place string // the field, within that of the step before
	Text  string // what holds there, in words
}

// Filter is an RBAC filter, ready to be asked. Read-only; safe for concurrent use.
type Filter struct {
	enforced, shadow engine
}

// HTTP reads the filter of an HTTP chain.
func HTTP(m *rbacv3.RBAC) (*Filter, error) {
	if err := m.ValidateAll(); err != nil {
		return nil, fmt.Errorf("envoy would refuse the RBAC filter: %w", err)
	}
	return newFilter(&compiler{}, m)
}

// Network reads the filter of a TCP chain.
func Network(m *networkrbacv3.RBAC) (*Filter, error) {
	if err := m.ValidateAll(); err != nil {
		return nil, fmt.Errorf("envoy would refuse the RBAC filter: %w", err)
	}
	return newFilter(&compiler{connection: true}, m)
}

// Unpack reads a filter of either kind.
func Unpack(config *anypb.Any) (*Filter, error) {
	http, tcp := &rbacv3.RBAC{}, &networkrbacv3.RBAC{}
	switch {
	case config.MessageIs(http):
		if err := config.UnmarshalTo(http); err != nil {
			return nil, fmt.Errorf("read the RBAC filter: %w", err)
		}
		return HTTP(http)
	case config.MessageIs(tcp):
		if err := config.UnmarshalTo(tcp); err != nil {
			return nil, fmt.Errorf("read the RBAC filter: %w", err)
		}
		return Network(tcp)
	}
	return nil, fmt.Errorf("%q is no RBAC filter", config.GetTypeUrl())
}

// message is what the filters of both kinds have in common.
type message interface {
	GetRules() *rbacconfigv3.RBAC
	GetMatcher() *xdsmatcherv3.Matcher
	GetShadowRules() *rbacconfigv3.RBAC
	GetShadowMatcher() *xdsmatcherv3.Matcher
}

func newFilter(c *compiler, m message) (*Filter, error) {
	f := &Filter{}
	var err error
	if f.enforced, err = c.engine("", m.GetRules(), m.GetMatcher()); err == nil {
		f.shadow, err = c.engine("shadow_", m.GetShadowRules(), m.GetShadowMatcher())
	}
	if err != nil {
		return nil, fmt.Errorf("envoy would refuse the RBAC filter: %w", err)
	}
	return f, nil
}

// engine decides one half of a filter: what is in force, or the shadow.
type engine interface {
	decide(a *asked) Decision
}

// engine reads one half; nil where it is absent. Envoy ignores rules beside a matcher.
func (c *compiler) engine(prefix string, rules *rbacconfigv3.RBAC, m *xdsmatcherv3.Matcher) (engine, error) {
	switch {
	case m != nil:
		compiled, err := c.matcher(m)
		if err != nil {
			return nil, fmt.Errorf("%smatcher.%w", prefix, err)
		}
		return matcherEngine{compiled, prefix + "matcher"}, nil
	case rules != nil:
		compiled, err := c.rules(rules)
		if err != nil {
			return nil, fmt.Errorf("%srules.%w", prefix, err)
		}
		compiled.place = prefix + "rules"
		return compiled, nil
	}
	return nil, nil //nolint:nilnil // nothing to decide is no error
}

// Decide is the verdict in force.
func (f *Filter) Decide(r *Request) Decision { return decide(f.enforced, r) }

// Shadow is the verdict that the filter only tells of; ok says whether it has any.
func (f *Filter) Shadow(r *Request) (d Decision, ok bool) {
	return decide(f.shadow, r), f.shadow != nil
}

func decide(e engine, r *Request) Decision {
	if e == nil {
		return Decision{Allowed: true, Outcome: NotEnforced}
	}
	a := &asked{request: r}
	d := e.decide(a)
	d.Looks = a.looks
	if a.err != nil {
		return Decision{Outcome: Unknown, Err: a.err, Looks: a.looks}
	}
	return d
}

// asked is one request on its way through an engine.
type asked struct {
	request *Request
	looks   int
	way     []Step
	err     error // the first thing that could not be told
}

// cannot gives the question up.
func (a *asked) cannot(what string) answer {
	if a.err == nil {
		a.err = errors.New("cannot evaluate " + what)
	}
	return unable
}

// answer is what a condition says of a request.
type answer string

const (
	no     answer = "no"
	yes    answer = "yes"
	unable answer = "unable" // the connection has not got what is compared
)

func answerOf(holds bool) answer {
	if holds {
		return yes
	}
	return no
}

// not leaves unable as it is.
func (a answer) not() answer {
	switch a {
	case yes:
		return no
	case no:
		return yes
	case unable:
	}
	return a
}

// compiler reads messages. What one filter compares again and again is kept once.
type compiler struct {
	connection  bool // the filter is of a TCP chain
	expressions map[string]*expression
}
