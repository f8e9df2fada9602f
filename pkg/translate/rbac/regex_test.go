package rbac

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	echov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/echo/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expr    string
		action  model.Action
		without rune
		match   []string
		not     []string
	}{
		{`/a.*`, model.Allow, '?', []string{"/a", "/abc"}, []string{"/a?", "/b", "x/a"}},
		{`/a|/b`, model.Allow, '?', []string{"/a", "/b"}, []string{"/aX", "X/b"}},
		{`[^a]+`, model.Allow, '?', []string{"bc", "b\n"}, []string{"b?", "a"}},
		{`\S+`, model.Allow, '?', []string{"b"}, []string{"b?", " "}},
		{`\W`, model.Deny, '?', []string{"-"}, []string{"?", "w"}},
		{`a\?|b`, model.Allow, '?', []string{"b"}, []string{"a?", "a"}},
		{`(?i)/AdMin(/.*)?`, model.Deny, '?', []string{"/admin", "/ADMIN/x"}, []string{"/admin?"}},
		{`^/a$`, model.Allow, '?', []string{"/a"}, []string{"/b"}},
		{`^(/a|/b)$`, model.Allow, '?', []string{"/a", "/b"}, []string{"/c"}},
		{`/a(?:$|/b)`, model.Deny, '?', []string{"/a", "/a/b"}, []string{"/b"}},
		{`a{2,3}b{0}c?`, model.Allow, '?', []string{"aa", "aaac"}, []string{"a", "aab"}},
		{`x,*y`, model.Allow, ',', []string{"xy"}, []string{"x,y"}},
		{`(?i)[a-z]+`, model.Deny, ',', []string{"sK"}, []string{"\u00e9", "\u017f", "\u212a"}},
		{`(?i)[^k]+`, model.Allow, ',', []string{"s\u00e9"}, []string{"k", "K"}},
		{`a.c`, model.Allow, '?', []string{"abc"}, []string{"a\nc", "ac"}},
		{`[a\-\]]`, model.Allow, '?', []string{"a", "-", "]"}, []string{"b", `\`}},
	} {
		got, err := rewrite(c.expr, c.action, c.without)
		if err != nil || got.never {
			t.Errorf("%s: %+v, %v", c.expr, got, err)
			continue
		}
		re := regexp.MustCompile(`\A(?:` + got.text + `)\z`)
		for _, s := range c.match {
			if !re.MatchString(s) {
				t.Errorf("%s (%s): %q is not matched", c.expr, got.text, s)
			}
			if !strings.HasPrefix(s, got.literal) {
				t.Errorf("%s: %q does not begin with %q", c.expr, s, got.literal)
			}
		}
		for _, s := range c.not {
			if re.MatchString(s) {
				t.Errorf("%s (%s): %q is matched", c.expr, got.text, s)
			}
		}
	}
	for _, expr := range []string{`a\?b`, `[?]+`, `x(?:\?)y`} {
		if got, err := rewrite(expr, model.Allow, '?'); err != nil || !got.never {
			t.Errorf("%s: got %+v and %v, want an expression that matches nothing", expr, got, err)
		}
	}
}

// randomExpression draws an expression of a few operators.
func randomExpression(r *rand.Rand, depth int) string {
	if depth == 0 || r.IntN(4) == 0 {
		atoms := []string{"a", "/", ".", "[a-c]", "[^/]", `\d`, `\w`, `\S`, "abc", "(?i:sk)", `\.`, "[aeiou]", "é", `\x41`, "", "^", "$", `\b`}
		return atoms[r.IntN(len(atoms))]
	}
	a, b := randomExpression(r, depth-1), randomExpression(r, depth-1)
	switch r.IntN(6) {
	case 0:
		return "(?:" + a + "|" + b + ")"
	case 1:
		return "(?:" + a + ")" + []string{"*", "+", "?", "*?", "{2,5}", "{3}", "{2,}"}[r.IntN(7)]
	}
	return a + b
}

// Envoy refuses the whole configuration for one expression that is too large: what is counted here must never be less than what it counts.
func TestProgramIsNotUnderestimated(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 3))
	estimates := map[string]int{}
	for range 400 {
		expr := randomExpression(r, 5)
		for _, action := range []model.Action{model.Allow, model.Deny} {
			for _, without := range []rune{'?', ',', noRune} {
				if got, err := rewrite(expr, action, without); err == nil && !got.never && got.text != "" && got.program < maxProgram {
					estimates[got.text] = got.program
				}
			}
		}
	}
	const flagged = 2
	for range 200 {
		segments := make([]string, 1+r.IntN(80))
		for i := range segments {
			segments[i] = strings.Repeat([]string{"a", ":", "é", "x-y"}[r.IntN(4)], 1+r.IntN(8*flagged))
		}
		expr, _ := deniedSegments(segments)
		estimates[expr+trailer+anyQuery] = maxProgram
	}
	for _, fixed := range []string{doubtfulPath, soundAuthority, wellFormedText, oddPath, hasParameters} {
		estimates[fixed] = maxProgram / 4
	}
	for _, name := range []string{"x-a", "cookie"} {
		l := listOf(name)
		estimates[l.before+"(?:)"+l.after] = listProgram
	}
	estimates["(?i)(?:"+strings.Repeat("sk", 100)+")"+hostTail] = 2*200 + hostTailProgram

	sizes := envoyProgramSizes(t, estimates)
	if len(sizes) < len(estimates)/2 {
		t.Fatalf("Envoy spoke of %d expressions of %d", len(sizes), len(estimates))
	}
	for expr, size := range sizes {
		if estimate, ok := estimates[expr]; ok && size > estimate {
			t.Errorf("seed %d: %.300s: Envoy counts %d, estimated %d", seed, expr, size, estimate)
		}
	}
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	out, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// envoyProgramSizes asks Envoy, which warns of every expression above a level. It counts those of RBAC's rules only, but compiles all the same way.
func envoyProgramSizes(t *testing.T, exprs map[string]int) map[string]int {
	t.Helper()
	policy := &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}}
	for expr := range exprs {
		policy.Permissions = append(policy.Permissions, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_RequestedServerName{
			RequestedServerName: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
				EngineType: &matcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &matcherv3.RegexMatcher_GoogleRE2{}}, Regex: expr, //nolint:staticcheck // what is deprecated is what is tested
			}}},
		}})
	}
	filters := []*listenerv3.Filter{
		{Name: "rbac", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, &networkrbacv3.RBAC{
			StatPrefix: statPrefix, Rules: &rbacconfigv3.RBAC{Policies: map[string]*rbacconfigv3.Policy{"all": policy}},
		})}},
		{Name: "echo", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, &echov3.Echo{})}},
	}
	listener := &listenerv3.Listener{
		Name: "sizes", FilterChains: []*listenerv3.FilterChain{{Filters: filters}},
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{},
		}}},
	}
	body, err := protojson.Marshal(listener)
	if err != nil {
		t.Fatal(err)
	}
	admin := envoytest.AdminSocket(t)
	log := envoytest.Start(t, fmt.Sprintf(`{"admin": {"address": {"pipe": {"path": %q}}},
		"layered_runtime": {"layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": %d, "re2.max_program_size.warn_level": 1}}]},
		"static_resources": {"listeners": [%s]}}`, admin, maxProgram, body), admin).Log()
	out := map[string]int{}
	for _, m := range regexp.MustCompile(`(?s)regex '(.*?)' RE2 program size of ([0-9]+) >`).FindAllStringSubmatch(log, -1) {
		out[m[1]], _ = strconv.Atoi(m[2])
	}
	return out
}
