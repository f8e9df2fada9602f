package rbac_test

import (
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkinputsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// interpreter runs a matcher as Envoy does, and counts what a request costs: one step for each look at an input. TestEnvoyAgreesWithEval shows
// that Envoy itself comes to the same verdicts.
type interpreter struct {
	t       testing.TB
	request model.Request
	steps   int
	regexps map[string]*regexp.Regexp // kept from request to request
}

func (i *interpreter) decide(m *xdsmatcherv3.Matcher) *rbacconfigv3.Action {
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

func (i *interpreter) follow(o *xdsmatcherv3.Matcher_OnMatch) *rbacconfigv3.Action {
	switch {
	case o.GetMatcher() != nil:
		return i.decide(o.GetMatcher())
	case o.GetAction() != nil:
		action := &rbacconfigv3.Action{}
		if err := o.GetAction().GetTypedConfig().UnmarshalTo(action); err != nil {
			i.t.Fatal(err)
		}
		return action
	}
	return nil
}

func (i *interpreter) lookUp(tree *xdsmatcherv3.Matcher_MatcherTree) *rbacconfigv3.Action {
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

func (i *interpreter) holds(p *xdsmatcherv3.Matcher_MatcherList_Predicate) bool {
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
	i.t.Fatalf("unknown predicate %v", p)
	return false
}

// regexp reads an RE2 expression with Go's package, which knows no \C. Requests here are ASCII, so bytes are runes.
func (i *interpreter) regexp(expr string) *regexp.Regexp {
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

func (i *interpreter) within(custom *xdscorev3.TypedExtensionConfig, value string) bool {
	ip := &ipv3.Ip{}
	if err := custom.GetTypedConfig().UnmarshalTo(ip); err != nil {
		i.t.Fatal(err)
	}
	for _, r := range ip.GetCidrRanges() {
		prefix := netip.MustParsePrefix(r.GetAddressPrefix() + "/" + strconv.Itoa(int(r.GetPrefixLen().GetValue())))
		if prefix.Contains(netip.MustParseAddr(value)) {
			return true
		}
	}
	return false
}

func (i *interpreter) input(e *xdscorev3.TypedExtensionConfig) (string, bool) {
	i.steps++
	switch e.GetTypedConfig().GetTypeUrl() {
	case "type.googleapis.com/" + string((&networkinputsv3.DestinationPortInput{}).ProtoReflect().Descriptor().FullName()):
		return strconv.Itoa(int(i.request.Port)), true
	case "type.googleapis.com/" + string((&networkinputsv3.DirectSourceIPInput{}).ProtoReflect().Descriptor().FullName()):
		return i.request.Source.String(), true
	}
	input := &matcherv3.HttpRequestHeaderMatchInput{}
	if err := e.GetTypedConfig().UnmarshalTo(input); err != nil {
		i.t.Fatal(err)
	}
	switch r := i.request.HTTP; input.GetHeaderName() {
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

// TestMatchersAgreeWithEval is TestEnvoyAgreesWithEval without Envoy: many more worlds in the same time.
func TestMatchersAgreeWithEval(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	const rounds, worlds, requests = 4, 30, 60
	for round := range uint64(rounds) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, round)), seed: seed}
		snapshot := &model.Snapshot{}
		var callees []*callee
		for i := range worlds {
			callees = append(callees, g.unbound(snapshot, i))
		}
		addCallers(snapshot)
		ix := model.NewIndex(snapshot)
		slots := slotsByNamespace(t, ix)
		in := &interpreter{t: t, regexps: map[string]*regexp.Regexp{}}
		for _, c := range callees {
			http, tcp := open(t, slots[c.namespace])
			for range requests {
				in.request = g.request(c)
				m := tcp.GetMatcher()
				if in.request.HTTP != nil {
					m = http.GetMatcher()
				}
				want := eval.Ingress(ix, ix.WorkloadOf(c.namespace, "callee"), in.request)
				got := in.decide(m)
				// Where several rules match, another one than eval's may be named; an outcome that is no rule's is always the same.
				sameName := got.GetName() == want.Decider || strings.Contains(got.GetName(), "/") && strings.Contains(want.Decider, "/")
				if (got.GetAction() == rbacconfigv3.RBAC_ALLOW) != want.Allowed || !sameName {
					t.Fatalf("seed %d, round %d: got %v, eval says %+v\nrequest %+v %+v\npolicies %s",
						seed, round, got, want, in.request, in.request.HTTP, describe(snapshot.Policies, c.namespace, want.Decider))
				}
			}
		}
	}
}

func slotsByNamespace(t *testing.T, ix *model.Index) map[string]rbac.Slots {
	t.Helper()
	out := map[string]rbac.Slots{}
	for _, w := range translate.Translate(ix).Workloads {
		s := rbac.Slots{}
		for _, r := range w.Resources {
			if slot, ok := r.Message.(*corev3.TypedExtensionConfig); ok && slot.GetName() == rbac.HTTPSlot {
				s.HTTP = slot
			} else if ok && slot.GetName() == rbac.TCPSlot {
				s.TCP = slot
			}
		}
		out[w.Workload.Namespace] = s
	}
	return out
}
