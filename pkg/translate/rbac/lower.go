package rbac

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// layer says what a slot can see.
type layer string

const (
	layerHTTP layer = "http" // requests
	layerTCP  layer = "tcp"  // connections: an http entry of an Allow holds of none, one of a Deny of all
)

// Lowered is a policy as terms: what the slots of all the workloads that it selects have in common. What is built of a term is kept with it, in wire
// format: about as much as one slot holds of the policy, and never more than a few times that, however many workloads there are.
type Lowered struct {
	ref    model.PolicyRef
	action model.Action
	dryRun bool
	rules  []loweredRule
}

type loweredRule struct {
	words       Rule // what it was lowered from, but for the callers
	sources     *sourceSet
	ports       portSet // as policies name them
	http, tcp   []*term // what the rule says in either layer; with those ports
	diagnostics []model.Diagnostic
}

// Lower reads a policy once for all the workloads that it selects.
func (c *Compiler) Lower(p *Policy) *Lowered { return c.LowerAfter(p, nil) }

// LowerAfter is Lower, given what was lowered of the policy before (nil: nothing was). A rule that says the same of requests, in the same list, is not read again,
// whoever calls now, and one with the same callers is the same terms.
func (c *Compiler) LowerAfter(p *Policy, before *Lowered) *Lowered {
	out := &Lowered{ref: p.Ref, action: p.Action, dryRun: p.DryRun, rules: make([]loweredRule, 0, len(p.Rules))}
	var known []loweredRule
	if before != nil && before.ref.Namespace == p.Ref.Namespace && before.ref.Name == p.Ref.Name && before.action == p.Action {
		known = before.rules
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		sources, somebody := c.ready().callers(r)
		if !somebody {
			continue
		}
		at := slices.IndexFunc(known, func(k loweredRule) bool { return sameWords(&k.words, r) })
		if at < 0 {
			out.rules = append(out.rules, c.ready().lower(p, r, sources))
			continue
		}
		out.rules = append(out.rules, known[at].calledBy(sources))
		known = known[at+1:] // rules keep their order
	}
	return out
}

// sameWords says whether two rules of a policy differ in callers at most. Lists are not changed once somebody was given them.
func sameWords(a, b *Rule) bool {
	return a.Name == b.Name && (a.HTTP == nil) == (b.HTTP == nil) && model.SameSlice(a.HTTP, b.HTTP) &&
		(a.Ports == nil) == (b.Ports == nil) && slices.Equal(a.Ports, b.Ports)
}

// callers of a rule (nil: anyone), and whether there are any.
func (c *common) callers(r *Rule) (sources *sourceSet, somebody bool) {
	if r.Sources == nil {
		return nil, true
	}
	sources = c.sets.of(r.Sources)
	return sources, sources != nil
}

// calledBy is the rule with callers.
func (r *loweredRule) calledBy(sources *sourceSet) loweredRule {
	out := *r
	if sources == r.sources {
		return out
	}
	out.sources, out.http = sources, calledBy(r.http, sources)
	if model.SameSlice(r.http, r.tcp) {
		out.tcp = out.http
	} else {
		out.tcp = calledBy(r.tcp, sources)
	}
	return out
}

// decidesConnections says whether a rule is about connections, whatever is sent over them.
func (p *Lowered) decidesConnections() bool {
	return slices.ContainsFunc(p.rules, func(r loweredRule) bool { return len(r.tcp) > 0 })
}

func (c *common) lower(p *Policy, r *Rule, sources *sourceSet) loweredRule {
	out := loweredRule{words: *r, sources: sources, ports: namedPorts(r.Ports, p.Action)}
	out.words.Sources = nil
	if out.ports.none() {
		return out
	}
	base := conjunction{decision: decide(strings.ToValidUTF8(model.RuleName(p.Ref, r.Name), "?"), p.Action), sources: sources, ports: out.ports}
	all := []*term{{conjunction: base}}
	switch {
	case r.HTTP == nil:
		out.http, out.tcp = all, all
		return out
	case p.Action == model.Deny:
		out.tcp = all
		if len(r.HTTP) == 0 {
			out.http = all
		}
	}
	for i := range r.HTTP {
		lower := &lowering{in: c.in, policy: p, rule: &out, place: "rule " + r.Name + ": http[" + strconv.Itoa(i) + "]"}
		if t, ok := lower.entry(base, &r.HTTP[i]); ok {
			out.http = append(out.http, t)
		}
	}
	return out
}

// lowering turns one http entry into a term, and decides what becomes of a part that cannot be expressed: an alternative or an entry of an
// Allow is dropped, a condition of a Deny is taken as met.
type lowering struct {
	in     *inputs
	policy *Policy
	rule   *loweredRule
	place  string // for people
}

func (lo *lowering) entry(t conjunction, m *model.HTTPMatch) (*term, bool) {
	in, action := lo.in, lo.policy.Action
	if m.Methods != nil {
		for i, method := range m.Methods {
			if method == "" || !validText(method) {
				lo.report("methods["+strconv.Itoa(i)+"]", errNotText)
				if action == model.Deny {
					t.methods = nil
					break
				}
				continue
			}
			t.methods = append(t.methods, method)
		}
		if t.methods == nil && action == model.Allow {
			return nil, false
		}
	}
	var ok bool
	if m.Hosts != nil {
		if t.hosts, ok = lo.alternatives("hosts", len(m.Hosts), func(i int) (pattern, error) { return in.host(m.Hosts[i]) }); !ok {
			return nil, false
		}
	}
	if m.Paths != nil {
		build := in.allowedPath
		if action == model.Deny {
			build = in.deniedPath
		}
		if t.paths, ok = lo.alternatives("paths", len(m.Paths), func(i int) (pattern, error) { return build(m.Paths[i]) }); !ok {
			return nil, false
		}
	}
	for i, h := range m.Headers {
		condition, err := in.headerCondition(h, action)
		if err == nil {
			t.headers = append(t.headers, condition)
			continue
		}
		lo.report("headers["+strconv.Itoa(i)+"]", err)
		if action == model.Allow {
			return nil, false
		}
	}
	return &term{conjunction: t}, true
}

// alternatives builds the patterns of one dimension. Nothing left means any for a Deny, and for an Allow that the entry matches nothing.
func (lo *lowering) alternatives(part string, n int, build func(int) (pattern, error)) ([]pattern, bool) {
	var out []pattern
	for i := range n {
		p, err := build(i)
		if err != nil {
			lo.report(part+"["+strconv.Itoa(i)+"]", err)
		}
		switch {
		case p.says():
			out = append(out, p)
		case err != nil && lo.policy.Action == model.Deny:
			return nil, true
		}
	}
	return out, out != nil || lo.policy.Action == model.Deny
}

func (lo *lowering) report(part string, err error) {
	consequence := "it is left out, so that nothing is let through by it: "
	if lo.policy.Action == model.Deny {
		consequence = "the rule denies more than it says: "
	}
	lo.rule.diagnostics = append(lo.rule.diagnostics, model.Diagnostic{
		Code: "not-expressible", Severity: model.SeverityError,
		Object: model.ObjectRef{Kind: "L7Policy", Namespace: lo.policy.Ref.Namespace, Name: lo.policy.Ref.Name}, Field: "spec.ingress: " + lo.place + "." + part,
		Consequence: consequence + err.Error(), Remedy: "write a shorter or simpler value",
	})
}
