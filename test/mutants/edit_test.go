package mutants_test

import (
	"slices"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

type (
	matcher   = xdsmatcherv3.Matcher
	onMatch   = xdsmatcherv3.Matcher_OnMatch
	predicate = xdsmatcherv3.Matcher_MatcherList_Predicate
	text      = xdsmatcherv3.StringMatcher
)

// clone copies as much of a snapshot as mutants change.
func clone(s *model.Snapshot) *model.Snapshot {
	out := *s
	out.Pods = make([]*model.Pod, 0, len(s.Pods))
	for _, p := range s.Pods {
		again := *p
		out.Pods = append(out.Pods, &again)
	}
	out.Policies = make([]*model.Policy, 0, len(s.Policies))
	for _, q := range s.Policies {
		p := *q
		out.Policies = append(out.Policies, &p)
		p.Ingress = slices.Clone(p.Ingress)
		for j := range p.Ingress {
			r := &p.Ingress[j]
			r.Peers, r.Ports, r.HTTP = slices.Clone(r.Peers), slices.Clone(r.Ports), slices.Clone(r.HTTP)
			for k := range r.Peers {
				r.Peers[k].ServiceAccounts = slices.Clone(r.Peers[k].ServiceAccounts)
				if b := r.Peers[k].Block; b != nil {
					r.Peers[k].Block = &model.IPBlock{CIDR: b.CIDR, Except: slices.Clone(b.Except)}
				}
			}
			for k := range r.HTTP {
				m := &r.HTTP[k]
				m.Hosts, m.Methods, m.Paths, m.Headers = slices.Clone(m.Hosts), slices.Clone(m.Methods), slices.Clone(m.Paths), slices.Clone(m.Headers)
			}
		}
	}
	return &out
}

// Ways to reach into a snapshot.

func eachPolicy(change func(*model.Policy)) func(*model.Snapshot) {
	return func(s *model.Snapshot) {
		for _, p := range s.Policies {
			change(p)
		}
	}
}

func eachRule(change func(*model.Policy, *model.Rule)) func(*model.Snapshot) {
	return eachPolicy(func(p *model.Policy) {
		for i := range p.Ingress {
			change(p, &p.Ingress[i])
		}
	})
}

func eachPeer(change func(*model.Peer)) func(*model.Snapshot) {
	return eachRule(func(_ *model.Policy, r *model.Rule) {
		for i := range r.Peers {
			change(&r.Peers[i])
		}
	})
}

func eachPort(change func(*model.PortRange)) func(*model.Snapshot) {
	return eachRule(func(_ *model.Policy, r *model.Rule) {
		for i := range r.Ports {
			change(&r.Ports[i])
		}
	})
}

func eachMatch(change func(*model.Policy, *model.HTTPMatch)) func(*model.Snapshot) {
	return eachRule(func(p *model.Policy, r *model.Rule) {
		for i := range r.HTTP {
			change(p, &r.HTTP[i])
		}
	})
}

func eachHeader(change func(*model.HeaderMatch)) func(*model.Snapshot) {
	return eachMatch(func(_ *model.Policy, m *model.HTTPMatch) {
		for i := range m.Headers {
			change(&m.Headers[i])
		}
	})
}

func eachPath(change func(*model.PathMatch)) func(*model.Snapshot) {
	return eachMatch(func(_ *model.Policy, m *model.HTTPMatch) {
		for i := range m.Paths {
			change(&m.Paths[i])
		}
	})
}

// Ways to reach into a matcher.

// eachMatcher visits a matcher and all within it.
func eachMatcher(change func(*matcher)) func(*matcher) {
	var visit func(*matcher)
	visit = func(m *matcher) {
		if m == nil {
			return
		}
		change(m)
		for _, o := range follows(m) {
			visit(o.GetMatcher())
		}
	}
	return visit
}

// follows are all onMatches of a matcher, the last one what follows when nothing matches.
func follows(m *matcher) []*onMatch {
	var out []*onMatch
	for _, f := range m.GetMatcherList().GetMatchers() {
		out = append(out, f.GetOnMatch())
	}
	for _, entries := range []map[string]*onMatch{m.GetMatcherTree().GetExactMatchMap().GetMap(), m.GetMatcherTree().GetPrefixMatchMap().GetMap()} {
		for _, o := range entries {
			out = append(out, o)
		}
	}
	return append(out, m.GetOnNoMatch())
}

// eachAction changes the actions.
func eachAction(change func(*rbacconfigv3.Action)) func(*matcher) {
	return eachMatcher(func(m *matcher) {
		for _, o := range follows(m) {
			packed := o.GetAction().GetTypedConfig()
			if packed == nil {
				continue
			}
			a := &rbacconfigv3.Action{}
			must(packed.UnmarshalTo(a))
			change(a)
			must(packed.MarshalFrom(a))
		}
	})
}

// eachPredicate replaces predicates, those within before those around.
func eachPredicate(change func(*predicate) *predicate) func(*matcher) {
	var visit func(*predicate) *predicate
	visit = func(p *predicate) *predicate {
		for _, list := range []*xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{p.GetAndMatcher(), p.GetOrMatcher()} {
			for i, inner := range list.GetPredicate() {
				list.Predicate[i] = visit(inner)
			}
		}
		if n, ok := p.GetMatchType().(*xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher); ok {
			n.NotMatcher = visit(n.NotMatcher)
		}
		return change(p)
	}
	return eachMatcher(func(m *matcher) {
		for _, f := range m.GetMatcherList().GetMatchers() {
			f.Predicate = visit(f.GetPredicate())
		}
	})
}

// eachText changes what values are compared with, given the input: the name of a header, "port" or "source".
func eachText(change func(input string, s *text)) func(*matcher) {
	return eachPredicate(func(p *predicate) *predicate {
		if s := p.GetSinglePredicate().GetValueMatch(); s != nil {
			change(inputName(p), s)
		}
		return p
	})
}

// eachRegex rewrites expressions.
func eachRegex(change func(input, expr string) string) func(*matcher) {
	return eachText(func(input string, s *text) {
		if r := s.GetSafeRegex(); r != nil {
			if r.Regex = change(input, r.GetRegex()); r.Regex == "" {
				r.Regex = "(?:)"
			}
		}
	})
}

func inputName(p *predicate) string {
	in := p.GetSinglePredicate().GetInput()
	m := &matcherv3.HttpRequestHeaderMatchInput{}
	if in.GetTypedConfig().UnmarshalTo(m) == nil {
		return m.GetHeaderName()
	}
	return in.GetName()
}

func not(p *predicate) *predicate {
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_NotMatcher{NotMatcher: p}}
}

func all(ps ...*predicate) *predicate {
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_AndMatcher{
		AndMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: ps},
	}}
}

func either(ps ...*predicate) *predicate {
	return &predicate{MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_OrMatcher{
		OrMatcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_PredicateList{Predicate: ps},
	}}
}

// matching is a predicate on the input of another one.
func matching(of *predicate, expr string) *predicate {
	out := proto.CloneOf(of)
	out.GetSinglePredicate().Matcher = &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: regexText(expr)}
	return out
}

func regexText(expr string) *text {
	return &text{MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{SafeRegex: &xdsmatcherv3.RegexMatcher{
		Regex: expr, EngineType: &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}},
	}}}
}

// Ways to reach into resources.

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// eachSlot changes both filters, where they stand in their slots.
func eachSlot(http func(*rbacv3.RBAC), tcp func(*networkrbacv3.RBAC)) func([]proto.Message) []proto.Message {
	return func(resources []proto.Message) []proto.Message {
		out := slices.Clone(resources)
		for i, r := range resources {
			slot, ok := r.(*corev3.TypedExtensionConfig)
			if !ok || slot.GetName() != rbac.HTTPSlot && slot.GetName() != rbac.TCPSlot {
				continue
			}
			m, err := slot.GetTypedConfig().UnmarshalNew()
			must(err)
			switch m := m.(type) {
			case *rbacv3.RBAC:
				http(m)
			case *networkrbacv3.RBAC:
				tcp(m)
			}
			packed := new(anypb.Any)
			must(anypb.MarshalFrom(packed, m, proto.MarshalOptions{Deterministic: true}))
			out[i] = &corev3.TypedExtensionConfig{Name: slot.GetName(), TypedConfig: packed}
		}
		return out
	}
}

// inMatchers changes all matchers of both filters, the shadows too.
func inMatchers(change func(*matcher)) func([]proto.Message) []proto.Message {
	return eachSlot(func(m *rbacv3.RBAC) { change(m.GetMatcher()); change(m.GetShadowMatcher()) }, func(m *networkrbacv3.RBAC) { change(m.GetMatcher()); change(m.GetShadowMatcher()) })
}

// inListeners changes copies of listeners.
func inListeners(change func(*listenerv3.Listener)) func([]proto.Message) []proto.Message {
	return func(resources []proto.Message) []proto.Message {
		out := slices.Clone(resources)
		for i, r := range resources {
			if l, ok := r.(*listenerv3.Listener); ok {
				l = proto.CloneOf(l)
				change(l)
				out[i] = l
			}
		}
		return out
	}
}

func eachChain(change func(*listenerv3.FilterChain)) func([]proto.Message) []proto.Message {
	return inListeners(func(l *listenerv3.Listener) {
		for _, c := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
			if c != nil {
				change(c)
			}
		}
	})
}

func eachManager(change func(*hcmv3.HttpConnectionManager)) func([]proto.Message) []proto.Message {
	return eachChain(func(c *listenerv3.FilterChain) {
		for _, f := range c.GetFilters() {
			m := &hcmv3.HttpConnectionManager{}
			if f.GetTypedConfig().UnmarshalTo(m) == nil {
				change(m)
				must(f.GetTypedConfig().MarshalFrom(m))
			}
		}
	})
}
