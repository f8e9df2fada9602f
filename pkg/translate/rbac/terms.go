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

	frame   []predicate // ports and methods
	words   []predicate // all but callers and headers
	entry   *field
	without [parts]*term

	byPath, byHost *places // in an index over all paths, or hosts
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
		next := &term{conjunction: t.conjunction}
		switch p {
		case partSources:
			next.sources, next.frame, next.words = nil, t.frame, t.words
		case partFrame:
			next.ports, next.methods = portSet{any: true}, nil
		case partPorts:
			next.ports = portSet{any: true}
		case partMethods:
			next.methods = nil
		}
		t.without[p] = next
	}
	return t.without[p]
}

// calledBy are terms with callers: whatever was built of them without any is theirs, too.
func calledBy(terms []*term, sources *sourceSet) []*term {
	out := make([]*term, 0, len(terms))
	for _, t := range terms {
		next := &term{conjunction: t.conjunction, frame: t.frame, words: t.words}
		next.sources, next.without[partSources] = sources, t.without[partSources]
		out = append(out, next)
	}
	return out
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

// field is a term as an entry of a list; the action is always that of its policy. What tells rules apart comes first, so that most of a list's take one look each.
func (t *term) field(in *inputs, action model.Action) *field {
	if t.entry != nil {
		return t.entry
	}
	if t.words == nil {
		t.words = make([]predicate, 0, 4)
		if t.paths != nil {
			t.words = append(t.words, anyPattern(in.path, t.paths))
		}
		if t.hosts != nil {
			t.words = append(t.words, anyPattern(in.authority, t.hosts))
		}
		t.words = append(t.words, t.framed(in, action)...)
	}
	when := make([]predicate, 0, len(t.words)+1+len(t.headers))
	when = append(when, t.words...)
	if t.sources != nil {
		when = append(when, t.sources.predicate(in))
	}
	for _, h := range t.headers {
		when = append(when, h.predicate)
	}
	t.entry = &field{when: when, then: t.decision}
	return t.entry
}

// framed is what a term says of ports and methods.
func (t *term) framed(in *inputs, action model.Action) []predicate {
	if t.frame == nil {
		t.frame = make([]predicate, 0, 2)
		if t.methods != nil {
			t.frame = append(t.frame, in.methodPredicate(t.methods, action))
		}
		if !t.ports.any {
			t.frame = append(t.frame, t.ports.predicate(in))
		}
	}
	return t.frame
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
