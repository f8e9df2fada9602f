package lint

import (
	"slices"
	"strconv"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// requests finds http that no request satisfies: an entry, one of its paths, or all that the rule has.
func (l *linter) requests(r *rule) {
	if r.HTTP == nil {
		return
	}
	type impossible struct {
		entry int
		part  string
		why   string
	}
	var dead []impossible
	for i := range r.HTTP {
		if part, why, never := l.neverMatches(r.policy.Action, &r.HTTP[i]); never {
			dead = append(dead, impossible{i, part, why})
		}
	}
	r.possible = len(dead) < len(r.HTTP)
	if !r.possible {
		d := r.finding("rule-never-matches", model.SeverityWarning, r.field())
		d.Consequence, d.Remedy = "no request satisfies the rule's http, so "+r.matchesNothing()+": "+dead[0].why, "correct the entry, or remove the rule"
		l.found.Add(d)
		return
	}
	for _, e := range dead {
		d := r.finding("http-never-matches", model.SeverityWarning, r.field()+".http["+strconv.Itoa(e.entry)+"]"+e.part)
		d.Consequence, d.Remedy = "no request satisfies the entry, so "+r.matchesNothing()+": "+e.why, "correct the entry, or remove it"
		l.found.Add(d)
	}
	for i := range r.HTTP {
		l.paths(r, i)
	}
}

// paths finds single paths that no request has, beside others that some have.
func (l *linter) paths(r *rule, entry int) {
	m := &r.HTTP[entry]
	if len(m.Paths) < 2 {
		return
	}
	for i := range m.Paths {
		if _, _, never := l.neverMatches(r.policy.Action, &model.HTTPMatch{Paths: m.Paths[i : i+1]}); never {
			d := r.finding("path-never-matches", model.SeverityWarning, r.field()+".http["+strconv.Itoa(entry)+"].paths["+strconv.Itoa(i)+"]")
			d.Consequence, d.Remedy = "no request satisfies the path, so "+r.matchesNothing()+": "+whyNoPath, "correct the path, or remove it"
			l.found.Add(d)
		}
	}
}

const whyNoPath = "before a rule is asked, paths are normalized, dot segments and repeated slashes resolved, and the query and what has more than one reading is cut off or refused"

// neverMatches says whether no request satisfies a match, and which part of it is to blame. The parts of a match are independent, so one of them alone is impossible.
func (l *linter) neverMatches(action model.Action, m *model.HTTPMatch) (part, why string, never bool) {
	if l.satisfiable(action, m) {
		return "", "", false
	}
	if m.Paths != nil && !l.satisfiable(action, &model.HTTPMatch{Paths: m.Paths}) {
		return ".paths", whyNoPath, true
	}
	for _, h := range m.Headers {
		same := model.HTTPMatch{Headers: slices.DeleteFunc(slices.Clone(m.Headers), func(o model.HeaderMatch) bool { return o.Name != h.Name })}
		if l.satisfiable(action, &same) {
			continue
		}
		if len(same.Headers) == 1 {
			return ".headers", "no value of the header " + h.Name + " is " + string(h.Type) + " " + h.Value, true
		}
		return ".headers", "the conditions on the header " + h.Name + " exclude each other", true
	}
	return "", "its parts exclude each other", true
}

// satisfiable says whether some request satisfies a match; true where that is not known.
func (l *linter) satisfiable(action model.Action, m *model.HTTPMatch) bool {
	if _, found := witness(action, m); found {
		return true
	}
	classes, complete := l.finder.Classes([]reqclass.Term{{Action: action, Match: m}}, []bool{true})
	return len(classes) > 0 || !complete
}

// terms are entries of http as rules of one action read them; nil is any request.
type terms struct {
	action model.Action
	http   []model.HTTPMatch
}

func (t terms) list() []reqclass.Term {
	http := t.http
	if http == nil {
		http = []model.HTTPMatch{{}}
	}
	out := make([]reqclass.Term, 0, len(http))
	for i := range http {
		out = append(out, reqclass.Term{Action: t.action, Match: &http[i]})
	}
	return out
}

// mostUnanswered bounds how many questions about requests may end without an answer, which is when they take longest.
const mostUnanswered = 20

// covers says whether every request that satisfies some of the inner terms satisfies some of the outer ones; false where that is not known.
func (l *linter) covers(inner terms, outer ...terms) bool {
	all := inner.list()
	for _, t := range all {
		if w, found := witness(t.Action, t.Match); found && !satisfiesAny(outer, w) {
			return false
		}
	}
	relevant := slices.Repeat([]bool{true}, len(all))
	for _, t := range outer {
		all = append(all, t.list()...)
	}
	n := len(relevant)
	relevant = append(relevant, make([]bool, len(all)-n)...)
	if l.unanswered > mostUnanswered {
		return false
	}
	classes, complete := l.finder.Classes(all, relevant)
	if !complete {
		l.unanswered++
	}
	return complete && !slices.ContainsFunc(classes, func(c reqclass.Class) bool { return !slices.Contains(c.Holds[n:], true) })
}

// coverKey is a question about the http of rules: one rule's, and others' by their places in a list.
type coverKey struct {
	inner *rule
	outer string
}
