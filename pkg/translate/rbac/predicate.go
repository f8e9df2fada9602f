package rbac

import (
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Short names for the generic matching API. Messages are shared freely between places of one configuration: nothing changes them once built.
type (
	matcher   = xdsmatcherv3.Matcher
	onMatch   = xdsmatcherv3.Matcher_OnMatch
	predicate = xdsmatcherv3.Matcher_MatcherList_Predicate
	field     = xdsmatcherv3.Matcher_MatcherList_FieldMatcher
	text      = xdsmatcherv3.StringMatcher
	extension = xdscorev3.TypedExtensionConfig
)

// pack wraps a message whose type is one of Envoy's own, always valid: marshalling cannot fail.
func pack(m proto.Message) *anypb.Any {
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: wire(m)}
}

func wire(m proto.Message) []byte {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic("marshal " + string(m.ProtoReflect().Descriptor().FullName()) + ": " + err.Error())
	}
	return value
}

// sealed is a message that holds its wire form in place of its fields: it is marshalled by copying, however often, and takes little memory.
func sealed[T any, M interface {
	*T
	proto.Message
}](m M) M {
	if m == nil {
		return nil
	}
	out := M(new(T))
	out.ProtoReflect().SetUnknown(wire(m))
	return out
}

func sealedFields(fields []*field) []*field {
	out := make([]*field, 0, len(fields))
	for _, f := range fields {
		out = append(out, sealed(f))
	}
	return out
}

// inputs are what matchers look at. A header input gives the values of repeated headers joined with "," and nothing when the header is absent,
// so that a predicate on an absent header is false. Names of extensions say nothing to Envoy (it goes by type), so they are short.
type inputs struct {
	path, authority, method, port, source *extension
}

func newInputs() *inputs {
	return &inputs{
		path: headerInput(":path"), authority: headerInput(":authority"), method: headerInput(":method"),
		port:   &extension{Name: "port", TypedConfig: pack(&networkinputsv3.DestinationPortInput{})},
		source: &extension{Name: "source", TypedConfig: pack(&networkinputsv3.DirectSourceIPInput{})},
	}
}

func headerInput(name string) *extension {
	return &extension{Name: "header", TypedConfig: pack(&matcherv3.HttpRequestHeaderMatchInput{HeaderName: name})}
}

func exactly(value string) *text {
	return &text{MatchPattern: &xdsmatcherv3.StringMatcher_Exact{Exact: value}}
}

func startsWith(value string) *text {
	return &text{MatchPattern: &xdsmatcherv3.StringMatcher_Prefix{Prefix: value}}
}

// regex matches whole values.
func regex(expr string) *text {
	return &text{MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
		EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}}, Regex: expr,
	}}}
}

// expr is an expression for a whole value, and a bound of the size of its program.
type expr struct {
	text    string
	program int
}

// anyExpression says of one input what any of the expressions says, in as few predicates as Envoy takes programs for: each names its input anew.
func anyExpression(input *extension, exprs []expr) []*predicate {
	const alternative = 4
	var out []*predicate
	for len(exprs) > 0 {
		n, program := 0, 0
		var texts []string
		for n < len(exprs) && (n == 0 || program+exprs[n].program+alternative <= maxProgram) {
			program += exprs[n].program + alternative
			texts = append(texts, exprs[n].text)
			n++
		}
		out = append(out, where(input, regex(strings.Join(texts, "|"))))
		exprs = exprs[n:]
	}
	return out
}

func where(input *extension, value *text) *predicate {
	return single(&xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
		Input:   input,
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: value},
	})
}

func whereCustom(input, custom *extension) *predicate {
	return single(&xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
		Input:   input,
		Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: custom},
	})
}

func single(s *xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate) *predicate {
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: s}}
}

// allOf is the conjunction; nil, which holds always, where there is nothing to hold.
func allOf(ps ...*predicate) *predicate {
	kept := make([]*predicate, 0, len(ps))
	for _, p := range ps {
		if p != nil {
			kept = append(kept, p)
		}
	}
	switch len(kept) {
	case 0:
		return nil
	case 1:
		return kept[0]
	}
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{
		AndMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: kept},
	}}
}

// anyOf is the disjunction of at least one.
func anyOf(ps ...*predicate) *predicate {
	if len(ps) == 1 {
		return ps[0]
	}
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: ps},
	}}
}

func not(p *predicate) *predicate {
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: p}}
}

// decide ends a match with a named verdict.
func decide(name string, action model.Action) *onMatch {
	verdict := rbacconfigv3.RBAC_ALLOW
	if action == model.Deny {
		verdict = rbacconfigv3.RBAC_DENY
	}
	return &onMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &extension{
		Name: "action", TypedConfig: pack(&rbacconfigv3.Action{Name: name, Action: verdict}),
	}}}
}

// nested continues with another matcher; where that matches nothing, the search goes on behind this place.
func nested(m *matcher) *onMatch {
	return &onMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Matcher{Matcher: m}}
}

// inOrder tries entries one after the other, and then next (nil: nothing).
func inOrder(next *onMatch, entries ...*field) *onMatch {
	if len(entries) == 0 {
		return next
	}
	return nested(&matcher{
		MatcherType: &xdsmatcherv3.Matcher_MatcherList_{MatcherList: &xdsmatcherv3.Matcher_MatcherList{Matchers: entries}},
		OnNoMatch:   next,
	})
}

// byExact and byPrefix look an input up in a map, and try next where no entry matches.
func byExact(input *extension, entries map[string]*onMatch, next *onMatch) *onMatch {
	return nested(&matcher{OnNoMatch: next, MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input: input, TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: entries}},
	}}})
}

func byPrefix(input *extension, entries map[string]*onMatch, next *onMatch) *onMatch {
	return nested(&matcher{OnNoMatch: next, MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
		Input: input, TreeType: &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: entries}},
	}}})
}

// whole makes the matcher that does what an onMatch says.
func whole(m *onMatch) *matcher {
	if n := m.GetMatcher(); n != nil {
		return n
	}
	return &matcher{OnNoMatch: m}
}
