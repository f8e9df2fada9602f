package mutants_test

import (
	"regexp"
	"slices"
	"strings"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

func httpMutants() []mutant {
	return []mutant{
		{name: "an http rule allows on TCP", slots: []string{rbac.TCPSlot}, snapshot: eachRule(func(p *model.Policy, r *model.Rule) {
			if p.Action == model.Allow {
				r.HTTP = nil
			}
		})},
		{name: "an http rule denies nothing on TCP", slots: []string{rbac.TCPSlot}, snapshot: eachPolicy(func(p *model.Policy) {
			if p.Action == model.Deny {
				p.Ingress = slices.DeleteFunc(p.Ingress, func(r model.Rule) bool { return r.HTTP != nil })
			}
		})},
		{name: "http is ignored", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) { r.HTTP = nil })},
		{name: "only the first entry counts", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) { r.HTTP = r.HTTP[:min(1, len(r.HTTP))] })},
		{name: "entries are one", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			if len(r.HTTP) > 1 {
				r.HTTP = []model.HTTPMatch{{
					Hosts: append(r.HTTP[0].Hosts, r.HTTP[1].Hosts...), Methods: append(r.HTTP[0].Methods, r.HTTP[1].Methods...),
					Paths: append(r.HTTP[0].Paths, r.HTTP[1].Paths...), Headers: append(r.HTTP[0].Headers, r.HTTP[1].Headers...),
				}}
			}
		})},
		{name: "only the first method counts", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Methods = m.Methods[:min(1, len(m.Methods))] })},
		{name: "methods are ignored", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Methods = nil })},
		{name: "a deny of a method looks at its case", sent: inMatchers(eachText(func(input string, s *text) {
			if input == ":method" {
				s.IgnoreCase = false
				rewrite(s, func(expr string) string { return strings.ReplaceAll(expr, "(?i:", "(?:") })
			}
		}))},
		{name: "an allow of a method ignores its case", sent: inMatchers(eachText(func(input string, s *text) {
			if input == ":method" && !strings.Contains(s.GetSafeRegex().GetRegex(), "[a-z]") { // which is how odd ones are found
				ignoreCase(s)
			}
		}))},
	}
}

func replaced(input, from, to string) func([]proto.Message) []proto.Message {
	return inMatchers(eachRegex(func(in, expr string) string {
		if in != input {
			return expr
		}
		return strings.ReplaceAll(expr, from, to)
	}))
}

// allowedLiterals changes how the literal paths of an Allow end. The expressions of a Deny, and those that policies write, hold groups of other kinds.
func allowedLiterals(from, to string) func([]proto.Message) []proto.Message {
	return inMatchers(eachRegex(func(in, expr string) string {
		rest := strings.NewReplacer(`(?:\?\C*)?`, "", `(?:[/?]\C*)?`, "").Replace(expr)
		if in != ":path" || strings.Contains(rest, "(?") || strings.Contains(rest, "[") {
			return expr
		}
		return strings.ReplaceAll(expr, from, to)
	}))
}

func rewrite(s *text, change func(string) string) {
	if r := s.GetSafeRegex(); r != nil {
		r.Regex = change(r.GetRegex())
	}
}

func ignoreCase(s *text) {
	if s.GetSafeRegex() == nil {
		s.IgnoreCase = true
	}
	rewrite(s, func(expr string) string { return "(?i:" + expr + ")" })
}

func pathMutants() []mutant {
	return []mutant{
		{name: "an exact path knows no query", sent: allowedLiterals(`(?:\?\C*)?`, ``)},
		{name: "an exact path is a prefix", sent: allowedLiterals(`(?:\?\C*)?`, `\C*`)},
		{name: "an exact path is a directory", sent: allowedLiterals(`(?:\?\C*)?`, `(?:[/?]\C*)?`)},
		{name: "a prefix ends within a segment", sent: allowedLiterals(`(?:[/?]\C*)?`, `\C*`)},
		{name: "a prefix knows no query", sent: allowedLiterals(`(?:[/?]\C*)?`, `(?:/\C*)?`)},
		{name: "a denied prefix ends within a segment", sent: replaced(":path", `(?:[/?]\C*)?`, `\C*`)},
		{name: "a prefix is exact", snapshot: eachPath(func(m *model.PathMatch) {
			if m.Type == model.Prefix {
				m.Type = model.Exact
			}
		})},
		{name: "a literal is an expression", snapshot: eachPath(func(m *model.PathMatch) {
			if m.Type == model.Exact {
				m.Type = model.Regex
			}
		})},
		{name: "paths ignore case", sent: inMatchers(eachText(func(input string, s *text) {
			if input == ":path" && !strings.Contains(s.GetSafeRegex().GetRegex(), "[^?]*") { // which is how doubtful and odd ones are found
				ignoreCase(s)
			}
		}))},
		{name: "an expression need not match the whole", snapshot: eachPath(func(m *model.PathMatch) {
			if m.Type == model.Regex {
				flags, expr := "", m.Value
				if rest, found := strings.CutPrefix(expr, "(?i)"); found {
					flags, expr = "(?i)", rest
				}
				m.Value = flags + ".*(?:" + expr + ").*"
			}
		})},
		{name: "an expression reaches the query", sent: replaced(":path", `\>\@`, `\>\?\@`)},
		{name: "an expression knows no query", sent: inMatchers(eachRegex(func(in, expr string) string {
			if in == ":path" {
				return strings.TrimSuffix(expr, `(?:\?\C*)?`)
			}
			return expr
		}))},
		{name: "what follows a path is anything", sent: replaced(":path", `(?:\?\C*)?`, `\C*`)},
		{name: "an allow ignores parameters", sent: replaced(":path", `[^?]*(?:;|%3[bB])\C*`, `\C*[^\C]*;;;;`)},
		{name: "a deny of an expression ignores parameters", sent: inMatchers(eachRegex(func(in, expr string) string {
			if in == ":path" && expr == `[^?]*(?:;|%3[bB])\C*` {
				return "never"
			}
			return expr
		}))},
		{name: "a denied segment has no parameters", sent: replaced(":path", `(?:(?:;|%3[bB])[^/?]*)?`, ``)},
		{name: "parameters are never escaped", sent: replaced(":path", `(?:;|%3[bB])`, `;`)},
		{name: "a denied path has no empty segments", sent: replaced(":path", `/(?:(?:(?:;|%3[bB])[^/?]*)?/)*`, `/`)},
		{name: "a denied path has no slash at its end", sent: replaced(":path", `(?:/(?:(?:;|%3[bB])[^/?]*)?)*`, ``)},
		{name: "a denied character is never escaped", sent: replaced(":path", `(?:\:|%3[Aa])`, `\:`)},
		{name: "an escape has digits in upper case", sent: replaced(":path", `[Aa]`, `A`)},
		{name: "any byte is any byte of ASCII", sent: inMatchers(eachRegex(func(_, expr string) string { return strings.ReplaceAll(expr, `\C`, `[\x00-\x7f]`) }))},
		{name: "paths are ignored", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Paths = nil })},
		{name: "only the first path counts", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Paths = m.Paths[:min(1, len(m.Paths))] })},
		{name: "ambiguous paths pass", sent: inMatchers(eachMatcher(func(m *matcher) { dropNamed(m, model.OutcomeGuardPath) }))},
	}
}

func hostMutants() []mutant {
	return []mutant{
		{name: "hosts have case", sent: replaced(":authority", `(?i:`, `(?:`)},
		{name: "hosts have no port", sent: replaced(":authority", `(?::[0-9]*)?`, ``)},
		{name: "hosts have no trailing dot", sent: replaced(":authority", `\.?(?::`, `(?::`)},
		{name: "a wildcard begins anywhere", sent: replaced(":authority", `\C+\.`, `\C*`)},
		{name: "a wildcard is the name itself, too", sent: replaced(":authority", `\C+\.`, `(?:\C+\.)?`)},
		{name: "a host's dots are any byte", sent: replaced(":authority", `d\.t`, `d.t`)},
		{name: "a Service has one name", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) {
			for i := range m.Hosts {
				m.Hosts[i].Aliases = nil
			}
		})},
		{name: "hosts are ignored", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Hosts = nil })},
		{name: "malformed hosts pass", sent: inMatchers(eachMatcher(func(m *matcher) { dropNamed(m, model.OutcomeGuardHost) }))},
	}
}

const (
	listBefore = `(?:\C*,[ \t]*)?`
	listAfter  = `(?:[ \t]*,\C*)?`
)

func headerMutants() []mutant {
	isHeader := func(p *predicate) bool {
		name := inputName(p)
		return p.GetSinglePredicate().GetValueMatch() != nil && strings.HasPrefix(name, "x-")
	}
	return []mutant{
		{name: "a header that is absent matches", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if !isHeader(p) {
				return p
			}
			return either(p, not(matching(p, `\C*`)))
		}))},
		{name: "a negation wants the header", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if inner := p.GetNotMatcher(); inner != nil && isHeader(inner) && inner.GetSinglePredicate().GetValueMatch().GetSafeRegex().GetRegex() != `\C*` {
				return all(matching(inner, `\C*`), p)
			}
			return p
		}))},
		{name: "present is not empty", snapshot: eachHeader(func(h *model.HeaderMatch) {
			if h.Type == model.Present {
				h.Type, h.Value = model.Regex, ".+"
			}
		})},
		{name: "absent is anything", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) {
			m.Headers = slices.DeleteFunc(m.Headers, func(h model.HeaderMatch) bool { return h.Type == model.Absent })
		})},
		{name: "absent is present", snapshot: eachHeader(func(h *model.HeaderMatch) {
			if h.Type == model.Absent {
				h.Type = model.Present
			}
		})},
		{name: "a negation is none", snapshot: eachHeader(func(h *model.HeaderMatch) {
			switch h.Type {
			case model.NotExact:
				h.Type = model.Exact
			case model.NotRegex:
				h.Type = model.Regex
			}
		})},
		{name: "one value of an allowed header is enough", sent: inMatchers(eachPredicate(func(p *predicate) *predicate {
			if v := p.GetSinglePredicate().GetValueMatch().GetExact(); isHeader(p) && v != "" {
				return matching(p, listBefore+regexp.QuoteMeta(v)+listAfter)
			}
			return p
		}))},
		{name: "one value that an allowed expression matches is enough", sent: inMatchers(eachRegex(func(in, expr string) string {
			if i := strings.Index(expr, `(?:[ \t]*,[ \t]*(?:`); strings.HasPrefix(in, "x-") && i > 0 {
				return listBefore + expr[:i] + listAfter
			}
			return expr
		}))},
		{name: "a denied header has one value", sent: inMatchers(eachRegex(func(in, expr string) string {
			if strings.HasPrefix(in, "x-") {
				return strings.TrimSuffix(strings.TrimPrefix(expr, listBefore), listAfter)
			}
			return expr
		}))},
		{name: "a denied header's first value alone", sent: inMatchers(eachRegex(func(in, expr string) string {
			if strings.HasPrefix(in, "x-") {
				return strings.TrimPrefix(expr, listBefore)
			}
			return expr
		}))},
		{name: "a value has spaces around it", sent: inMatchers(eachRegex(func(in, expr string) string {
			if strings.HasPrefix(in, "x-") {
				return strings.ReplaceAll(expr, `[ \t]*`, ``)
			}
			return expr
		}))},
		{name: "alternatives are not grouped", sent: replaced("x-role", `(?:(?:user|admin))`, `user|admin`)},
		{name: "values ignore case", sent: inMatchers(eachText(func(in string, s *text) {
			if strings.HasPrefix(in, "x-") && s.GetSafeRegex() == nil {
				s.IgnoreCase = true
			}
		}))},
		{name: "a value is a prefix", sent: inMatchers(eachText(func(in string, s *text) {
			if strings.HasPrefix(in, "x-") && s.GetExact() != "" {
				s.MatchPattern = &xdsmatcherv3.StringMatcher_Prefix{Prefix: s.GetExact()}
			}
		}))},
		{name: "a value is an expression", snapshot: eachHeader(func(h *model.HeaderMatch) {
			if h.Type == model.Exact {
				h.Type = model.Regex
			}
		})},
		{name: "an expression on a header need not match the whole", snapshot: eachHeader(func(h *model.HeaderMatch) {
			if h.Type == model.Regex || h.Type == model.NotRegex {
				h.Value = ".*(?:" + h.Value + ").*"
			}
		})},
		{name: "ill-formed text satisfies a negation", sent: inMatchers(eachRegex(func(_, expr string) string {
			if strings.HasPrefix(expr, `(?:[\x00-\x7f]|[\xc2`) {
				return `\C*`
			}
			return expr
		}))},
		{name: "headers are ORed", snapshot: eachRule(func(_ *model.Policy, r *model.Rule) {
			var out []model.HTTPMatch
			for _, m := range r.HTTP {
				for _, h := range m.Headers {
					one := m
					one.Headers = []model.HeaderMatch{h}
					out = append(out, one)
				}
				if len(m.Headers) == 0 {
					out = append(out, m)
				}
			}
			r.HTTP = out
		})},
		{name: "headers are ignored", snapshot: eachMatch(func(_ *model.Policy, m *model.HTTPMatch) { m.Headers = nil })},
	}
}
