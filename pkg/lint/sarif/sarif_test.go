package sarif_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/lint/sarif"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func finding(code, source, field string) model.Diagnostic {
	return model.Diagnostic{
		Code: code, Severity: model.SeverityWarning, Object: model.ObjectRef{Kind: "L7Policy", Namespace: "shop", Name: "cart", Source: source}, Field: field,
		Consequence: "what follows", Remedy: "what to do",
	}
}

// walk takes a step for each name, into maps by name and into lists by all elements.
func walk(t *testing.T, value any, path ...string) []any {
	t.Helper()
	if len(path) == 0 {
		return []any{value}
	}
	switch v := value.(type) {
	case map[string]any:
		next, there := v[path[0]]
		if !there {
			t.Fatalf("no %q in %v", path[0], v)
		}
		return walk(t, next, path[1:]...)
	case []any:
		var out []any
		for _, e := range v {
			out = append(out, walk(t, e, path...)...)
		}
		return out
	}
	t.Fatalf("%v is neither a list nor an object, and has no %q", value, path[0])
	return nil
}

// What SARIF 2.1.0 requires of a log, a run, a driver, its rules, and results, by the sections of the standard.
func TestLogIsSARIF(t *testing.T) {
	t.Parallel()
	body, err := json.Marshal(sarif.New("v1", lint.Catalog(), []model.Diagnostic{
		finding("rule-shadowed", "a b/p.yaml:7", "spec.ingress[0]"), finding("rule-subsumed", "/abs/p.yaml:9", "spec.ingress[1]"), finding("policy-dry-run", "", "spec.enforcement"),
		finding("no-name", "-:3", ""),
	}))
	if err != nil {
		t.Fatal(err)
	}
	var log any
	if err := json.Unmarshal(body, &log); err != nil {
		t.Fatal(err)
	}
	if got := walk(t, log, "version"); got[0] != "2.1.0" { // 3.13.2
		t.Errorf("version %v", got)
	}
	rules := walk(t, log, "runs", "tool", "driver", "rules") // 3.13.4, 3.14.6, 3.18.2, 3.19.23
	ids := walk(t, rules, "id")
	if len(ids) != len(lint.Catalog()) {
		t.Errorf("%d rules, want one for each of %d kinds", len(ids), len(lint.Catalog()))
	}
	for _, path := range [][]string{{"shortDescription", "text"}, {"fullDescription", "text"}, {"help", "text"}, {"help", "markdown"}, {"helpUri"}} { // 3.49
		for _, text := range walk(t, rules, path...) {
			if text == "" {
				t.Errorf("a rule lacks %v", path)
			}
		}
	}
	results := walk(t, log, "runs", "results")
	levels := slices.Concat(walk(t, rules, "defaultConfiguration", "level"), walk(t, results, "level"))
	for _, l := range levels { // 3.27.10
		if !slices.Contains([]any{"none", "note", "warning", "error"}, l) {
			t.Errorf("level %v", l)
		}
	}
	indices := walk(t, results, "ruleIndex")
	for i, id := range walk(t, results, "ruleId") { // 3.27.6: the index is that of the rule
		index, ok := indices[i].(float64)
		if !ok || ids[int(index)] != id {
			t.Errorf("result %d is of rule %v, and its index says %v", i, id, indices[i])
		}
	}
	walk(t, results, "message", "text")                                     // 3.27.11
	walk(t, results, "locations", "logicalLocations", "fullyQualifiedName") // 3.33.5
	prints := walk(t, results, "partialFingerprints", "objectField/v1")     // 3.27.17
	if distinct := slices.Compact(sorted(t, prints)); len(distinct) != len(prints) {
		t.Errorf("two findings have one fingerprint: %v", prints)
	}
}

func sorted(t *testing.T, values []any) []string {
	t.Helper()
	var out []string
	for _, v := range values {
		s, ok := v.(string)
		if !ok {
			t.Fatalf("%v is no string", v)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// Files are URI references, relative where their paths are; what stands in no file has no place in one.
func TestPlaces(t *testing.T) {
	t.Parallel()
	type place struct {
		URI  string
		Line int
	}
	for source, want := range map[string]*place{
		"policies/cart.yaml:7": {"policies/cart.yaml", 7}, "./cart.yaml:1": {"cart.yaml", 1}, "a b/100%.yaml:2": {"a%20b/100%25.yaml", 2}, "/abs/cart.yaml:3": {"file:///abs/cart.yaml", 3},
		"-:3": nil, "": nil, "folder": {"folder", 1},
	} {
		log := sarif.New("v1", lint.Catalog(), []model.Diagnostic{finding("cidr", source, "spec")})
		var got *place
		if at := log.Runs[0].Results[0].Locations[0].PhysicalLocation; at != nil {
			got = &place{at.ArtifactLocation.URI, at.Region.StartLine}
			if _, err := url.Parse(got.URI); err != nil {
				t.Errorf("%s: %v", source, err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", source, diff)
		}
	}
}
