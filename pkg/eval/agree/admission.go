package agree

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// admission is what a sidecar makes of one connection, whatever is sent on it.
type admission struct {
	eval.Connection

	possible bool // something sent on it is allowed
	looks    bool // rules look at requests
	request  *model.HTTPRequest
}

// admission is found once for the same rules.
func (f *finding) admission(c *eval.Connection) *admission {
	f.x.key = appendKey(f.x.key[:0], c)
	if a, known := f.x.admitted[string(f.x.key)]; known {
		return a
	}
	looks := func(r eval.RuleRef) bool { return r.Rule().HTTP != nil }
	a := &admission{Connection: *c, looks: c.HTTP && (slices.ContainsFunc(c.Allows, looks) || slices.ContainsFunc(c.Denies, looks))}
	a.request, a.possible = f.admits(c)
	if f.x.admitted == nil {
		f.x.admitted = map[string]*admission{}
	}
	f.x.admitted[string(f.x.key)] = a
	return a
}

// by names the rules that allow it, and lists the policies whose it is to keep it open.
func (f *finding) by(a *admission) (rules []string, policies []model.PolicyRef) {
	for _, r := range a.Allows {
		rules = append(rules, r.Name())
		if n := len(policies); n == 0 || policies[n-1] != r.Policy.PolicyRef {
			policies = append(policies, r.Policy.PolicyRef)
		}
	}
	if !a.Isolated { // what Denies leave open is theirs
		for _, p := range f.policies {
			policies = append(policies, p.PolicyRef)
		}
	}
	return rules, policies
}

// appendKey appends what tells a callee's connections apart.
func appendKey(b []byte, c *eval.Connection) []byte {
	for _, flag := range []bool{c.Governed, c.Isolated, c.Reserved, c.HTTP} {
		b = strconv.AppendBool(b, flag)
	}
	for _, list := range [][]eval.RuleRef{c.Allows, c.Denies} {
		b = append(b, '|')
		for _, r := range list {
			b = append(append(b, r.Policy.Name...), '/')
			b = append(strconv.AppendInt(b, int64(r.Index), 10), ' ')
		}
	}
	return b
}

// admits says whether a sidecar allows anything on a connection, with a request where it speaks HTTP.
func (f *finding) admits(c *eval.Connection) (*model.HTTPRequest, bool) {
	switch {
	case !c.HTTP, !c.Governed:
		return nil, c.Verdict(nil).Allowed
	case c.Isolated && len(c.Allows) == 0:
		return nil, false
	}
	for r := range f.candidates(c) {
		if c.Verdict(r).Allowed {
			return r, true
		}
	}
	return f.search(c)
}

// candidates are requests that are likely to be allowed: one in each rule's own words.
func (f *finding) candidates(c *eval.Connection) iter.Seq[*model.HTTPRequest] {
	return func(yield func(*model.HTTPRequest) bool) {
		if !c.Isolated {
			yield(inWords(&model.HTTPMatch{}, f.callee.ref.Name))
			return
		}
		for _, a := range c.Allows {
			matches := a.Rule().HTTP
			if matches == nil {
				matches = []model.HTTPMatch{{}}
			}
			for i := range matches {
				if !yield(inWords(&matches[i], f.callee.ref.Name)) {
					return
				}
			}
		}
	}
}

// inWords is a request in the words of a match, to a host where it names none.
func inWords(m *model.HTTPMatch, host string) *model.HTTPRequest {
	r := &model.HTTPRequest{Method: "GET", Host: host, Path: "/"}
	if len(m.Methods) > 0 {
		r.Method = m.Methods[0]
	}
	if len(m.Hosts) > 0 {
		r.Host = m.Hosts[0].Name
		if m.Hosts[0].Wildcard {
			r.Host = "any." + r.Host
		}
	}
	for _, p := range m.Paths {
		if p.Type != model.Regex {
			r.Path = p.Value
			break
		}
	}
	for _, h := range m.Headers {
		switch h.Type {
		case model.Exact:
			r.Headers = append(r.Headers, model.Header{Name: h.Name, Value: h.Value})
		case model.Present:
			r.Headers = append(r.Headers, model.Header{Name: h.Name, Value: "x"})
		default:
		}
	}
	return r
}

// search looks at every class of requests. Where they are too many to be looked at, something may be allowed.
func (f *finding) search(c *eval.Connection) (*model.HTTPRequest, bool) {
	var terms []reqclass.Term
	var relevant []bool
	add := func(action model.Action, r eval.RuleRef) {
		matches := r.Rule().HTTP
		if matches == nil {
			matches = []model.HTTPMatch{{}}
		}
		for i := range matches {
			terms = append(terms, reqclass.Term{Action: action, Match: &matches[i]})
			relevant = append(relevant, action == model.Allow)
		}
	}
	for _, d := range c.Denies {
		if d.Rule().HTTP == nil {
			return nil, false
		}
		add(model.Deny, d)
	}
	if c.Isolated && c.Reserved {
		return nil, false
	}
	for _, a := range c.Allows {
		add(model.Allow, a)
	}
	if !c.Isolated {
		terms, relevant = append(terms, reqclass.Term{Action: model.Allow, Match: &model.HTTPMatch{}}), append(relevant, true)
	}
	classes, complete := f.finder.Classes(terms, relevant)
	for i := range classes {
		r := classes[i].Request
		if r.Host == "" {
			r.Host = f.callee.ref.Name
		}
		if c.Verdict(&r).Allowed {
			return &r, true
		}
	}
	return nil, !complete
}

// describe writes a request in one line.
func describe(r *model.HTTPRequest) string {
	var b strings.Builder
	b.WriteString(r.Method + " " + r.Path)
	for _, h := range r.Headers {
		b.WriteString(" " + h.Name + ": " + h.Value)
	}
	return b.String()
}
