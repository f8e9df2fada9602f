package filesource_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A value of a wrong type is told of as it stands: where, what it is, and what to write.
func TestWrongTypes(t *testing.T) {
	t.Parallel()
	const policy, pod = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: p, namespace: shop}\n", "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop}\n"
	for text, want := range map[string]string{
		policy + "spec:\n  ingress:\n  - {}\n  - http: {}\n":                               "-:7: error: L7Policy shop/p: spec.ingress[1].http: it is an object; write a list",
		policy + "spec:\n  ingress:\n  - http:\n    - methods: [GET]\n      paths: [/a]\n": "-:8: error: L7Policy shop/p: spec.ingress[0].http[0].paths[0]: it is text; write an object with some of type, value",
		policy + "spec: {ingress: [{http: [{paths: [[a]]}]}]}\n":                           "spec.ingress[0].http[0].paths[0]: it is a list; write an object with some of type, value",
		policy + "spec: {ingress: [{from: [{serviceAccounts: [x]}]}]}\n":                   "spec.ingress[0].from[0].serviceAccounts[0]: it is text; write an object with name",
		policy + "spec: {ingress: \"all\"}\n":                                              "spec.ingress: it is text; write a list",
		policy + "spec: {podSelector: {matchLabels: {app: 1}}}\n":                          "spec.podSelector.matchLabels.app: it is a number; put it in quotes",
		policy + "spec: {podSelector: {matchLabels: {app: true}}}\n":                       "spec.podSelector.matchLabels.app: it is true; put it in quotes",
		policy + "spec: {ingress: [{http: [{methods: GET}]}]}\n":                           "spec.ingress[0].http[0].methods: it is text; write a list",
		policy + "spec: {action: [Deny]}\n":                                                "spec.action: it is a list; write text",
		policy + "spec: {ingress: [{ports: [{port: {}}]}]}\n":                              "spec.ingress[0].ports[0].port: it is an object; write a port's number or name",
		policy + "spec: {ingress: [{ports: [{port: 1, endPort: x}]}]}\n":                   "spec.ingress[0].ports[0].endPort: it is text; write a whole number",
		policy + "spec: {ingress: [{ports: [{port: 1, endPort: 99999999999}]}]}\n":         "spec.ingress[0].ports[0].endPort: it is a number; write a smaller number",
		policy + "spec: {egress: &e [{to: all}], ingress: *e}\n":                           "spec.egress[0].to: it is text; write a list",
		policy + "spec: []\n": "spec: it is a list; write an object with some of podSelector, action, enforcement, policyTypes, ingress, egress",
		strings.Replace(policy, "shop}", "shop, labels: [a]}", 1) + "spec: {}\n":                  "metadata.labels: it is a list; write an object",
		pod + "spec:\n  containers:\n  - name: c\n    ports: [{containerPort: \"80\"}]\n":         "-:7: error: Pod shop/p: spec.containers[0].ports[0].containerPort: it is text; write a whole number",
		pod + "spec: {hostNetwork: \"yes\"}\n":                                                    "spec.hostNetwork: it is text; write true or false",
		strings.Replace(pod, "shop}", "shop, creationTimestamp: today}", 1):                       `metadata.creationTimestamp: it is "today"; write a time, such as 2006-01-02T15:04:05Z`,
		pod + "spec: {containers: [{resources: {limits: {memory: lots}}}]}\n":                     `spec.containers[0].resources.limits.memory: it is "lots"; write a quantity, such as 100m or 128Mi`,
		pod + "status: {podIPs: [10.0.0.1]}\n":                                                    "status.podIPs[0]: it is text; write an object with ip",
		"---\n" + policy + "spec: {ingress: [{http: {}}]}\n---\n" + pod + "spec: {hostname: 1}\n": "spec.hostname: document 2: it is a number; put it in quotes",
	} {
		loaded, err := filesource.Load([]string{"-"}, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, p := range loaded.Problems {
			lines = append(lines, p.String())
		}
		if all := strings.Join(lines, "\n"); !strings.Contains(all, want+" [wrong-type]") {
			t.Errorf("%s\nwant: %s\ngot: %s", text, want, all)
		}
	}
}

// One reading tells of all that is wrong with a policy, not of the first thing.
func TestEveryProblemIsTold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"spec: {podSelector: 5, ingress: {}, action: [Deny]}":  {"spec.podSelector: it is a number", "spec.ingress: it is an object", "spec.action: it is a list"},
		"spec: {ingres: [], action: Alow, egress: [{too: x}]}": {"spec.ingres: unknown field", "spec.egress[0].too: unknown field", "spec.action: "},
	} {
		loaded, err := filesource.Load([]string{"-"}, strings.NewReader("apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: p}\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		if len(loaded.Problems) != len(want) || len(loaded.Snapshot.Policies) > 0 {
			t.Errorf("%s: %d policies, and %v", text, len(loaded.Snapshot.Policies), loaded.Problems)
		}
		for _, w := range want {
			if !slices.ContainsFunc(loaded.Problems, func(d model.Diagnostic) bool { return strings.Contains(d.String(), w) && d.Remedy != "" }) {
				t.Errorf("%s: nobody tells %q: %v", text, w, loaded.Problems)
			}
		}
	}
}
