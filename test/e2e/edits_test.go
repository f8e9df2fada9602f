//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// detailsPolicy is bookinfo's policy for details, with another method and path.
func detailsPolicy(method string) string {
	return `
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: details, namespace: bookinfo}
spec:
  podSelector: {matchLabels: {app: details}}
  policyTypes: [Ingress, Egress]
  ingress:
  - name: productpage-reads
    from:
    - podSelector: {matchLabels: {app: productpage}}
      serviceAccounts: [{name: bookinfo-productpage}]
    ports: [{port: 9080}]
    http:
    - methods: [` + method + `]
      paths: [{type: PathPrefix, value: /details}]
`
}

// edits takes "Enforced" at its word: when it is said, the very next request has the new verdict.
func (s *suite) edits(t *testing.T, ctx context.Context) {
	parts, _ := s.who(t, ctx)
	page := parts["productpage-v1"].asker()
	var times []time.Duration
	for i := range 10 {
		method, read, write := "POST", denied, served
		if i%2 == 1 {
			method, read, write = "GET", served, denied
		}
		time.Sleep(time.Second) // a policy's status is written once a second at most, which is not what is measured
		s.apply(t, ctx, detailsPolicy(method))
		began := time.Now()
		s.enforced(t, ctx, "details")
		times = append(times, time.Since(began))
		s.must(t, ctx, page, readsDetails(parts), read)
		s.must(t, ctx, page, writesDetails(parts), write)
	}
	slices.Sort(times)
	s.measured(t, "from the end of kubectl apply to the end of kubectl wait --for=condition=Enforced: median %s, slowest %s of %d", round(times[len(times)/2]), round(times[len(times)-1]), len(times))
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// deletes proves that a policy's end opens what nothing else shuts, and that the Deny of another policy stays.
func (s *suite) deletes(t *testing.T, ctx context.Context) {
	parts, outsider := s.who(t, ctx)
	s.must(t, ctx, outsider, readsDetails(parts), stopped)
	s.kubectl(t, ctx, "-n", bookinfo, "delete", "l7p", "details")
	s.comes(t, ctx, outsider, readsDetails(parts), served)
	debug := readsDetails(parts)
	debug.Header = map[string][]string{"X-Debug": {"1"}}
	s.must(t, ctx, outsider, debug, denied)
	eventually(t, ctx, "its companions are gone", func() error {
		if left := s.companions(t, ctx, "details"); len(left) > 0 {
			return fmt.Errorf("%d are left", len(left))
		}
		return nil
	})
	s.kubectl(t, ctx, "apply", "-f", "examples/bookinfo/policies/details.yaml")
	s.enforced(t, ctx, "details")
	if got, err := s.one(ctx, outsider, readsDetails(parts)); err != nil || got.outcome() == served {
		t.Errorf("the policy is back and enforced, and a stranger's request is %v (%v)", got, err)
	}
	s.comes(t, ctx, outsider, readsDetails(parts), stopped)
	s.must(t, ctx, parts["productpage-v1"].asker(), readsDetails(parts), served)
}

// companions are the NetworkPolicies of a policy, sorted by name.
func (s *suite) companions(t *testing.T, ctx context.Context, policy string) []networkingv1.NetworkPolicy {
	t.Helper()
	list, err := s.NetworkingV1().NetworkPolicies(bookinfo).List(ctx, metav1.ListOptions{LabelSelector: "policy.pilot-lite.io/policy=" + policy})
	if err != nil {
		t.Fatalf("list the companions of %s: %v", policy, err)
	}
	slices.SortFunc(list.Items, func(a, b networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// companionsArePutBack: whoever deletes or edits a companion opens or shuts something for seconds at most. What is not ours is left alone.
func (s *suite) companionsArePutBack(t *testing.T, ctx context.Context) {
	before := s.companions(t, ctx, "ratings")
	if len(before) == 0 {
		t.Fatal("ratings has no companions")
	}
	s.apply(t, ctx, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: somebodys-own, namespace: bookinfo, labels: {app.kubernetes.io/managed-by: somebody}}
spec: {podSelector: {matchLabels: {app: nothing}}, policyTypes: [Ingress]}
`)
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "-n", bookinfo, "delete", "networkpolicy", "somebodys-own")
	})
	same := func() error {
		after := s.companions(t, ctx, "ratings")
		if len(after) != len(before) {
			return fmt.Errorf("%d companions, want %d", len(after), len(before))
		}
		for i := range after {
			if after[i].Name != before[i].Name || !equality.Semantic.DeepEqual(after[i].Spec, before[i].Spec) {
				return fmt.Errorf("%s: %v, want %v", after[i].Name, after[i].Spec, before[i].Spec)
			}
		}
		return nil
	}
	const within = 5 * time.Second
	for _, c := range before {
		s.kubectl(t, ctx, "-n", bookinfo, "delete", "networkpolicy", c.Name)
		if took := eventually(t, ctx, "a deleted companion is back", same); took > within {
			t.Errorf("%s was back after %s, want %s", c.Name, took, within)
		}
		s.kubectl(t, ctx, "-n", bookinfo, "patch", "networkpolicy", c.Name, "--type=merge", `-p={"spec":{"podSelector":{"matchLabels":{"app":"nothing"}}}}`)
		if took := eventually(t, ctx, "an edited companion is as before", same); took > within {
			t.Errorf("%s was as before after %s, want %s", c.Name, took, within)
		}
	}
	s.kubectl(t, ctx, "-n", bookinfo, "get", "networkpolicy", "somebodys-own")
	if _, err := s.try(ctx, "", "-n", bookinfo, "label", "networkpolicy", "somebodys-own", "policy.pilot-lite.io/policy=ratings"); err == nil || !strings.Contains(err.Error(), "mark the companions") {
		t.Errorf("somebody marks a NetworkPolicy as a companion: %v", err)
	}
	s.enforced(t, ctx, "ratings")
}
