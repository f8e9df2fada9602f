package rbac

import "github.com/pilot-lite/pilot-lite/pkg/model"

// conjunction is what a term says: every dimension that is constrained must hold.
type conjunction struct {
	decision *onMatch
	sources  *sourceSet // nil: anyone
	ports    portSet
	methods  []string  // nil: any
	hosts    []pattern // nil: any
	paths    []pattern // nil: any
	headers  []header
}

// term is a conjunction, with what was built of it. A rule is one term for each of its http entries. What a term says never changes: one that says
// less is another term.
type term struct {
	conjunction

	entry   []byte
	without [parts]*term
}

// part is a dimension that an index, or a place for all, can take off a term.
type part int

const (
	partSources part = iota
	partFrame
	partPorts
	partMethods
	parts int = iota
)

// less is the term without a part.
func (t *term) less(p part) *term {
	if t.without[p] == nil {
		c := t.conjunction
		switch p {
		case partSources:
			c.sources = nil
		case partFrame:
			c.ports, c.methods = portSet{any: true}, nil
		case partPorts:
			c.ports = portSet{any: true}
		case partMethods:
			c.methods = nil
		}
		t.without[p] = &term{conjunction: c}
	}
	return t.without[p]
}

// appendWithPorts adds terms as a workload with those ports has them.
func appendWithPorts(out, terms []*term, ports portSet) []*term {
	for _, t := range terms {
		if !t.ports.equal(ports) {
			c := t.conjunction
			c.ports = ports
			t = &term{conjunction: c}
		}
		out = append(out, t)
	}
	return out
}

// field is a term as an entry of a list; the action is always that of its policy.
func (t *term) field(in *inputs, action model.Action) field {
	if t.entry == nil {
		ps := t.predicates(in, action)
		size, then := sizeOfAll(ps), t.decision.decision
		out := appendHead(make([]byte, 0, fieldSize(size)+fieldSize(len(then))), entryKeyField, size)
		t.entry = appendBytes(appendAll(out, ps), entryThenField, then)
	}
	return field{written: t.entry}
}

// predicate is the whole of a term; nil where it always holds.
func (t *conjunction) predicate(in *inputs, action model.Action) predicate {
	return allOf(t.predicates(in, action)...)
}

// predicates are what must hold. What tells rules apart comes first, so that most of a list's take one look each.
func (t *conjunction) predicates(in *inputs, action model.Action) []predicate {
	ps := make([]predicate, 0, 5+len(t.headers))
	if t.paths != nil {
		ps = append(ps, anyPattern(in.path, t.paths))
	}
	if t.hosts != nil {
		ps = append(ps, anyPattern(in.authority, t.hosts))
	}
	if t.methods != nil {
		ps = append(ps, in.methodPredicate(t.methods, action))
	}
	if !t.ports.any {
		ps = append(ps, t.ports.predicate(in))
	}
	if t.sources != nil {
		ps = append(ps, t.sources.predicate(in))
	}
	for _, h := range t.headers {
		ps = append(ps, h.predicate)
	}
	return ps
}

// unconditional says whether the term always holds.
func (t *conjunction) unconditional() bool {
	return t.ports.any && t.methods == nil && t.sources == nil && t.hosts == nil && t.paths == nil && len(t.headers) == 0
}

// anyPattern is the disjunction of what is said of one input.
func anyPattern(input extension, patterns []pattern) predicate {
	var ps []predicate
	var exprs []expr
	for _, p := range patterns {
		if p.expr.text == "" || len(patterns) == 1 {
			ps = append(ps, p.alone(input))
		} else {
			exprs = append(exprs, p.expr)
		}
	}
	return anyOf(append(ps, anyExpression(input, exprs)...)...)
}

// methodPredicate: methods are case-sensitive, but applications may forgive: a Deny ignores case.
func (in *inputs) methodPredicate(methods []string, action model.Action) predicate {
	if len(methods) == 1 {
		value := exactly(methods[0])
		value.ignoreCase = action == model.Deny
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
