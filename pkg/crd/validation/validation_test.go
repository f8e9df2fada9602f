package validation_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-multierror"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
)

// example is one policy of testdata. The comments at its head say what is expected of a bad one.
type example struct {
	name   string
	policy *v1alpha1.L7Policy
	object map[string]any
	expect map[string]string // check, field, schema; where they matter, words of the remedy, and what the schema says
}

func examples(t testing.TB, dir string) []example {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples in %s: %v", dir, err)
	}
	var out []example
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e := example{name: strings.TrimSuffix(filepath.Base(file), ".yaml"), policy: &v1alpha1.L7Policy{}, expect: map[string]string{}}
		if err := yaml.UnmarshalStrict(data, e.policy); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		e.object = decode(t, data)
		for line := range strings.SplitSeq(string(data), "\n") {
			if key, value, found := strings.Cut(strings.TrimPrefix(line, "# "), ": "); found && strings.HasPrefix(line, "# ") {
				e.expect[key] = value
			}
		}
		out = append(out, e)
	}
	return out
}

// decode reads an object as the API server does, with whole numbers as integers.
func decode(t testing.TB, data []byte) map[string]any {
	t.Helper()
	converted, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(converted, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func TestGoodPoliciesPass(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	for _, e := range examples(t, "good") {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			if err := validation.Validate(e.policy); err != nil {
				t.Errorf("refused: %v", err)
			}
			pruned, errs := server.create(t, e.object)
			if len(errs) > 0 || len(pruned) > 0 {
				t.Errorf("the API server prunes %v and says: %v", pruned, errs.ToAggregate())
			}
		})
	}
}

// Each bad policy has one fault. It is found under its name, at its field, with a remedy, and nothing else is found. The API server's schema finds
// it too where a schema can say it.
func TestBadPoliciesAreRefused(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	for _, e := range examples(t, "bad") {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			err := validation.Validate(e.policy)
			var all *multierror.Error
			if !errors.As(err, &all) || len(all.Errors) != 1 {
				t.Fatalf("want one finding, got: %v", err)
			}
			var got *validation.Error
			if !errors.As(all.Errors[0], &got) {
				t.Fatalf("not a finding: %v", all.Errors[0])
			}
			if string(got.Check) != e.expect["check"] || got.Field != e.expect["field"] || got.Detail == "" || got.Remedy == "" {
				t.Errorf("want check %s at %s with detail and remedy, got: %v", e.expect["check"], e.expect["field"], got)
			}
			_, errs := server.create(t, e.object)
			if refused := len(errs) > 0; refused != (e.expect["schema"] == "refuses") {
				t.Errorf("the schema is expected to say %q, and says: %v", e.expect["schema"], errs.ToAggregate())
			}
			if !strings.Contains(got.Remedy, e.expect["remedy"]) {
				t.Errorf("the remedy is %q, want %q in it", got.Remedy, e.expect["remedy"])
			}
			if says := e.expect["says"]; says != "" && (len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), says)) {
				t.Errorf("the schema says %v, want %q in it", errs.ToAggregate(), says)
			}
		})
	}
}

// Every check has an example of what it refuses.
func TestEveryCheckHasAnExample(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{}
	for _, e := range examples(t, "bad") {
		shown[e.expect["check"]] = true
	}
	source, err := os.ReadFile("validation.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(source), "\n") {
		if _, value, found := strings.Cut(line, " Check = "); found {
			if name := strings.Trim(value, `"`); !shown[name] {
				t.Errorf("no example of %s in testdata/bad", name)
			}
		}
	}
}

// In egress there is no http: an API server that is asked strictly, as kubectl asks, names the field.
func TestHTTPInEgressIsUnknown(t *testing.T) {
	t.Parallel()
	const policy = "{apiVersion: policy.pilot-lite.io/v1alpha1, kind: L7Policy, metadata: {name: a}, spec: {egress: [{http: [{methods: [GET]}]}]}}"
	if pruned, _ := newAPIServer(t).create(t, decode(t, []byte(policy))); !slices.Contains(pruned, "spec.egress[0].http") {
		t.Errorf("unknown fields: %v", pruned)
	}
	if err := yaml.UnmarshalStrict([]byte(policy), &v1alpha1.L7Policy{}); err == nil || !strings.Contains(err.Error(), "http") {
		t.Errorf("a strict reader says: %v", err)
	}
}
