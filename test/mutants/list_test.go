package mutants_test

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	sslinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/ssl/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

func mutants() []mutant {
	return slices.Concat(policyMutants(), peerMutants(), portMutants(), httpMutants(), pathMutants(), hostMutants(), headerMutants(), treeMutants(), actionMutants(), listenerMutants())
}

func policyMutants() []mutant {
	return []mutant{
		{name: "DryRun is enforced", snapshot: eachPolicy(func(p *model.Policy) { p.DryRun = false })},
		{name: "policies are not enforced", snapshot: eachPolicy(func(p *model.Policy) { p.DryRun = true })},
		{name: "denies are forgotten", snapshot: func(s *model.Snapshot) {
			s.Policies = slices.DeleteFunc(s.Policies, func(p *model.Policy) bool { return p.Action == model.Deny })
		}},
		{name: "an allow without rules does not isolate", snapshot: func(s *model.Snapshot) {
			s.Policies = slices.DeleteFunc(s.Policies, func(p *model.Policy) bool { return p.Action == model.Allow && len(p.Ingress) == 0 })
		}},
		{name: "a deny isolates", snapshot: func(s *model.Snapshot) {
			for _, p := range s.Policies {
				if p.Action == model.Deny {
					allow := *p
					allow.Action, allow.Ingress, allow.Name = model.Allow, nil, "z"
					s.Policies = append(s.Policies, &allow)
				}
			}
		}},
		{name: "a deny without rules denies everything", snapshot: eachPolicy(func(p *model.Policy) {
			if p.Action == model.Deny && len(p.Ingress) == 0 {
				p.Ingress = []model.Rule{{Name: "all"}}
			}
		})},
		{name: "policies of other namespaces govern", snapshot: eachPolicy(func(p *model.Policy) { p.Namespace = "shop" })},
		{name: "policies govern whom they do not select", snapshot: eachPolicy(func(p *model.Policy) { p.Selector = labels.Everything() })},
		{name: "policies of the other direction govern", snapshot: eachPolicy(func(p *model.Policy) { p.IsolatesIngress = true })},
		{name: "allows of several policies are not joined", snapshot: func(s *model.Snapshot) {
			seen := false
			s.Policies = slices.DeleteFunc(s.Policies, func(p *model.Policy) bool {
				drop := seen && p.Action == model.Allow
				seen = seen || p.Action == model.Allow
				return drop
			})
		}},
		{name: "only the first rule counts", snapshot: eachPolicy(func(p *model.Policy) { p.Ingress = p.Ingress[:min(1, len(p.Ingress))] })},
	}
}

func peerMutants() []mutant {
	return []mutant{
		{name: "selectors of one peer are ORed", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			for _, p := range r.Peers {
				if p.Namespaces != nil && p.Pods != nil {
					r.Peers = append(r.Peers, model.Peer{Namespaces: p.Namespaces}, model.Peer{Namespaces: labels.Everything(), Pods: p.Pods})
				}
			}
		})},
		{name: "accounts of a peer are ORed with its selectors", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			for _, p := range r.Peers {
				if p.ServiceAccounts != nil && p.Pods != nil {
					r.Peers = append(r.Peers, model.Peer{Namespaces: labels.Everything(), ServiceAccounts: p.ServiceAccounts})
				}
			}
		})},
		{name: "accounts of a peer are ignored", snapshot: eachPeer(func(p *model.Peer) { p.ServiceAccounts = nil })},
		{name: "only the first peer counts", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) { r.Peers = r.Peers[:min(1, len(r.Peers))] })},
		{name: "peers that mean nobody mean anybody", snapshot: func(s *model.Snapshot) {
			ix := model.NewIndex(s)
			eachRule(func(p *model.Policy, r *model.Rule) {
				if r.Peers != nil && !slices.ContainsFunc(r.Peers, func(x model.Peer) bool { return x.Block != nil || len(ix.PeerWorkloads(p.Namespace, x)) > 0 }) {
					r.Peers = nil
				}
			})(s)
		}},
		{name: "a peer without namespaces means all of them", snapshot: eachPeer(func(p *model.Peer) {
			if p.Namespaces == nil && p.Block == nil {
				p.Namespaces = labels.Everything()
			}
		})},
		{name: "accounts are expressions", snapshot: eachPeer(func(p *model.Peer) {
			for i, a := range p.ServiceAccounts {
				if regexp.MustCompile("^" + a + "$").MatchString("front") {
					p.ServiceAccounts[i] = "front"
				}
			}
		})},
		{name: "an account is known without its stamp", snapshot: func(s *model.Snapshot) {
			for i := range s.Pods {
				if a := s.Pods[i].ServiceAccount; a != "" {
					s.Pods[i].Labels = map[string]string{v1alpha1.LabelServiceAccount: a}
				}
			}
		}},
		{name: "exceptions are ignored", snapshot: eachPeer(func(p *model.Peer) {
			if p.Block != nil {
				p.Block.Except = nil
			}
		})},
		{name: "exceptions are blocks", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			for _, p := range r.Peers {
				if p.Block != nil && p.Block.Except != nil {
					r.Peers = append(r.Peers, model.Peer{Block: &model.IPBlock{CIDR: p.Block.Except[0]}})
				}
			}
		})},
		{name: "a block is a bit too wide", snapshot: eachPeer(func(p *model.Peer) {
			if p.Block != nil {
				p.Block.CIDR = netip.PrefixFrom(p.Block.CIDR.Addr(), p.Block.CIDR.Bits()-1).Masked()
			}
		})},
		{name: "a block is a bit too narrow", snapshot: eachPeer(func(p *model.Peer) {
			if p.Block != nil && p.Block.CIDR.Bits() < 32 {
				p.Block.CIDR = netip.PrefixFrom(p.Block.CIDR.Addr(), p.Block.CIDR.Bits()+1).Masked()
			}
		})},
		{name: "blocks are of mapped addresses", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			return changeRanges(p, func(r *corev3.CidrRange) {
				r.AddressPrefix, r.PrefixLen = "::ffff:"+r.GetAddressPrefix(), wrapperspb.UInt32(r.GetPrefixLen().GetValue()+96)
			})
		}))},
		{name: "a range without its length", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			return changeRanges(p, func(r *corev3.CidrRange) { r.PrefixLen = nil })
		}))},
		{name: "sources are matched where they are not", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if isSource(p) {
				return not(p)
			}
			return p
		}))},
		{name: "an address is the beginning of others", sent: inMatchers(eachText(func(input string, s *text) {
			if input != "source" {
				return
			}
			if s.GetSafeRegex() == nil {
				s.MatchPattern = &xdsmatcherv3.StringMatcher_Prefix{Prefix: s.GetExact()}
			}
			rewrite(s, func(expr string) string { return expr + `\C*` })
		}))},
		{name: "only the first of some addresses counts", sent: inMatchers(eachRegex(func(input, expr string) string {
			if first, _, found := strings.Cut(expr, "|"); input == "source" && found {
				return first + ")"
			}
			return expr
		}))},
		{name: "certificates are looked at on plaintext", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if !isSource(p) {
				return p
			}
			out := matching(p, "spiffe://.*")
			packed, err := anypb.New(&sslinputsv3.UriSanInput{})
			must(err)
			out.GetSinglePredicate().Input = &xdscorev3.TypedExtensionConfig{Name: "uri", TypedConfig: packed}
			return not(out)
		}))},
		{name: "plaintext callers are not somebody else", sent: eachSlot(notAuthenticated, func(*networkrbacv3.RBAC) {})},
	}
}

// notAuthenticated allows whoever is not one principal, and so whoever is none.
func notAuthenticated(m *rbacv3.RBAC) {
	m.Matcher = nil
	m.Rules = &rbacconfigv3.RBAC{Policies: map[string]*rbacconfigv3.Policy{"p": {
		Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}},
		Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_NotId{NotId: &rbacconfigv3.Principal{
			Identifier: &rbacconfigv3.Principal_Authenticated_{Authenticated: &rbacconfigv3.Principal_Authenticated{}},
		}}}},
	}}}
}

func isSource(p *predicate) bool { return p.GetSinglePredicate() != nil && inputName(p) == "source" }

func changeRanges(p *predicate, change func(*corev3.CidrRange)) *predicate {
	custom := p.GetSinglePredicate().GetCustomMatch()
	if custom == nil {
		return p
	}
	m := &ipv3.Ip{}
	must(custom.GetTypedConfig().UnmarshalTo(m))
	for _, r := range m.GetCidrRanges() {
		change(r)
	}
	must(custom.GetTypedConfig().MarshalFrom(m))
	return p
}

func portMutants() []mutant {
	return []mutant{
		{name: "the end of a range is not in it", snapshot: eachPort(func(p *model.PortRange) {
			if p.To > p.From {
				p.To--
			}
		})},
		{name: "the end of a range is one too far", snapshot: eachPort(func(p *model.PortRange) {
			if p.To > p.From && p.To < 65535 {
				p.To++
			}
		})},
		{name: "the beginning of a range is not in it", snapshot: eachPort(func(p *model.PortRange) {
			if p.To > p.From {
				p.From++
			}
		})},
		{name: "a range is its beginning", snapshot: eachPort(func(p *model.PortRange) { p.To = p.From })},
		{name: "UDP is TCP", snapshot: eachPort(func(p *model.PortRange) { p.Protocol = model.TCP })},
		{name: "a named port is any", snapshot: eachPort(func(p *model.PortRange) { p.Name = "" })},
		{name: "a name nobody has matches nothing in a deny", snapshot: eachRule(func(p *model.Policy, r *model.Rule) {
			if p.Action == model.Deny {
				r.Ports = slices.DeleteFunc(r.Ports, func(x model.PortRange) bool { return x.Name == "none" })
			}
		})},
		{name: "ports without any TCP are any", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			if !slices.ContainsFunc(r.Ports, func(p model.PortRange) bool { return p.Protocol == model.TCP }) {
				r.Ports = nil
			}
		})},
		{name: "ports are ignored", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) { r.Ports = nil })},
		{name: "policies' ports are taken for sockets'", slots: []string{rbac.HTTPSlot, rbac.TCPSlot}, snapshot: func(s *model.Snapshot) {
			for i := range s.Pods {
				s.Pods[i].Proxy.Bound = nil
			}
		}},
		{name: "numbers are prefixes", sent: inMatchers(eachText(func(input string, s *text) {
			if input == "port" && s.GetExact() != "" {
				s.MatchPattern = &xdsmatcherv3.StringMatcher_Prefix{Prefix: s.GetExact()[:3]}
			}
		}))},
		{name: "the sidecar's own ports are open", sent: inMatchers(eachMatcher(func(m *matcher) { dropNamed(m, model.OutcomeReservedPort) }))},
	}
}

func dropNamed(m *matcher, name string) {
	list := m.GetMatcherList()
	if list == nil {
		return
	}
	kept := slices.DeleteFunc(slices.Clone(list.GetMatchers()), func(f *xdsmatcherv3.Matcher_MatcherList_FieldMatcher) bool {
		a := &rbacconfigv3.Action{}
		packed := f.GetOnMatch().GetAction().GetTypedConfig()
		return packed != nil && packed.UnmarshalTo(a) == nil && a.GetName() == name
	})
	if len(kept) == 0 {
		m.MatcherType = nil
		return
	}
	list.Matchers = kept
}

func treeMutants() []mutant {
	return []mutant{
		{name: "a subtree that does not match denies", sent: inMatchers(eachMatcher(func(m *matcher) {
			rest := m.GetOnNoMatch()
			for _, o := range follows(m) {
				if o != rest && o.GetMatcher() != nil && o.GetMatcher().GetOnNoMatch() == nil {
					o.GetMatcher().OnNoMatch = action(model.OutcomeDefaultDeny, rbacconfigv3.RBAC_DENY)
				}
			}
		}))},
		{name: "a prefix map is exact", sent: inMatchers(eachMatcher(func(m *matcher) {
			if t, ok := m.GetMatcherTree().GetTreeType().(*xdsmatcherv3.Matcher_MatcherTree_PrefixMatchMap); ok {
				m.GetMatcherTree().TreeType = &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: t.PrefixMatchMap}
			}
		}))},
		{name: "a map knows one key less", sent: inMatchers(eachMatcher(func(m *matcher) {
			for _, entries := range []map[string]*onMatch{m.GetMatcherTree().GetExactMatchMap().GetMap(), m.GetMatcherTree().GetPrefixMatchMap().GetMap()} {
				if len(entries) > 1 {
					delete(entries, slices.Sorted(maps.Keys(entries))[0])
				}
			}
		}))},
		{name: "conditions are ORed", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if list := p.GetAndMatcher(); list != nil {
				return either(list.GetPredicate()...)
			}
			return p
		}))},
		{name: "alternatives are ANDed", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if list := p.GetOrMatcher(); list != nil {
				return all(list.GetPredicate()...)
			}
			return p
		}))},
		{name: "negations are forgotten", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if inner := p.GetNotMatcher(); inner != nil {
				return inner
			}
			return p
		}))},
		{name: "the last condition is forgotten", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if list := p.GetAndMatcher().GetPredicate(); len(list) > 2 {
				return all(list[:len(list)-1]...)
			}
			return p
		}))},
		{name: "the last entry of a list is forgotten", sent: inMatchers(eachMatcher(func(m *matcher) {
			if list := m.GetMatcherList(); len(list.GetMatchers()) > 2 {
				list.Matchers = list.Matchers[:len(list.Matchers)-1]
			}
		}))},
		{name: "allows come before denies", sent: inMatchers(func(m *matcher) { reorder(m) })},
	}
}

// reorder moves the matchers on the way to the default that deny behind those that allow.
func reorder(m *matcher) {
	var stages []*matcher
	for x := m; x != nil; x = x.GetOnNoMatch().GetMatcher() {
		stages = append(stages, x)
	}
	if len(stages) < 2 {
		return
	}
	last := stages[len(stages)-1].GetOnNoMatch()
	copies := make([]*matcher, 0, len(stages))
	for _, x := range stages {
		copies = append(copies, &matcher{MatcherType: x.MatcherType})
	}
	slices.SortStableFunc(copies, func(a, b *matcher) int { return rank(a) - rank(b) })
	for i, x := range stages {
		x.MatcherType = copies[i].MatcherType
	}
	stages[len(stages)-1].OnNoMatch = last
}

func rank(m *matcher) int {
	out := 0
	eachAction(func(a *rbacconfigv3.Action) {
		if a.GetAction() == rbacconfigv3.RBAC_DENY && strings.Contains(a.GetName(), "/") {
			out = 1
		}
	})(m)
	return out
}

func action(name string, verdict rbacconfigv3.RBAC_Action) *onMatch {
	packed, err := anypb.New(&rbacconfigv3.Action{Name: name, Action: verdict})
	must(err)
	return &onMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{Action: &xdscorev3.TypedExtensionConfig{Name: "action", TypedConfig: packed}}}
}

func actionMutants() []mutant {
	named := func(name string, change func(*rbacconfigv3.Action)) func([]proto.Message) []proto.Message {
		return inMatchers(eachAction(func(a *rbacconfigv3.Action) {
			if a.GetName() == name {
				change(a)
			}
		}))
	}
	return []mutant{
		{name: "the default allows", sent: named(model.OutcomeDefaultDeny, func(a *rbacconfigv3.Action) { a.Action = rbacconfigv3.RBAC_ALLOW })},
		{name: "the default has another name", sent: named(model.OutcomeDefaultDeny, func(a *rbacconfigv3.Action) { a.Name = "default" })},
		{name: "the default has no name", sent: inMatchers(eachMatcher(func(m *matcher) {
			if m.GetOnNoMatch().GetAction() != nil && m.GetMatcherType() != nil {
				m.OnNoMatch = nil
			}
		}))},
		{name: "who is open is shut", sent: named(model.OutcomeNotIsolated, func(a *rbacconfigv3.Action) { a.Action = rbacconfigv3.RBAC_DENY })},
		{name: "denies are logged", sent: inMatchers(eachAction(func(a *rbacconfigv3.Action) {
			if a.GetAction() == rbacconfigv3.RBAC_DENY {
				a.Action = rbacconfigv3.RBAC_LOG
			}
		}))},
		{name: "rules have each other's names", sent: inMatchers(eachAction(func(a *rbacconfigv3.Action) {
			if strings.HasSuffix(a.GetName(), "/0") {
				a.Name = strings.TrimSuffix(a.GetName(), "0") + "1"
			}
		}))},
		{name: "the guard has the default's name", sent: named(model.OutcomeGuardPath, func(a *rbacconfigv3.Action) { a.Name = model.OutcomeDefaultDeny })},
		{name: "rules stand beside the matcher", sent: eachSlot(func(m *rbacv3.RBAC) { m.Rules = &rbacconfigv3.RBAC{} }, func(*networkrbacv3.RBAC) {})},
		{name: "rules stand beside the shadow", sent: eachSlot(func(*rbacv3.RBAC) {}, func(m *networkrbacv3.RBAC) { m.ShadowRules = &rbacconfigv3.RBAC{} })},
		{name: "no filter", sent: eachSlot(func(m *rbacv3.RBAC) { m.Matcher = nil }, func(*networkrbacv3.RBAC) {})},
		{name: "the dry run is not told", sent: eachSlot(func(m *rbacv3.RBAC) { m.ShadowMatcher = nil }, func(*networkrbacv3.RBAC) {})},
		{name: "the dry run is in force", sent: eachSlot(func(m *rbacv3.RBAC) {
			if m.GetShadowMatcher() != nil {
				m.Matcher = m.GetShadowMatcher()
			}
		}, func(*networkrbacv3.RBAC) {})},
		{name: "the dry run is what is in force", sent: eachSlot(func(*rbacv3.RBAC) {}, func(m *networkrbacv3.RBAC) {
			if m.GetShadowMatcher() != nil {
				m.ShadowMatcher = m.GetMatcher()
			}
		})},
	}
}

func listenerMutants() []mutant {
	isSlot := func(name string) bool { return name == rbac.HTTPSlot || name == rbac.TCPSlot }
	return []mutant{
		{name: "an HTTP chain without its filter", sent: eachManager(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters = slices.DeleteFunc(m.GetHttpFilters(), func(f *hcmv3.HttpFilter) bool { return isSlot(f.GetName()) })
		})},
		{name: "a TCP chain without its filter", sent: eachChain(func(c *listenerv3.FilterChain) {
			c.Filters = slices.DeleteFunc(c.GetFilters(), func(f *listenerv3.Filter) bool { return isSlot(f.GetName()) })
		})},
		{name: "other ports without a filter", sent: inListeners(func(l *listenerv3.Listener) {
			if c := l.GetDefaultFilterChain(); c != nil {
				c.Filters = slices.DeleteFunc(c.GetFilters(), func(f *listenerv3.Filter) bool { return isSlot(f.GetName()) })
			}
		})},
		{name: "other ports are closed", sent: inListeners(func(l *listenerv3.Listener) { l.DefaultFilterChain = nil })},
		{name: "the sidecar's ports lead to the application", sent: inListeners(func(l *listenerv3.Listener) {
			l.FilterChains = slices.DeleteFunc(l.GetFilterChains(), func(c *listenerv3.FilterChain) bool { return len(c.GetFilters()) == 0 })
		})},
		{name: "an HTTP port is TCP", sent: inListeners(func(l *listenerv3.Listener) {
			for i, c := range l.GetFilterChains() {
				if strings.HasPrefix(c.GetName(), "http") && l.GetDefaultFilterChain() != nil {
					tcp := proto.CloneOf(l.GetDefaultFilterChain())
					tcp.FilterChainMatch = c.GetFilterChainMatch()
					l.FilterChains[i] = tcp
				}
			}
		})},
		{name: "before its content has come a slot allows", sent: eachChain(func(c *listenerv3.FilterChain) {
			for _, f := range c.GetFilters() {
				if f.GetName() == rbac.TCPSlot {
					packed, err := anypb.New(&networkrbacv3.RBAC{StatPrefix: "x", Matcher: &matcher{OnNoMatch: action("open", rbacconfigv3.RBAC_ALLOW)}})
					must(err)
					f.GetConfigDiscovery().DefaultConfig = packed
				}
			}
		})},
		{name: "paths are not normalized", sent: eachManager(func(m *hcmv3.HttpConnectionManager) { m.NormalizePath = nil })},
		{name: "slashes are not merged", sent: eachManager(func(m *hcmv3.HttpConnectionManager) { m.MergeSlashes = false })},
		{name: "escaped slashes are kept", sent: eachManager(func(m *hcmv3.HttpConnectionManager) {
			m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
		})},
		{name: "underscores pass", sent: eachManager(func(m *hcmv3.HttpConnectionManager) {
			m.GetCommonHttpProtocolOptions().HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
		})},
		{name: "callers say who they are", sent: eachManager(func(m *hcmv3.HttpConnectionManager) { m.XffNumTrustedHops = 1 })},
		{name: "slots have each other's content", sent: func(resources []proto.Message) []proto.Message {
			out := slices.Clone(resources)
			for i, r := range out {
				if s, ok := r.(*corev3.TypedExtensionConfig); ok && isSlot(s.GetName()) {
					other := map[string]string{rbac.HTTPSlot: rbac.TCPSlot, rbac.TCPSlot: rbac.HTTPSlot}[s.GetName()]
					out[i] = &corev3.TypedExtensionConfig{Name: s.GetName(), TypedConfig: slotOf(resources, other).GetTypedConfig()}
				}
			}
			return out
		}},
	}
}
