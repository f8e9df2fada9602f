package envoy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
)

// predicate is a condition on a request.
type predicate interface {
	fmt.Stringer
	holds(a *asked) answer
}

func (c *compiler) predicate(m *xdsmatcherv3.Matcher_MatcherList_Predicate) (predicate, error) {
	switch p := m.GetMatchType().(type) {
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_:
		return c.single(p.SinglePredicate)
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher:
		list, err := c.predicates(p.AndMatcher)
		return every(list), err
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher:
		list, err := c.predicates(p.OrMatcher)
		return some(list), err
	case *xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher:
		inner, err := c.predicate(p.NotMatcher)
		return negation{inner}, err
	}
	return nil, errors.New("predicate: unset")
}

func (c *compiler) predicates(m *xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList) ([]predicate, error) {
	out := make([]predicate, 0, len(m.GetPredicate()))
	for i, p := range m.GetPredicate() {
		compiled, err := c.predicate(p)
		if err != nil {
			return nil, fmt.Errorf("predicate[%d].%w", i, err)
		}
		out = append(out, compiled)
	}
	return out, nil
}

// every holds when all do. It stops at the first that does not, and at the first that cannot tell.
type every []predicate

func (ps every) String() string { return joined(ps, " and ") }

func (ps every) holds(a *asked) answer {
	for _, p := range ps {
		if s := p.holds(a); s != yes {
			return s
		}
	}
	return yes
}

// some holds when one does, whatever those before it could not tell.
type some []predicate

func (ps some) String() string { return joined(ps, " or ") }

func (ps some) holds(a *asked) answer {
	out := no
	for _, p := range ps {
		switch p.holds(a) {
		case yes:
			return yes
		case unable:
			out = unable
		case no:
		}
	}
	return out
}

func joined(ps []predicate, by string) string {
	texts := make([]string, 0, len(ps))
	for _, p := range ps {
		texts = append(texts, p.String())
	}
	return "(" + strings.Join(texts, by) + ")"
}

type negation struct{ predicate }

func (n negation) String() string { return "not " + n.predicate.String() }

func (n negation) holds(a *asked) answer { return n.predicate.holds(a).not() }

// comparison holds of a value; where the request has none it does not hold.
type comparison struct {
	input input
	value value
}

func (c comparison) String() string { return c.input.String() + " " + c.value.String() }

func (c comparison) holds(a *asked) answer {
	v, state := c.input.get(a)
	if state != yes {
		return state
	}
	return c.value.matches(a, v)
}

func (c *compiler) single(m *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate) (predicate, error) {
	in, err := c.input(m.GetInput())
	if err != nil {
		return nil, fmt.Errorf("single_predicate.%w", err)
	}
	var v value
	if custom := m.GetCustomMatch(); custom != nil {
		v, err = customValue(custom)
	} else {
		v, err = c.value(fromXDS(m.GetValueMatch()))
	}
	if err != nil {
		return nil, fmt.Errorf("single_predicate.%w", err)
	}
	return comparison{in, v}, nil
}

// value is a condition on a string.
type value interface {
	fmt.Stringer
	matches(a *asked, s string) answer
}

func customValue(e *xdscorev3.TypedExtensionConfig) (value, error) {
	m := &ipv3.Ip{}
	if !e.GetTypedConfig().MessageIs(m) {
		return unknownValue("a matcher of type " + e.GetTypedConfig().GetTypeUrl()), nil
	}
	if err := e.GetTypedConfig().UnmarshalTo(m); err != nil {
		return nil, fmt.Errorf("custom_match: %w", err)
	}
	if err := m.ValidateAll(); err != nil {
		return nil, fmt.Errorf("custom_match: %w", err)
	}
	var out within
	for i, r := range m.GetCidrRanges() {
		p, err := prefix(r)
		if err != nil {
			return nil, fmt.Errorf("custom_match.cidr_ranges[%d].%w", i, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// within holds of addresses in one of the ranges. What is no address is in none.
type within []netip.Prefix

func (w within) String() string {
	texts := make([]string, 0, len(w))
	for _, p := range w {
		texts = append(texts, p.String())
	}
	return "is in " + strings.Join(texts, ", ")
}

func (w within) matches(_ *asked, s string) answer {
	addr, err := netip.ParseAddr(s)
	return answerOf(err == nil && w.contains(addr))
}

func (w within) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(w, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// unknownValue gives the question up.
type unknownValue string

func (v unknownValue) String() string { return "satisfies " + string(v) }

func (v unknownValue) matches(a *asked, _ string) answer { return a.cannot(string(v)) }
