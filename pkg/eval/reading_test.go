package eval_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// What an Allow with some match admits, a Deny with the same match refuses: an Allow holds for every reading of a request, a Deny for any.
func TestAnAllowNeverReachesFurtherThanTheSameDeny(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rule := model.Rule{Name: "r", HTTP: []model.HTTPMatch{{
			Hosts:   rapid.SampledFrom([][]model.Host{nil, {{Name: "cart"}}, {{Name: "cart", Wildcard: true}}}).Draw(t, "hosts"),
			Methods: rapid.SampledFrom([][]string{nil, {"GET"}, {"get"}}).Draw(t, "methods"),
			Paths:   rapid.SliceOfN(rapid.Custom(drawPath), 0, 2).Draw(t, "paths"),
			Headers: rapid.SliceOfN(rapid.Custom(drawHeader), 0, 2).Draw(t, "headers"),
		}}}
		if len(rule.HTTP[0].Paths) == 0 {
			rule.HTTP[0].Paths = nil
		}
		r := get("/" + rapid.StringMatching(`([ab./;%?,]|%41|%3[Bb]){0,8}`).Draw(t, "path"))
		r.HTTP.Host = rapid.SampledFrom([]string{"cart", "CART.", "cart:80", "x.cart", "xcart"}).Draw(t, "host")
		for _, v := range rapid.SliceOfN(rapid.StringMatching(`[ab,; ]{0,4}`), 0, 3).Draw(t, "values") {
			r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: "x-role", Value: v}, model.Header{Name: "cookie", Value: v})
		}
		ix, callee := world(policy(model.Allow, rule))
		allowed := eval.Ingress(ix, callee, r)
		ix, callee = world(policy(model.Deny, rule))
		if denied := eval.Ingress(ix, callee, r); allowed.Allowed && denied.Allowed {
			t.Errorf("an Allow admits the request and the same Deny lets it through: %+v and %+v", allowed, denied)
		}
	})
}

func drawPath(t *rapid.T) model.PathMatch {
	return rapid.SampledFrom([]model.PathMatch{
		{Type: model.Exact, Value: "/a"},
		{Type: model.Exact, Value: "/"},
		{Type: model.Exact, Value: "/a%3Bb"},
		{Type: model.Exact, Value: "/a/b"},
		{Type: model.Prefix, Value: "/"},
		{Type: model.Prefix, Value: "/a"},
		{Type: model.Prefix, Value: "/a/"},
		{Type: model.Prefix, Value: "/a.b"},
		{Type: model.Regex, Value: "/a|/b"},
		{Type: model.Regex, Value: "/.*"},
		{Type: model.Regex, Value: "(?i)/A[^b]"},
	}).Draw(t, "path")
}

func drawHeader(t *rapid.T) model.HeaderMatch {
	return model.HeaderMatch{
		Name: rapid.SampledFrom([]string{"x-role", "cookie"}).Draw(t, "name"), Value: rapid.SampledFrom([]string{"a", "b", "ab", "a, b"}).Draw(t, "value"),
		Type: rapid.SampledFrom([]model.MatchType{model.Exact, model.Regex, model.Present, model.Absent, model.NotExact, model.NotRegex}).Draw(t, "type"),
	}
}
