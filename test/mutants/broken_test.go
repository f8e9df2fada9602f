package mutants_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// A part that no proxy can be told takes something away from what is allowed, or nothing. Validation refuses most of these parts long before; here they have slipped past.

// breaker puts a broken part in the place of a part, or beside it.
type breaker struct {
	name  string
	apply func(r *model.Rule, beside bool)
}

func breakers() []breaker {
	var out []breaker
	inMatch := func(name string, apply func(m *model.HTTPMatch, beside bool)) {
		out = append(out, breaker{name, func(r *model.Rule, beside bool) {
			for i := range r.HTTP {
				apply(&r.HTTP[i], beside)
			}
		}})
	}
	for _, p := range []model.PathMatch{
		{Type: model.Regex, Value: "("},
		{Type: model.Regex, Value: ".{999}"},
		{Type: model.Regex, Value: "\xff"},
		{Type: "Suffix", Value: "/a"},
	} {
		inMatch(fmt.Sprintf("path %s %.10q", p.Type, p.Value), func(m *model.HTTPMatch, beside bool) { m.Paths = put(m.Paths, p, beside) })
	}
	for _, h := range []model.HeaderMatch{
		{Name: "x role", Type: model.Present},
		{Name: "x-role", Type: "Suffix", Value: "a"},
		{Name: "x-role", Type: model.Regex, Value: "("},
		{Name: "x-role", Type: model.NotRegex, Value: "("},
		{Name: "x-role", Type: model.Exact, Value: "\x00"},
	} {
		inMatch(fmt.Sprintf("header %s %s %.10q", h.Name, h.Type, h.Value), func(m *model.HTTPMatch, beside bool) { m.Headers = put(m.Headers, h, beside) })
	}
	for _, host := range []model.Host{{}, {Name: strings.Repeat("a", 900)}} {
		inMatch(fmt.Sprintf("host %.10q", host.Name), func(m *model.HTTPMatch, beside bool) { m.Hosts = put(m.Hosts, host, beside) })
	}
	for _, method := range []string{"", "\xff"} {
		inMatch(fmt.Sprintf("method %q", method), func(m *model.HTTPMatch, beside bool) { m.Methods = put(m.Methods, method, beside) })
	}
	return append(out,
		breaker{"ports that end before they begin", func(r *model.Rule, beside bool) {
			r.Ports = put(r.Ports, model.PortRange{Protocol: model.TCP, From: 9, To: 8}, beside)
		}},
		breaker{"a port of a name that nobody has", func(r *model.Rule, beside bool) {
			r.Ports = put(r.Ports, model.PortRange{Protocol: model.TCP, Name: "nobody"}, beside)
		}},
	)
}

// put puts a part in the place of those that stand there, if any do, or beside them.
func put[T any](parts []T, broken T, beside bool) []T {
	if len(parts) == 0 || beside {
		return append(parts, broken)
	}
	return []T{broken}
}

// broken is a world's snapshot with a part of one rule broken.
func (b breaker) broken(w *world, policy, rule int, beside bool) *model.Snapshot {
	s := clone(w.snapshot)
	b.apply(&s.Policies[policy].Ingress[rule], beside)
	return s
}

// widened tells of a request that is allowed with a broken part and was not before.
func widened(w *world, s *model.Snapshot) string {
	was, err := filtersOf(w.sent)
	if err != nil {
		return err.Error()
	}
	is, err := filtersOf(translated(s))
	if err != nil {
		return err.Error()
	}
	for _, a := range w.asks {
		r := &envoy.Request{Source: a.request.Source, Port: w.socket(a.request.Port), HTTP: a.request.HTTP}
		i := 0
		if a.request.HTTP != nil {
			i = 1
		}
		before, after := was[i].Decide(r), is[i].Decide(r)
		if after.Err != nil {
			return after.Err.Error()
		}
		if after.Allowed && !before.Allowed {
			return fmt.Sprintf("%+v %+v was denied by %s and is allowed by %s", a.request, a.request.HTTP, before.Name, after.Name)
		}
	}
	return ""
}

// filtersOf are those of TCP and HTTP chains.
func filtersOf(resources []proto.Message) (out [2]*envoy.Filter, err error) {
	for i, name := range []string{rbac.TCPSlot, rbac.HTTPSlot} {
		if out[i], err = envoy.Unpack(slotOf(resources, name).GetTypedConfig()); err != nil {
			return out, err
		}
	}
	return out, nil
}

// drawBroken breaks a part of a rule; ok is false where the world has no rules.
func drawBroken(t *rapid.T, w *world) (s *model.Snapshot, ok bool) {
	beside := rapid.Bool().Draw(t, "beside")
	var policies []int
	for i, p := range w.snapshot.Policies {
		if len(p.Ingress) > 0 {
			policies = append(policies, i)
		}
	}
	if policies == nil {
		return nil, false
	}
	p := rapid.SampledFrom(policies).Draw(t, "policy")
	rule := rapid.IntRange(0, len(w.snapshot.Policies[p].Ingress)-1).Draw(t, "rule")
	b := breakers()[rapid.IntRange(0, len(breakers())-1).Draw(t, "breaker")]
	return b.broken(w, p, rule, beside), true
}

func TestBrokenPartsNeverWiden(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		if s, ok := drawBroken(t, w); ok {
			if found := widened(w, s); found != "" {
				t.Fatal(found)
			}
		}
	})
}

// carelessness is what a translator could do with a broken part.
func carelessness() []mutant {
	isAllow := func(p *model.Policy) bool { return p.Action == model.Allow }
	brokenPath := func(m model.PathMatch) bool {
		return strings.ContainsAny(m.Value, "(\x00") || !utf8.ValidString(m.Value) || len(m.Value) > 500 || strings.Contains(m.Value, "{9") || m.Type == "Suffix"
	}
	brokenHeader := func(m model.HeaderMatch) bool {
		return strings.Contains(m.Name, " ") || m.Type == "Suffix" || strings.ContainsAny(m.Value, "(\x00") || len(m.Value) > 500
	}
	return []mutant{
		{name: "an allow forgets a condition", snapshot: eachMatch(func(p *model.Policy, m *model.HTTPMatch) {
			if isAllow(p) {
				m.Headers = slices.DeleteFunc(m.Headers, brokenHeader)
			}
		})},
		{name: "an allow without paths that are understood has any", snapshot: eachMatch(func(p *model.Policy, m *model.HTTPMatch) {
			if m.Paths = slices.DeleteFunc(m.Paths, brokenPath); isAllow(p) && len(m.Paths) == 0 {
				m.Paths = nil
			}
		})},
		{name: "a deny drops what it does not understand", snapshot: eachRule(func(p *model.Policy, r *model.Rule) {
			r.HTTP = slices.DeleteFunc(r.HTTP, func(m model.HTTPMatch) bool {
				return !isAllow(p) && (slices.ContainsFunc(m.Paths, brokenPath) || slices.ContainsFunc(m.Headers, brokenHeader))
			})
			if r.HTTP != nil && len(r.HTTP) == 0 {
				r.Peers = []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("192.0.2.0/32")}}}
			}
		})},
		{name: "a rule that is broken is no rule", snapshot: eachPolicy(func(p *model.Policy) {
			p.Ingress = slices.DeleteFunc(p.Ingress, func(r model.Rule) bool {
				return slices.ContainsFunc(r.HTTP, func(m model.HTTPMatch) bool { return slices.ContainsFunc(m.Headers, brokenHeader) })
			})
		})},
		{name: "a policy that is broken is no policy", snapshot: func(s *model.Snapshot) {
			s.Policies = slices.DeleteFunc(s.Policies, func(p *model.Policy) bool {
				return slices.ContainsFunc(p.Ingress, func(r model.Rule) bool {
					return slices.ContainsFunc(r.HTTP, func(m model.HTTPMatch) bool { return slices.ContainsFunc(m.Paths, brokenPath) })
				})
			})
		}},
		{name: "methods that are not understood are any", snapshot: eachMatch(func(p *model.Policy, m *model.HTTPMatch) {
			if m.Methods = slices.DeleteFunc(m.Methods, func(s string) bool { return s == "" || s == "\xff" }); isAllow(p) && len(m.Methods) == 0 {
				m.Methods = nil
			}
		})},
		{name: "ports that are none are any in an allow", snapshot: eachRule(func(p *model.Policy, r *model.Rule) {
			if slices.ContainsFunc(r.Ports, func(x model.PortRange) bool { return x.From > x.To || x.Name == "nobody" }) && isAllow(p) {
				r.Ports = nil
			}
		})},
		{name: "ports that are none are none in a deny", snapshot: eachRule(func(p *model.Policy, r *model.Rule) {
			if !isAllow(p) {
				r.Ports = slices.DeleteFunc(r.Ports, func(x model.PortRange) bool { return x.From > x.To || x.Name == "nobody" })
			}
		})},
	}
}

// Whoever is careless with broken parts is noticed.
func TestCarelessnessIsNoticed(t *testing.T) {
	t.Parallel()
	const tries = 6 // in each world
	for _, m := range carelessness() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for i, w := range drawnWorlds() {
				draw := rapid.Custom(func(t *rapid.T) *model.Snapshot { s, _ := drawBroken(t, w); return s })
				for n := range tries {
					s := draw.Example(i*tries + n)
					if s == nil {
						break
					}
					m.snapshot(s)
					if found := widened(w, s); found != "" {
						t.Logf("noticed in world %d: %.300s", i, found)
						return
					}
				}
			}
			t.Errorf("nobody notices: %s", m.name)
		})
	}
}
