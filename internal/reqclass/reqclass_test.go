package reqclass_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// judge asks the evaluator whether a request satisfies a term: of a policy that holds nothing else.
type judge struct {
	index  *model.Index
	callee *model.Workload
	action model.Action
}

func newJudge(t reqclass.Term) judge {
	ix := model.NewIndex(&model.Snapshot{
		Pods: []*model.Pod{{Namespace: "n", Name: "p", Labels: map[string]string{"app": "p"}}},
		Services: []model.Service{{Namespace: "n", Name: "p", Selector: map[string]string{"app": "p"}, Ports: []model.ServicePort{
			{Name: "http", Protocol: model.TCP, TargetPort: 80},
		}}},
		Policies: []*model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "n", Name: "q"}, Action: t.Action, Selector: labels.Everything(), IsolatesIngress: true,
			Ingress: []model.Rule{{Name: "r", HTTP: []model.HTTPMatch{*t.Match}}},
		}},
	})
	return judge{ix, ix.Workloads[0], t.Action}
}

func (j judge) holds(r model.HTTPRequest) bool {
	v := eval.Ingress(j.index, j.callee, model.Request{Source: netip.MustParseAddr("192.0.2.1"), Port: 80, HTTP: &r})
	return v.Allowed == (j.action == model.Allow)
}

func signature(judges []judge, r model.HTTPRequest) string {
	var b strings.Builder
	for _, j := range judges {
		if j.holds(r) {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

func classSignature(c reqclass.Class) string {
	var b strings.Builder
	for _, h := range c.Holds {
		if h {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	return b.String()
}

// words are all concatenations of up to length parts.
func words(parts []string, length int) []string {
	out := []string{""}
	for last := out; length > 0; length-- {
		var next []string
		for _, w := range last {
			for _, p := range parts {
				next = append(next, w+p)
			}
		}
		out, last = append(out, next...), next
	}
	return out
}

// arrives says whether a policy is asked about a path: normalization leaves it as it is, and the guard does not refuse it.
func arrives(path string) bool {
	guarded := newJudge(reqclass.Term{Action: model.Deny, Match: &model.HTTPMatch{Methods: []string{"NONE"}}})
	if strings.Contains(path, "//") || guarded.holds(model.HTTPRequest{Method: "GET", Host: "a", Path: path}) {
		return false
	}
	return !slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." })
}

func drawTerm(t *rapid.T, matches func(t *rapid.T) model.HTTPMatch) reqclass.Term {
	m := matches(t)
	return reqclass.Term{Action: rapid.SampledFrom([]model.Action{model.Allow, model.Deny}).Draw(t, "action"), Match: &m}
}

// compare wants exactly those classes that the requests show, and each class's own request to be in it.
func compare(t *rapid.T, terms []reqclass.Term, requests []model.HTTPRequest) {
	judges := make([]judge, 0, len(terms))
	for _, term := range terms {
		judges = append(judges, newJudge(term))
	}
	classes, complete := new(reqclass.Finder).Classes(terms, nil)
	if !complete {
		t.Fatal("not complete")
	}
	found := map[string]bool{}
	for _, c := range classes {
		if c.Request.Host == "" {
			c.Request.Host = "whoever"
		}
		if got := signature(judges, c.Request); got != classSignature(c) {
			t.Fatalf("class %s shows %+v, which is in %s", classSignature(c), c.Request, got)
		}
		found[classSignature(c)] = true
	}
	for _, r := range requests {
		if sig := signature(judges, r); !found[sig] {
			t.Fatalf("no class %s, to which %+v belongs; classes: %+v", sig, r, classes)
		}
	}
}

func request(change func(r *model.HTTPRequest)) model.HTTPRequest {
	r := model.HTTPRequest{Method: "GET", Host: "whoever", Path: "/"}
	change(&r)
	return r
}

func TestPaths(t *testing.T) {
	t.Parallel()
	var requests []model.HTTPRequest
	for _, p := range words([]string{"/", "a", "b", ";", ".", "%41", "%3b", "A", "%C3%A9", "%C3", "%e0%80"}, 4) {
		if arrives("/" + p) {
			requests = append(requests, request(func(r *model.HTTPRequest) { r.Path = "/" + p }))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var terms []reqclass.Term
		for range rapid.IntRange(1, 4).Draw(t, "terms") {
			terms = append(terms, drawTerm(t, func(t *rapid.T) model.HTTPMatch {
				return model.HTTPMatch{Paths: rapid.SliceOfN(rapid.SampledFrom([]model.PathMatch{
					{Type: model.Exact, Value: "/"},
					{Type: model.Exact, Value: "/a"},
					{Type: model.Exact, Value: "/a/"},
					{Type: model.Exact, Value: "/a/b"},
					{Type: model.Exact, Value: "/A"},
					{Type: model.Exact, Value: "/%41"},
					{Type: model.Exact, Value: "/a;b"},
					{Type: model.Exact, Value: "/a%3Bb"},
					{Type: model.Prefix, Value: "/"},
					{Type: model.Prefix, Value: "/a"},
					{Type: model.Prefix, Value: "/a/b"},
					{Type: model.Prefix, Value: "/a/"},
					{Type: model.Regex, Value: "/a|/b"},
					{Type: model.Regex, Value: "/.*"},
					{Type: model.Regex, Value: "/[^a]*a"},
					{Type: model.Regex, Value: "(?i)/A[^b]"},
					{Type: model.Regex, Value: "(?:/a.)+"},
					{Type: model.Exact, Value: "/%C3%A9"},
					{Type: model.Regex, Value: "/a?%[C3].*"},
				}), 1, 2).Draw(t, "paths")}
			}))
		}
		sample := rapid.SliceOfN(rapid.SampledFrom(requests), 40, 80).Draw(t, "requests")
		compare(t, terms, sample)
	})
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	values := words([]string{"a", "b", ",", ";", " ", "é", "\xff", "K"}, 4)
	rapid.Check(t, func(t *rapid.T) {
		var terms []reqclass.Term
		for range rapid.IntRange(1, 4).Draw(t, "terms") {
			terms = append(terms, drawTerm(t, func(t *rapid.T) model.HTTPMatch {
				return model.HTTPMatch{Headers: rapid.SliceOfN(rapid.Custom(drawHeader), 1, 2).Draw(t, "headers")}
			}))
		}
		var requests []model.HTTPRequest
		for range 60 {
			requests = append(requests, request(func(r *model.HTTPRequest) {
				for _, v := range rapid.SliceOfN(rapid.SampledFrom(values), 0, 3).Draw(t, "lines") {
					name := rapid.SampledFrom([]string{"x", "x", "cookie", "y"}).Draw(t, "name")
					r.Headers = append(r.Headers, model.Header{Name: name, Value: strings.Trim(v, " ")})
				}
			}))
		}
		compare(t, terms, requests)
	})
}

func drawHeader(t *rapid.T) model.HeaderMatch {
	h := model.HeaderMatch{
		Name:  rapid.SampledFrom([]string{"x", "x", "cookie", "y"}).Draw(t, "name"),
		Type:  rapid.SampledFrom([]model.MatchType{model.Exact, model.Regex, model.Present, model.Absent, model.NotExact, model.NotRegex}).Draw(t, "type"),
		Value: rapid.SampledFrom([]string{"a", "b", "ab", "a,b", "", "a, b", "a; b"}).Draw(t, "value"),
	}
	if h.Type == model.Regex || h.Type == model.NotRegex {
		h.Value = rapid.SampledFrom([]string{"a", "a+", "[^a]", ".*b", "(?i)k", "a ?b", " a", "a|", "[^,]*"}).Draw(t, "expression")
	}
	return h
}

func TestNames(t *testing.T) {
	t.Parallel()
	hosts := []string{"whoever", "a", "b.test", "a.b.test", "c.a.b.test", "any.b.test", "A.", "a:80", "xa", "other", "[fd00::1]"}
	methods := []string{"GET", "POST", "get", "gEt", "PUT", "X"}
	var requests []model.HTTPRequest
	for _, h := range hosts {
		for _, m := range methods {
			requests = append(requests, model.HTTPRequest{Method: m, Host: h, Path: "/"})
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		var terms []reqclass.Term
		for range rapid.IntRange(1, 4).Draw(t, "terms") {
			terms = append(terms, drawTerm(t, func(t *rapid.T) model.HTTPMatch {
				return model.HTTPMatch{
					Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"GET", "POST"}, {"PUT"}, {"X"}}).Draw(t, "methods"),
					Hosts: rapid.SampledFrom([][]model.Host{
						nil,
						{{Name: "a", Aliases: []string{"a.ns", "[fd00::1]"}}},
						{{Name: "b.test", Wildcard: true}},
						{{Name: "any.b.test"}},
						{{Name: "a.b.test", Wildcard: true}, {Name: "other"}},
						{{Name: "test", Wildcard: true}},
					}).Draw(t, "hosts"),
				}
			}))
		}
		compare(t, terms, requests)
	})
}

// Only classes that satisfy a relevant term are told, all of them, and the rest of the question costs nothing.
func TestRelevant(t *testing.T) {
	t.Parallel()
	var terms []reqclass.Term
	for i := range 200 {
		terms = append(terms, reqclass.Term{Action: model.Allow, Match: &model.HTTPMatch{
			Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/area-%d", i)}, {Type: model.Regex, Value: fmt.Sprintf("/[a-z]*/%d", i)}},
		}})
	}
	relevant := make([]bool, len(terms))
	relevant[7] = true
	classes, complete := new(reqclass.Finder).Classes(terms, relevant)
	if !complete {
		t.Error("not complete")
	}
	for _, c := range classes {
		if !c.Holds[7] {
			t.Errorf("%+v is not relevant", c.Request)
		}
	}
	// /area-7 and the expression of its own, /area-7/... with no other, and nothing else: no other expression reaches below /area-7 but with its own number.
	if len(classes) == 0 || len(classes) > 4 {
		t.Errorf("%d classes: %+v", len(classes), classes)
	}
}
