package lint

import (
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// witness guesses a request that satisfies a match, from the values that the match spells out. Most matches have one, and it answers many questions before automata are
// asked; where none is found, there may be one all the same.
func witness(action model.Action, m *model.HTTPMatch) (*model.HTTPRequest, bool) {
	r := &model.HTTPRequest{Method: "GET", Host: "host", Path: "/"}
	if m.Methods != nil {
		r.Method = m.Methods[0]
	}
	if m.Hosts != nil {
		if r.Host = m.Hosts[0].Name; m.Hosts[0].Wildcard {
			r.Host = "any." + r.Host
		}
	}
	for _, p := range m.Paths {
		r.Path = p.Value
		if p.Type != model.Regex {
			break // literal paths are normalized: validation refuses others
		}
		r.Path = "/" + strings.Trim(p.Value, "/")
	}
	for _, h := range m.Headers {
		has := slices.ContainsFunc(r.Headers, func(o model.Header) bool { return o.Name == h.Name })
		switch {
		case has:
		case h.Type == model.Present:
			r.Headers = append(r.Headers, model.Header{Name: h.Name, Value: "x"})
		case h.Type == model.Exact, h.Type == model.Regex:
			r.Headers = append(r.Headers, model.Header{Name: h.Name, Value: h.Value})
		}
	}
	if _, refused := eval.Guard(r); refused || !normalized(r.Path) || !eval.Satisfies(action, m, r) {
		return nil, false
	}
	return r, true
}

// normalized says whether a sidecar leaves a path as it is. It may say no to one that it does leave.
func normalized(path string) bool {
	return strings.HasPrefix(path, "/") && strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/") == "" &&
		!strings.Contains(path, "//") && !strings.Contains(path+"/", "/./") && !strings.Contains(path+"/", "/../")
}

func satisfiesAny(list []terms, r *model.HTTPRequest) bool {
	return slices.ContainsFunc(list, func(t terms) bool {
		return slices.ContainsFunc(t.list(), func(one reqclass.Term) bool { return eval.Satisfies(one.Action, one.Match, r) })
	})
}
