package filesource_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Whatever is read, reading and translating it ends, and every problem says where it is and what to do.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		policyA, policyB, broken, "", "---\n---\n", "a: &a [*a]", "{{", "\x00", "kind: List\napiVersion: v1\nitems: [1]", "- 1", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n",
		"apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a, annotations: {policy.pilot-lite.io/bound: '[{}]'}}, status: {podIP: 1.2.3.4}}]",
		"apiVersion: policy.pilot-lite.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: a}\nspec: {dns: [{ipBlock: {cidr: 10.0.0.0/8}}], http: {requestHeadersTimeout: 1s}}",
		"a: &a {b: 1}\nc: *a\n<<: *a",
		"apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: a}\nspec: {ingress: [{http: {}, ports: [{port: [1]}]}], podSelector: {matchLabels: {a: 1}}}",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: [a]}\nspec: {hostNetwork: x, containers: [{ports: [{containerPort: 1e3}]}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := filesource.Load([]string{"-"}, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Problems {
			if p.Object.Source == "" || !strings.HasPrefix(p.Object.Source, "-:") || p.Remedy == "" || p.Code == "" {
				t.Errorf("a problem without a place, a remedy or a code: %+v", p)
			}
			if strings.Contains(p.Consequence, "Go struct") || strings.Contains(p.Consequence, "Go value") {
				t.Errorf("a problem in the words of Go: %s", p)
			}
		}
		translate.Translate(model.NewIndex(r.Snapshot))
	})
}
