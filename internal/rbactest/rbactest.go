// Package rbactest interprets RBAC matchers in tests as Envoy does. Input: a matcher and a request. Output: the action, and what a request costs: one step for each
// look at an input. Tests of pkg/translate/rbac show that Envoy itself comes to the same verdicts. One entry point: Interpreter.Decide.
package rbactest

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Interpreter runs matchers.
type Interpreter struct {
	Request model.Request
	Steps   int // looks at an input
	fatal   func(args ...any)
	regexps map[string]*regexp.Regexp // kept from request to request
}

// New returns an interpreter that ends the test where it does not know a part.
func New(t interface{ Fatal(args ...any) }) *Interpreter {
	return &Interpreter{fatal: t.Fatal, regexps: map[string]*regexp.Regexp{}}
}

// Decide is the action for the request; nil where nothing matches.
func (i *Interpreter) Decide(m *xdsmatcherv3.Matcher) *rbacconfigv3.Action {
	switch {
	case m.GetMatcherList() != nil:
		for _, f := range m.GetMatcherList().GetMatchers() {
			if i.holds(f.GetPredicate()) {
				if action := i.follow(f.GetOnMatch()); action != nil {
					return action
				}
			}
		}
	case m.GetMatcherTree() != nil:
		if action := i.lookUp(m.GetMatcherTree()); action != nil {
			return action
		}
	}
	return i.follow(m.GetOnNoMatch())
}

func (i *Interpreter) follow(o *xdsmatcherv3.Matcher_OnMatch) *rbacconfigv3.Action {
	switch {
	case o.GetMatcher() != nil:
		return i.Decide(o.GetMatcher())
	case o.GetAction() != nil:
		action := &rbacconfigv3.Action{}
		if err := o.GetAction().GetTypedConfig().UnmarshalTo(action); err != nil {
			i.fatal(err)
		}
		return action
	}
	return nil
}

func (i *Interpreter) lookUp(tree *xdsmatcherv3.Matcher_MatcherTree) *rbacconfigv3.Action {
	value, present := i.input(tree.GetInput())
	if !present {
		return nil
	}
	if exact := tree.GetExactMatchMap(); exact != nil {
		return i.follow(exact.GetMap()[value])
	}
	prefixes := tree.GetPrefixMatchMap().GetMap()
	for n := len(value); n > 0; n-- {
		if o := prefixes[value[:n]]; o != nil {
			if action := i.follow(o); action != nil {
				return action
			}
		}
	}
	return nil
}

func (i *Interpreter) holds(p *xdsmatcherv3.Matcher_MatcherList_Predicate) bool {
	switch {
	case p.GetAndMatcher() != nil:
		return !slices.ContainsFunc(p.GetAndMatcher().GetPredicate(), func(q *xdsmatcherv3.Matcher_MatcherList_Predicate) bool { return !i.holds(q) })
	case p.GetOrMatcher() != nil:
		return slices.ContainsFunc(p.GetOrMatcher().GetPredicate(), i.holds)
	case p.GetNotMatcher() != nil:
		return !i.holds(p.GetNotMatcher())
	}
	value, present := i.input(p.GetSinglePredicate().GetInput())
	if custom := p.GetSinglePredicate().GetCustomMatch(); custom != nil {
		return i.within(custom, value)
	}
	s := p.GetSinglePredicate().GetValueMatch()
	switch m := s.GetMatchPattern().(type) {
	case *xdsmatcherv3.StringMatcher_Exact:
		return present && (value == m.Exact || s.GetIgnoreCase() && strings.EqualFold(value, m.Exact))
	case *xdsmatcherv3.StringMatcher_Prefix:
		return present && strings.HasPrefix(value, m.Prefix)
	case *xdsmatcherv3.StringMatcher_SafeRegex:
		return present && i.regexp(m.SafeRegex.GetRegex()).MatchString(value)
	}
	i.fatal("unknown predicate", p)
	return false
}

// regexp reads an RE2 expression with Go's package, which knows no \C. Requests here are ASCII, so bytes are runes.
func (i *Interpreter) regexp(expr string) *regexp.Regexp {
	re := i.regexps[expr]
	if re == nil {
		flags := ""
		if rest, ok := strings.CutPrefix(expr, "(?i)"); ok {
			flags, expr = "(?i)", rest
		}
		re = regexp.MustCompile(flags + `\A(?:` + strings.ReplaceAll(expr, `\C`, `(?s:.)`) + `)\z`)
		i.regexps[flags+expr] = re
	}
	return re
}

func (i *Interpreter) within(custom *xdscorev3.TypedExtensionConfig, value string) bool {
	ip := &ipv3.Ip{}
	if err := custom.GetTypedConfig().UnmarshalTo(ip); err != nil {
		i.fatal(err)
	}
	for _, r := range ip.GetCidrRanges() {
		prefix := netip.MustParsePrefix(r.GetAddressPrefix() + "/" + strconv.Itoa(int(r.GetPrefixLen().GetValue())))
		if prefix.Contains(netip.MustParseAddr(value)) {
			return true
		}
	}
	return false
}

func (i *Interpreter) input(e *xdscorev3.TypedExtensionConfig) (string, bool) {
	i.Steps++
	switch e.GetTypedConfig().GetTypeUrl() {
	case "type.googleapis.com/" + string((&networkinputsv3.DestinationPortInput{}).ProtoReflect().Descriptor().FullName()):
		return strconv.Itoa(int(i.Request.Port)), true
	case "type.googleapis.com/" + string((&networkinputsv3.DirectSourceIPInput{}).ProtoReflect().Descriptor().FullName()):
		return i.Request.Source.String(), true
	}
	input := &matcherv3.HttpRequestHeaderMatchInput{}
	if err := e.GetTypedConfig().UnmarshalTo(input); err != nil {
		i.fatal(err)
	}
	switch r := i.Request.HTTP; input.GetHeaderName() {
	case ":path":
		return r.Path, true
	case ":authority":
		return r.Host, true
	case ":method":
		return r.Method, true
	default:
		var lines []string
		for _, h := range r.Headers {
			if h.Name == input.GetHeaderName() {
				lines = append(lines, h.Value)
			}
		}
		return strings.Join(lines, ","), lines != nil
	}
}
