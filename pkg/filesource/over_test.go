package filesource_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// names are those of a snapshot's policies.
func policyNames(r *filesource.Result) string {
	var out []string
	for _, p := range r.Snapshot.Policies {
		out = append(out, p.Namespace+"/"+p.Name)
	}
	return strings.Join(out, " ")
}

func overFile(t *testing.T, base, edit string, prune filesource.Prune) *filesource.Result {
	t.Helper()
	loaded, err := filesource.Load([]string{"-"}, strings.NewReader(base))
	if err != nil || len(loaded.Problems) > 0 {
		t.Fatal(err, loaded.Problems)
	}
	file := filepath.Join(t.TempDir(), "edit.yaml")
	if err := os.WriteFile(file, []byte(edit), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := filesource.Over(loaded.Snapshot, []string{file}, nil, prune)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What the files lack stays, but for policies that are pruned: those of the files' namespaces.
func TestOver(t *testing.T) {
	t.Parallel()
	const elsewhere = "---\napiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: a, namespace: other}\nspec: {podSelector: {}}\n"
	const edited = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: b, namespace: shop}\nspec: {podSelector: {}, enforcement: DryRun}\n"
	base := policyA + "---\n" + policyB + elsewhere
	r := overFile(t, base, edited, filesource.PruneNothing)
	if got := policyNames(r); got != "other/a shop/a shop/b" || !r.Snapshot.Policies[2].DryRun {
		t.Errorf("got %s", got)
	}
	if got := policyNames(overFile(t, base, edited, filesource.PrunePolicies)); got != "other/a shop/b" {
		t.Errorf("pruned, got %s", got)
	}
}

// A bad file is told of, and nothing else is.
func TestOverTellsOfABadFile(t *testing.T) {
	t.Parallel()
	r := overFile(t, policyA, broken, filesource.PruneNothing)
	if r.Snapshot != nil || !slices.ContainsFunc(r.Problems, func(d model.Diagnostic) bool { return strings.Contains(d.String(), "spec.podSelectr") }) {
		t.Errorf("%+v", r)
	}
}

// A Deployment whose pods are listed changes nothing yet, and that is said.
func TestOverTellsOfTemplatesThatChangeNothing(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: cart-1, namespace: shop, labels: {app: cart}}\nspec: {containers: [{name: cart}]}\n"
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {matchLabels: {app: cart}}, template: {metadata: {labels: {app: cart, x: z}}, spec: {containers: [{name: cart}]}}}\n"
	r := overFile(t, pod, deployment, filesource.PruneNothing)
	if len(r.Snapshot.Pods) != 1 || !slices.ContainsFunc(r.Notices, func(d model.Diagnostic) bool { return d.Code == "template-stands" }) {
		t.Errorf("%+v", r)
	}
}
