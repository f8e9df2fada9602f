package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const someCompanions = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: b, namespace: bookinfo, annotations: {number: "12", word: "yes", colon: "a: b", empty: "", long: "` + long + `"}}
spec:
  podSelector: {matchLabels: {app: b}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: a}, matchExpressions: [{key: version, operator: In, values: [v2, v3]}]}
      namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: bookinfo}}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    ports: [{port: 9080, protocol: TCP}, {port: 1, endPort: 79, protocol: TCP}, {port: 53, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: a, namespace: bookinfo}
spec:
  podSelector: {matchLabels: {app: a}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: b}}}]
`

const long = "a text that is so long that no line with it and with what stands around it could ever fit into the width that a compact line may have at most"

func companionsToTry(t *testing.T) []networkingv1.NetworkPolicy {
	t.Helper()
	var policies []networkingv1.NetworkPolicy
	for _, document := range splitYAML([]byte(someCompanions)) {
		var np networkingv1.NetworkPolicy
		if err := yaml.UnmarshalStrict(document, &np); err != nil {
			t.Fatal(err)
		}
		policies = append(policies, np)
	}
	return policies
}

func TestCompactYAMLSaysTheSame(t *testing.T) {
	t.Parallel()
	for _, document := range splitYAML([]byte(someCompanions)) {
		short, err := compactYAML(document)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := yaml.Unmarshal(document, &want); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(short), &got); err != nil {
			t.Fatalf("%v\n%s", err, short)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("compact YAML says something else (-want +got):\n%s\n%s", diff, short)
		}
		if n := strings.Count(short, "\n"); n > 20 {
			t.Errorf("%d lines are not compact:\n%s", n, short)
		}
	}
}

func TestCompanionsInShort(t *testing.T) {
	t.Parallel()
	policies := companionsToTry(t)
	var got strings.Builder
	(&output{w: &got}).companions(policies)
	want := `  NAME  SELECTS  LETS PASS
  b     b        in bookinfo/a + version in (v2, v3) or 10.0.0.0/8:9080+1-79+53/UDP
  a     a        out b
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("the companions in short (-want +got):\n%s", diff)
	}
}

func TestConnectsAsKubernetesDefines(t *testing.T) {
	t.Parallel()
	policies := companionsToTry(t)
	a := endpoint{map[string]string{"app": "a", "version": "v2"}}
	oldA := endpoint{map[string]string{"app": "a", "version": "v1"}}
	b := endpoint{map[string]string{"app": "b"}}
	other := endpoint{map[string]string{"app": "other"}}
	stranger := endpoint{}
	for _, c := range []struct {
		from, to endpoint
		port     uint16
		want     bool
	}{
		{a, b, 9080, true},
		{a, b, 79, true},       // the end of a range is inclusive
		{a, b, 80, false},      // in no range
		{a, b, 53, true},       // in the TCP range
		{oldA, b, 9080, false}, // both parts of a peer must hold
		{other, b, 9080, false},
		{stranger, b, 9080, false},
		{a, other, 9080, false}, // let in, but not let out
		{other, a, 9080, true},  // neither is isolated in that direction
		{stranger, other, 80, true},
	} {
		if got := connects(policies, c.from, c.to, c.port); got != c.want {
			t.Errorf("%v to %v:%d: %t, want %t", c.from, c.to, c.port, got, c.want)
		}
	}
}
