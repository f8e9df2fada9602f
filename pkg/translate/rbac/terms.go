package rbac

import (
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// term is a conjunction: every dimension that is constrained must hold. A rule is one term for each of its http entries.
type term struct {
	decision *onMatch
	sources  *sourceSet // nil: anyone
	ports    portSet
	methods  []string  // nil: any
	hosts    []pattern // nil: any
	paths    []pattern // nil: any
	headers  []header
}

// predicate is the whole of a term; nil where it always holds. What tells rules apart comes first, so that most of a list's take one look each.
func (t *term) predicate(in *inputs, action model.Action) *predicate {
	var ps []*predicate
	if t.paths != nil {
		ps = append(ps, anyPattern(in.path, t.paths))
	}
	if t.hosts != nil {
		ps = append(ps, anyPattern(in.authority, t.hosts))
	}
	if t.methods != nil {
		ps = append(ps, in.methodPredicate(t.methods, action))
	}
	ps = append(ps, t.ports.predicate(in))
	if t.sources != nil {
		ps = append(ps, t.sources.predicate)
	}
	for _, h := range t.headers {
		ps = append(ps, h.predicate)
	}
	return allOf(ps...)
}

// unconditional says whether the term always holds.
func (t *term) unconditional() bool {
	return t.ports.any && t.methods == nil && t.sources == nil && t.hosts == nil && t.paths == nil && len(t.headers) == 0
}

// anyPattern is the disjunction of what is said of one input.
func anyPattern(input *extension, patterns []pattern) *predicate {
	var ps []*predicate
	var exprs []expr
	for _, p := range patterns {
		if p.expr.text == "" || len(patterns) == 1 {
			ps = append(ps, p.predicate)
		} else {
			exprs = append(exprs, p.expr)
		}
	}
	return anyOf(append(ps, anyExpression(input, exprs)...)...)
}

// methodPredicate: methods are case-sensitive, but applications may forgive: a Deny ignores case.
func (in *inputs) methodPredicate(methods []string, action model.Action) *predicate {
	if len(methods) == 1 {
		value := exactly(methods[0])
		value.IgnoreCase = action == model.Deny
		return where(in.method, value)
	}
	exprs := make([]expr, 0, len(methods))
	for _, m := range methods {
		text := quote(m)
		if action == model.Deny {
			text = "(?i:" + text + ")"
		}
		exprs = append(exprs, expr{text: text, program: 2 * len(m)})
	}
	return anyOf(anyExpression(in.method, exprs)...)
}

// layer says what a slot can see.
type layer string

const (
	layerHTTP layer = "http" // requests
	layerTCP  layer = "tcp"  // connections: an http entry of an Allow holds of none, one of a Deny of all
)

// terms lowers a policy's rules for one layer.
func (c *compiler) terms(p *Policy, l layer) []*term {
	var out []*term
	for i := range p.Rules {
		out = append(out, c.ruleTerms(p, &p.Rules[i], l)...)
	}
	return out
}

func (c *compiler) ruleTerms(p *Policy, r *Rule, l layer) []*term {
	base := term{decision: decide(strings.ToValidUTF8(model.RuleName(p.Ref, r.Name), "?"), p.Action), ports: c.input.ports(r.Ports, p.Action)}
	if !base.ports.any && len(base.ports.spans) == 0 {
		return nil
	}
	if r.Sources != nil {
		if base.sources = c.sets.of(r.Sources); base.sources == nil {
			return nil // nobody
		}
	}
	switch {
	case r.HTTP == nil:
		return []*term{&base}
	case l == layerTCP && p.Action == model.Allow:
		return nil
	case l == layerTCP, len(r.HTTP) == 0 && p.Action == model.Deny:
		return []*term{&base}
	}
	var out []*term
	for i := range r.HTTP {
		lower := &lowering{c: c, policy: p, place: "rule " + r.Name + ": http[" + strconv.Itoa(i) + "]"}
		if t, ok := lower.entry(base, &r.HTTP[i]); ok {
			out = append(out, t)
		}
	}
	return out
}

// lowering turns one http entry into a term, and decides what becomes of a part that cannot be expressed: an alternative or an entry of an
// Allow is dropped, a condition of a Deny is taken as met.
type lowering struct {
	c      *compiler
	policy *Policy
	place  string // for people
}

func (lo *lowering) entry(t term, m *model.HTTPMatch) (*term, bool) {
	in, action := lo.c.in, lo.policy.Action
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
	return &t, true
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
		case p.predicate != nil:
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
	lo.c.diagnose(model.Diagnostic{
		Code: "not-expressible", Severity: model.SeverityError,
		Object: model.ObjectRef{Kind: "L7Policy", Namespace: lo.policy.Ref.Namespace, Name: lo.policy.Ref.Name}, Field: "spec.ingress: " + lo.place + "." + part,
		Consequence: consequence + err.Error(), Remedy: "write a shorter or simpler value",
	})
}
