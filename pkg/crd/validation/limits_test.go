package validation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

func withPath(action v1alpha1.Action, paths ...v1alpha1.PathMatch) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{Spec: v1alpha1.L7PolicySpec{Action: action, Ingress: []v1alpha1.IngressRule{{HTTP: []v1alpha1.HTTPMatch{{Paths: paths}}}}}}
	p.Name = "hostile"
	return p
}

// What is hostile is refused by its size, before anything looks into it, in one finding that does not repeat it. Counted in allocations, since a
// busy machine makes any time long; BenchmarkLongExpression tells the time.
func TestHostileInputIsCheap(t *testing.T) {
	regex := func(s string) *v1alpha1.L7Policy {
		return withPath("", v1alpha1.PathMatch{Type: v1alpha1.PathRegularExpression, Value: s})
	}
	many := &v1alpha1.L7Policy{Spec: v1alpha1.L7PolicySpec{Ingress: make([]v1alpha1.IngressRule, 10_000)}}
	many.Name = "many"
	for i := range many.Spec.Ingress {
		many.Spec.Ingress[i].HTTP = []v1alpha1.HTTPMatch{}
	}
	const megabyte = 1 << 20
	for name, p := range map[string]*v1alpha1.L7Policy{
		"1 MiB expression":    regex(strings.Repeat(".*", megabyte/2)),
		"1 MiB alternation":   regex(strings.Repeat("a|", megabyte/2)),
		"nesting":             regex(strings.Repeat("(", 100_000) + strings.Repeat(")", 100_000)),
		"repeated repetition": regex("(a{1000}){1000}"),
		"many repetitions":    regex(".{0,1000}.{0,1000}"),
		"empty repetitions":   regex(strings.Repeat("(?:", 40) + strings.Repeat("){1000}", 30)),
		"case folding":        regex("(?i)" + strings.Repeat("[^k]", 60) + "{9}{9}{9}"),
		"10,000 rules":        many,
		"1 MiB path":          withPath("", v1alpha1.PathMatch{Value: strings.Repeat("/a", megabyte/2)}),
		"100,000 paths":       withPath("", make([]v1alpha1.PathMatch, 100_000)...),
	} {
		err := validation.Validate(p)
		var all *multierror.Error
		if !errors.As(err, &all) || len(all.Errors) != 1 || len(err.Error()) > 400 {
			t.Errorf("%s: want one short finding, got: %.500v", name, err)
		}
		if allocations := testing.AllocsPerRun(1, func() { _ = validation.Validate(p) }); allocations > 1000 {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}

func BenchmarkLongExpression(b *testing.B) {
	p := withPath("", v1alpha1.PathMatch{Type: v1alpha1.PathRegularExpression, Value: strings.Repeat("a|", 1<<19)})
	b.ReportAllocs()
	for b.Loop() {
		if validation.Validate(p) == nil {
			b.Fatal("passes")
		}
	}
}

// Many findings print as the first of them, a line each.
func TestManyFindingsPrintShort(t *testing.T) {
	t.Parallel()
	p := withPath("", make([]v1alpha1.PathMatch, 16)...)
	p.Spec.Ingress = append(p.Spec.Ingress, p.Spec.Ingress[0])
	lines := strings.Split(validation.Validate(p).Error(), "\n")
	if len(lines) != 21 || lines[20] != "and 12 more" {
		t.Errorf("got %d lines, the last: %s", len(lines), lines[len(lines)-1])
	}
}

// What passes is never too large for the translation: nothing that a user was told is good may be left out of a slot.
func TestWhatPassesIsTranslated(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	var matches []model.HTTPMatch
	for len(matches) < 2000 {
		if e := randomExpression(random, 5); validation.ExpressionProblem(e) == "" {
			matches = append(matches, model.HTTPMatch{Paths: []model.PathMatch{{Type: model.Regex, Value: e}}},
				model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-a", Type: model.Regex, Value: e}}},
				model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-a", Type: model.NotRegex, Value: e}}})
		}
		parts := []string{"/", "/", "a", "bcd", "@", "%C3%A9", "-._~"}
		path := "/a"
		for range random.IntN(200) {
			path += parts[random.IntN(len(parts))]
		}
		for _, kind := range []v1alpha1.PathMatchType{v1alpha1.PathExact, v1alpha1.PathPrefix} {
			if validation.Validate(withPath(v1alpha1.ActionDeny, v1alpha1.PathMatch{Type: kind, Value: path})) == nil {
				matches = append(matches, model.HTTPMatch{Paths: []model.PathMatch{{Type: model.MatchType(kind), Value: path}}})
			}
		}
	}
	host := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "abcde"
	matches = append(matches,
		model.HTTPMatch{Hosts: []model.Host{{Name: host}, {Name: host, Wildcard: true}}},
		model.HTTPMatch{Headers: []model.HeaderMatch{{Name: "x-a", Type: model.Exact, Value: strings.Repeat("a", 253)}}})
	for _, action := range []model.Action{model.Allow, model.Deny} {
		var rules []rbac.Rule
		for i, m := range matches {
			rules = append(rules, rbac.Rule{Name: fmt.Sprint(i), HTTP: []model.HTTPMatch{m}})
		}
		slots := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Ref: model.PolicyRef{Namespace: "a", Name: "p"}, Action: action, Rules: rules}}})
		for i, d := range slots.Diagnostics {
			if i < 5 {
				t.Errorf("%s: %v", action, d)
			}
		}
	}
}
