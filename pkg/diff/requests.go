package diff

import (
	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// outcome is a class of requests whose verdict flips.
type outcome struct {
	effect        Effect
	request       *Request // nil: anything
	before, after Verdict
	// Whom the class is: a request belongs to it that satisfies exactly these of the terms, or that the guard refuses for its path or its host.
	terms []reqclass.Term
	holds []bool
	guard string // the guard's outcome
}

// What the guard refuses, wherever a policy governs a workload's HTTP. The rules are not asked about such requests.
const (
	guardedPath = "/%01"
	guardedHost = "two..dots"
)

// asker asks about requests, each question once.
type asker struct {
	finder reqclass.Finder
	known  map[string][]outcome
}

// outcomes are the classes of requests whose verdict flips from one decision to the other.
func (a *asker) outcomes(before, after *decision) []outcome {
	key := before.key() + "/" + after.key()
	known, ok := a.known[key]
	if !ok {
		known = a.find(before, after)
		a.known[key] = known
	}
	return known
}

func (a *asker) find(before, after *decision) []outcome {
	if before.ends() && after.ends() {
		return appendFlip(nil, outcome{before: before.verdict(none), after: after.verdict(none)})
	}
	q := &question{place: map[string]int{}, at: map[written]int{}}
	was, is := q.add(before), q.add(after)
	relevant, some := q.relevant(before, after, was, is)
	if !some {
		return nil
	}
	classes, complete := a.finder.Classes(q.terms, relevant)
	var out []outcome
	for i := range classes {
		holds := func(m *model.HTTPMatch, action model.Action) bool { return classes[i].Holds[q.at[written{action, m}]] }
		out = appendFlip(out, outcome{
			request: requestOf(classes[i].Request), before: before.verdict(holds), after: after.verdict(holds), terms: q.terms, holds: classes[i].Holds,
		})
	}
	if before.guards() != after.guards() {
		out = appendFlip(out, outcome{
			request: &Request{Method: "GET", Path: guardedPath}, guard: model.OutcomeGuardPath,
			before: before.guarded(model.OutcomeGuardPath), after: after.guarded(model.OutcomeGuardPath),
		})
		out = appendFlip(out, outcome{
			request: &Request{Method: "GET", Host: guardedHost, Path: "/"}, guard: model.OutcomeGuardHost,
			before: before.guarded(model.OutcomeGuardHost), after: after.guarded(model.OutcomeGuardHost),
		})
	}
	if !complete {
		out = append(out, outcome{effect: EffectMayFlip, before: tooLarge(), after: tooLarge()})
	}
	return out
}

// tooLarge stands for a verdict that was not found out.
func tooLarge() Verdict { return Verdict{Decider: "too large a question"} }

func none(*model.HTTPMatch, model.Action) bool { return false }

func appendFlip(out []outcome, o outcome) []outcome {
	switch {
	case o.before.Allowed == o.after.Allowed:
		return out
	case o.after.Allowed:
		o.effect = EffectOpens
	default:
		o.effect = EffectCloses
	}
	return append(out, o)
}

func requestOf(r model.HTTPRequest) *Request {
	out := &Request{Method: r.Method, Host: r.Host, Path: r.Path}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, Header(h))
	}
	return out
}

// shut says whether nothing is let through, whatever the rules say.
func (d *decision) shut() bool { return d.isolated && d.reserved }

// ends says whether the verdict is the same for all requests.
func (d *decision) ends() bool { return !d.governed || d.shut() || !d.http }

// guards says whether the guard refuses requests.
func (d *decision) guards() bool { return !d.ends() }

// guarded is the verdict on a request that the guard refuses where it guards. Where it does not, the verdict is the same for all.
func (d *decision) guarded(outcome string) Verdict {
	if d.guards() {
		return Verdict{Decider: outcome}
	}
	return d.verdict(none)
}

// verdict is the verdict on the requests of a class.
func (d *decision) verdict(holds func(*model.HTTPMatch, model.Action) bool) Verdict {
	if d.shut() {
		return Verdict{Decider: model.OutcomeReservedPort}
	}
	allowedBy := ""
	for _, r := range d.rules {
		if !r.matches(d.http, holds) {
			continue
		}
		if r.deny {
			return Verdict{Decider: r.name}
		}
		if allowedBy == "" {
			allowedBy = r.name
		}
	}
	switch {
	case !d.isolated:
		return Verdict{true, model.OutcomeNotIsolated}
	case allowedBy != "":
		return Verdict{true, allowedBy}
	}
	return Verdict{Decider: model.OutcomeDefaultDeny}
}

func (r *rule) action() model.Action {
	if r.deny {
		return model.Deny
	}
	return model.Allow
}

// matches: where the port does not speak HTTP, an http rule matches nothing in an Allow and everything in a Deny.
func (r *rule) matches(http bool, holds func(*model.HTTPMatch, model.Action) bool) bool {
	switch {
	case r.http == nil:
		return true
	case !http:
		return r.deny
	}
	for i := range r.http {
		if holds(&r.http[i], r.action()) {
			return true
		}
	}
	return false
}

// question collects the terms of both sides, each once.
type question struct {
	terms []reqclass.Term
	place map[string]int  // by content
	at    map[written]int // by where they stand
}

// written is a term where it stands.
type written struct {
	action model.Action
	match  *model.HTTPMatch
}

func termKey(action model.Action, m *model.HTTPMatch) string {
	return string(action) + httpKey([]model.HTTPMatch{*m})
}

// add adds a decision's terms, and says which those are.
func (q *question) add(d *decision) (own map[int]bool) {
	own = map[int]bool{}
	if d.ends() {
		return own
	}
	for _, r := range d.rules {
		for i := range r.http {
			key := termKey(r.action(), &r.http[i])
			if _, known := q.place[key]; !known {
				q.place[key] = len(q.terms)
				q.terms = append(q.terms, reqclass.Term{Action: r.action(), Match: &r.http[i]})
			}
			own[q.place[key]], q.at[written{r.action(), &r.http[i]}] = true, q.place[key]
		}
	}
	return own
}

// relevant are the terms that one side has and the other lacks: where all else is equal, no verdict flips on a request that satisfies none of them. It is
// nil where all requests matter, and some is false where none does.
func (q *question) relevant(before, after *decision, was, is map[int]bool) (relevant []bool, some bool) {
	if before.besides() != after.besides() {
		return nil, true
	}
	relevant = make([]bool, len(q.terms))
	for i := range relevant {
		relevant[i] = was[i] != is[i]
		some = some || relevant[i]
	}
	return relevant, some
}

// besides is what decides beside terms.
type besides struct{ ends, isolated, deniesAll, allowsAll bool }

func (d *decision) besides() besides {
	out := besides{ends: d.ends(), isolated: d.isolated}
	for _, r := range d.rules {
		if r.http == nil {
			out.deniesAll = out.deniesAll || r.deny
			out.allowsAll = out.allowsAll || !r.deny
		}
	}
	return out
}
