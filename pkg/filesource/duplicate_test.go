package filesource_test

import (
	"testing"
	"time"
)

// What changes while an object stands twice is not lost: it is in the first snapshot after the repair.
func TestEditsBesideADuplicateAreKept(t *testing.T) {
	t.Parallel()
	const pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: cart, namespace: shop}\nspec: {nodeName: node, containers: [{name: cart}]}\n"
	f := follow(t, map[string]string{"a.yaml": policyA, "b.yaml": policyB})
	f.eventually("a b")
	f.replace("a.yaml", policyA+"---\n"+policyB+pod) // stands in b.yaml, too
	f.eventuallyProblem("L7Policy shop/b", "already")
	if s, _ := f.Snapshot(); len(s.Pods) != 0 {
		t.Fatalf("the pods are %v: the last good state has none", s.Pods)
	}
	f.replace("b.yaml", "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: c, namespace: shop}\nspec: {podSelector: {}}\n")
	f.eventually("a b c")
	if s, _ := f.Snapshot(); len(s.Pods) != 1 {
		t.Errorf("the pods are %v: the one that came with the duplicate is lost", s.Pods)
	}
}

// A file that turns bad, and whose last good state stays, is no change: nobody has to rebuild anything.
func TestABadFileIsNoChange(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	<-f.Changed()
	f.replace("a.yaml", broken)
	f.eventuallyProblem("a.yaml:4", "spec.podSelectr")
	select {
	case <-f.Changed():
		t.Error("a bad file was told as a change")
	case <-time.After(50 * time.Millisecond):
	}
}
