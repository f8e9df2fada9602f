package envoy_test

import (
	"net/netip"
	"strconv"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	sslinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// drawer draws filters and requests from small alphabets, so that they meet: every kind of message that the evaluator knows, also where nobody would write it.
type drawer struct {
	*rapid.T
	connection bool // the filter is of a TCP chain, which has no requests
	actions    int
}

func pick[V any](d *drawer, from ...V) V { return rapid.SampledFrom(from).Draw(d.T, "pick") }

func (d *drawer) n(limit int) int { return rapid.IntRange(0, limit-1).Draw(d.T, "n") }

func extension(name string, m proto.Message) *xdscorev3.TypedExtensionConfig {
	packed, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: packed}
}

func drawFilter(t *rapid.T) *rbacv3.RBAC {
	d := &drawer{T: t}
	m := &rbacv3.RBAC{}
	switch d.n(8) {
	case 0:
		m.Rules = d.rules()
	case 1:
		m.Rules, m.Matcher = d.rules(), d.matcher(2)
	case 2:
		m.Matcher, m.ShadowMatcher = pick(d, nil, d.matcher(2)), d.matcher(2)
	case 3:
		m.Rules, m.ShadowRules, m.ShadowMatcher = pick(d, nil, d.rules()), d.rules(), pick(d, nil, d.matcher(1))
	default:
		m.Matcher = d.matcher(3)
	}
	return m
}

func drawNetworkFilter(t *rapid.T) *networkrbacv3.RBAC {
	d := &drawer{T: t, connection: true}
	if d.n(3) == 0 {
		return &networkrbacv3.RBAC{StatPrefix: "x", Rules: d.rules()}
	}
	return &networkrbacv3.RBAC{StatPrefix: "x", Matcher: d.matcher(3)}
}

func (d *drawer) rules() *rbacconfigv3.RBAC {
	m := &rbacconfigv3.RBAC{Action: pick(d, rbacconfigv3.RBAC_ALLOW, rbacconfigv3.RBAC_ALLOW, rbacconfigv3.RBAC_DENY, rbacconfigv3.RBAC_DENY, rbacconfigv3.RBAC_LOG), Policies: map[string]*rbacconfigv3.Policy{}}
	for i := range d.n(4) {
		p := &rbacconfigv3.Policy{}
		for range 1 + d.n(2) {
			p.Permissions = append(p.Permissions, d.permission(2))
			p.Principals = append(p.Principals, d.principal(2))
		}
		m.Policies["p"+strconv.Itoa(i)] = p
	}
	return m
}

func (d *drawer) permission(depth int) *rbacconfigv3.Permission {
	kinds := 8
	if depth == 0 {
		kinds = 5
	}
	switch d.n(kinds) {
	case 0:
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Any{Any: true}}
	case 1, 2:
		if !d.connection {
			return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: d.header()}}
		}
		return d.connectionPermission()
	case 3:
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_UrlPath{UrlPath: d.path()}}
	case 4:
		return d.connectionPermission()
	case 5:
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_AndRules{AndRules: &rbacconfigv3.Permission_Set{Rules: []*rbacconfigv3.Permission{d.permission(depth - 1), d.permission(depth - 1)}}}}
	case 6:
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_OrRules{OrRules: &rbacconfigv3.Permission_Set{Rules: []*rbacconfigv3.Permission{d.permission(depth - 1), d.permission(depth - 1)}}}}
	}
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_NotRule{NotRule: d.permission(depth - 1)}}
}

// aroundPorts are the ports that the test's listeners have, roughly.
func (d *drawer) connectionPermission() *rbacconfigv3.Permission {
	if d.n(2) == 0 {
		return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_DestinationPort{DestinationPort: uint32(drawnPort + d.n(2))}}
	}
	from := int32(drawnPort - 1 + d.n(3))
	return &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_DestinationPortRange{DestinationPortRange: &typev3.Int32Range{Start: from, End: from + 1 + int32(d.n(3))}}}
}

func (d *drawer) principal(depth int) *rbacconfigv3.Principal {
	kinds := 9
	if depth == 0 {
		kinds = 6
	}
	switch d.n(kinds) {
	case 0:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_DirectRemoteIp{DirectRemoteIp: d.block()}}
	case 1:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_RemoteIp{RemoteIp: d.block()}}
	case 2:
		a := &rbacconfigv3.Principal_Authenticated{}
		if d.n(2) == 0 {
			a.PrincipalName = d.envoyString()
		}
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Authenticated_{Authenticated: a}}
	case 3:
		if !d.connection { // Envoy refuses headers there
			return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Header{Header: d.header()}}
		}
	case 4:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_UrlPath{UrlPath: d.path()}}
	case 6:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_AndIds{AndIds: &rbacconfigv3.Principal_Set{Ids: []*rbacconfigv3.Principal{d.principal(depth - 1), d.principal(depth - 1)}}}}
	case 7:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_OrIds{OrIds: &rbacconfigv3.Principal_Set{Ids: []*rbacconfigv3.Principal{d.principal(depth - 1), d.principal(depth - 1)}}}}
	case 8:
		return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_NotId{NotId: d.principal(depth - 1)}}
	}
	return &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_Any{Any: true}}
}

func (d *drawer) block() *corev3.CidrRange {
	return pick(d,
		&corev3.CidrRange{AddressPrefix: "127.0.1.0", PrefixLen: wrapperspb.UInt32(30)},
		&corev3.CidrRange{AddressPrefix: "127.0.1.7", PrefixLen: wrapperspb.UInt32(29)}, // bits behind the prefix
		&corev3.CidrRange{AddressPrefix: "127.0.1.2", PrefixLen: wrapperspb.UInt32(32)},
		&corev3.CidrRange{AddressPrefix: "10.0.0.0", PrefixLen: wrapperspb.UInt32(8)},
		&corev3.CidrRange{AddressPrefix: "10.0.0.0", PrefixLen: wrapperspb.UInt32(0)},
		&corev3.CidrRange{AddressPrefix: "127.0.1.1"}, // no length
		&corev3.CidrRange{AddressPrefix: "127.0.1.1", PrefixLen: wrapperspb.UInt32(40)},
		&corev3.CidrRange{AddressPrefix: "::", PrefixLen: wrapperspb.UInt32(0)},
		&corev3.CidrRange{AddressPrefix: "::ffff:127.0.1.0", PrefixLen: wrapperspb.UInt32(120)},
	)
}

var (
	literals = []string{"a", "ab", "a,ab", "A", "/a", "/a/", "/a?", "GET", "POST", "x,a", "a,a", "a, a", ",", "b.test", "é", "\u00c9"}
	patterns = []string{
		"a", "a|/a", "a.*", ".*a", `\Ca`, "(?i)a", "(?i)é", "(?i)[é]", "(?i)[^a]", "[^a]", "[^b]*", ".", "..", `[\x80-\xff]+`, "é", `\C*`, `/a(?:\?\C*)?`, `\Q\Ca\E|a`, `[\]a]`, "^a$", `\ba\b`, "a{1,2}",
		`(?s:.)*`, "[[:alpha:]]", `\x{e9}+.`, `\xc3\xa9`, "(?:)", `\pL+`, `\W`, `\S\S`, "(?i)K", `(?i)\xe3`, `(?i)[\xe3]`, `(?i)[^\xe3]`, `(?i)\xff|\xb5|\xdf|\xe5`, `(?i)[\x80-\xff]`, `(?i)[a-k\xe0-\xff]\x{e0}?`,
	}
	headerNames = []string{"x-a", "x-a", "x-b", "X-A", ":path", ":method", ":authority", "host", "x-absent"}
)

func (d *drawer) xdsString() *xdsmatcherv3.StringMatcher {
	m := &xdsmatcherv3.StringMatcher{IgnoreCase: d.n(4) == 0}
	v := pick(d, literals...)
	switch d.n(8) {
	case 0:
		m.MatchPattern = &xdsmatcherv3.StringMatcher_Prefix{Prefix: v}
	case 1:
		m.MatchPattern = &xdsmatcherv3.StringMatcher_Suffix{Suffix: v}
	case 2:
		m.MatchPattern = &xdsmatcherv3.StringMatcher_Contains{Contains: v}
	case 3, 4, 5:
		m.IgnoreCase = false // Envoy refuses it
		m.MatchPattern = &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
			Regex: pick(d, patterns...), EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}},
		}}
	default:
		m.MatchPattern = &xdsmatcherv3.StringMatcher_Exact{Exact: pick(d, v, v, v, "")}
	}
	return m
}

func (d *drawer) envoyString() *matcherv3.StringMatcher {
	m := &matcherv3.StringMatcher{IgnoreCase: d.n(4) == 0}
	v := pick(d, literals...)
	switch d.n(7) {
	case 0:
		m.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: v}
	case 1:
		m.MatchPattern = &matcherv3.StringMatcher_Suffix{Suffix: v}
	case 2:
		m.MatchPattern = &matcherv3.StringMatcher_Contains{Contains: v}
	case 3, 4:
		m.IgnoreCase = false
		m.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pick(d, patterns...)}}
	default:
		m.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: pick(d, v, v, v, "")}
	}
	return m
}

func (d *drawer) path() *matcherv3.PathMatcher {
	return &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: d.envoyString()}}
}

func (d *drawer) header() *routev3.HeaderMatcher {
	m := &routev3.HeaderMatcher{Name: pick(d, headerNames...), InvertMatch: d.n(3) == 0, TreatMissingHeaderAsEmpty: d.n(4) == 0}
	v := pick(d, literals...)
	switch d.n(10) {
	case 0:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: d.n(2) == 0}
	case 1:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{Start: -1, End: int64(d.n(3))}}
	case 2:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_ExactMatch{ExactMatch: v} //nolint:staticcheck // proxies take it
	case 3:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_PrefixMatch{PrefixMatch: v} //nolint:staticcheck // proxies take it
	case 4:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_SuffixMatch{SuffixMatch: v} //nolint:staticcheck // proxies take it
	case 5:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_ContainsMatch{ContainsMatch: v} //nolint:staticcheck // proxies take it
	case 6:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: &matcherv3.RegexMatcher{Regex: pick(d, patterns...)}} //nolint:staticcheck // proxies take it
	case 7:
	default:
		m.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: d.envoyString()}
	}
	return m
}

func (d *drawer) input() *xdscorev3.TypedExtensionConfig {
	kinds := 12
	switch d.n(kinds) {
	case 0:
		return extension("port", &networkinputsv3.DestinationPortInput{})
	case 1:
		return extension("source", &networkinputsv3.DirectSourceIPInput{})
	case 2:
		return extension("remote", &networkinputsv3.SourceIPInput{})
	case 3:
		if d.n(3) == 0 {
			return extension("san", pick[proto.Message](d, &sslinputsv3.UriSanInput{}, &sslinputsv3.DnsSanInput{}, &sslinputsv3.SubjectInput{}))
		}
	}
	if d.connection { // Envoy refuses headers there
		return extension("source", &networkinputsv3.DirectSourceIPInput{})
	}
	return extension("header", &matcherv3.HttpRequestHeaderMatchInput{HeaderName: pick(d, headerNames...)})
}

func (d *drawer) matcher(depth int) *xdsmatcherv3.Matcher {
	m := &xdsmatcherv3.Matcher{}
	if d.n(3) > 0 {
		m.OnNoMatch = d.onMatch(depth - 1)
	}
	switch d.n(8) {
	case 0:
		if m.OnNoMatch == nil {
			m.OnNoMatch = d.onMatch(0)
		}
	case 1, 2, 3:
		m.MatcherType = &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: d.tree(depth)}
	default:
		list := &xdsmatcherv3.Matcher_MatcherList{}
		for range 1 + d.n(3) {
			list.Matchers = append(list.Matchers, &xdsmatcherv3.Matcher_MatcherList_FieldMatcher{Predicate: d.predicate(2), OnMatch: d.onMatch(depth - 1)})
		}
		m.MatcherType = &xdsmatcherv3.Matcher_MatcherList_{MatcherList: list}
	}
	return m
}

func (d *drawer) tree(depth int) *xdsmatcherv3.Matcher_MatcherTree {
	out := &xdsmatcherv3.Matcher_MatcherTree{Input: d.input()}
	entries := map[string]*xdsmatcherv3.Matcher_OnMatch{}
	keys := []string{"", "a", "ab", "A", "/", "/a", "/a/", "/a?", "/a/b", "GET", "x,a", "127.0.1.1", "127.0.1.", strconv.Itoa(drawnPort), strconv.Itoa(drawnPort)[:3], "é", "\u00c9"}
	for range 1 + d.n(4) {
		entries[pick(d, keys...)] = d.onMatch(depth - 1)
	}
	if d.n(2) == 0 {
		out.TreeType = &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: entries}}
	} else {
		out.TreeType = &xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap{PrefixMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: entries}}
	}
	return out
}

func (d *drawer) onMatch(depth int) *xdsmatcherv3.Matcher_OnMatch {
	if depth > 0 && d.n(2) == 0 {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Matcher{Matcher: d.matcher(depth)}}
	}
	d.actions++
	return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: extension("action", &rbacconfigv3.Action{
		Name: "a" + strconv.Itoa(d.actions), Action: pick(d, rbacconfigv3.RBAC_ALLOW, rbacconfigv3.RBAC_ALLOW, rbacconfigv3.RBAC_ALLOW, rbacconfigv3.RBAC_DENY, rbacconfigv3.RBAC_DENY, rbacconfigv3.RBAC_LOG),
	})}}
}

func (d *drawer) predicate(depth int) *xdsmatcherv3.Matcher_MatcherList_Predicate {
	type (
		predicate = xdsmatcherv3.Matcher_MatcherList_Predicate
		list      = xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList
	)
	kinds := 5
	if depth == 0 {
		kinds = 2
	}
	switch d.n(kinds) {
	case 2:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{AndMatcher: &list{Predicate: []*predicate{d.predicate(depth - 1), d.predicate(depth - 1)}}}}
	case 3:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{OrMatcher: &list{Predicate: []*predicate{d.predicate(depth - 1), d.predicate(depth - 1)}}}}
	case 4:
		return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: d.predicate(depth - 1)}}
	}
	single := &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
		Input: d.input(), Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: d.xdsString()},
	}
	if d.n(5) == 0 {
		ip := &ipv3.Ip{StatPrefix: "x"}
		for range 1 + d.n(2) {
			ip.CidrRanges = append(ip.CidrRanges, d.block())
		}
		single.Matcher = &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{CustomMatch: extension("ip", ip)}
	}
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{SinglePredicate: single}}
}

// sources are a few callers.
func sources() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.2"), netip.MustParseAddr("127.0.1.6"), netip.MustParseAddr("127.0.2.1")}
}

func drawSource(t *rapid.T) netip.Addr { return rapid.SampledFrom(sources()).Draw(t, "source") }

func drawRequest(t *rapid.T) *model.HTTPRequest {
	d := &drawer{T: t}
	r := &model.HTTPRequest{
		Method: pick(d, "GET", "GET", "POST", "DELETE"),
		Host:   pick(d, "a", "A", "ab", "b.test", "a:80"),
		Path:   pick(d, "/", "/a", "/a?", "/a?a", "/a/", "/a/b", "/ab", "/A", "/a;p=1", "/a;p/b", "/a/;p?/;q", "/x/a", "/a%20?b;c/d", "//a"),
	}
	for range d.n(4) {
		r.Headers = append(r.Headers, model.Header{
			Name:  pick(d, "x-a", "x-a", "X-A", "x-b"),
			Value: pick(d, "a", "ab", "A", "x,a", "a,a", "", "b", "é", "\u00c9", "\xe9", "\xe3", "\xc3", "\xc3\xc0", "\xff", "\xdf", "\xb5", "\xc5", "0", "+1", "-1", "1", "aé", "K", "é\xff", strings.Repeat("a", 3)),
		})
	}
	return r
}
