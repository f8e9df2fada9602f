package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Of the events that a pod's life is made of, those that change nothing for anybody end in the table: no snapshot is asked for, and nothing is rebuilt. The others leave every
// other pod, policy and Service of the snapshot the very same.
func TestAPodsLife(t *testing.T) {
	t.Parallel()
	s := bigCluster(t, 2)
	before, _ := s.Snapshot()
	take := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	take()
	p := bigPod("ns-01", "app-07", "", 10)
	p.Spec.NodeName, p.Status = "", corev1.PodStatus{Phase: corev1.PodPending}
	ready := func(status corev1.ConditionStatus) []corev1.PodCondition {
		return []corev1.PodCondition{{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()}}
	}
	for _, stage := range []struct {
		name    string
		happens func()
		changes bool
	}{
		{"made", func() {}, true},
		{"scheduled", func() { p.Spec.NodeName = "n" }, true},
		{"told so", func() { p.Status.Conditions = ready(corev1.ConditionFalse) }, false},
		{"being pulled", func() { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app"}} }, false},
		{"given an address", func() { p.Status.PodIP, p.Status.PodIPs = "10.200.0.1", []corev1.PodIP{{IP: "10.200.0.1"}} }, true},
		{"running", func() { p.Status.Phase = corev1.PodRunning }, false},
		{"ready", func() { p.Status.Conditions = ready(corev1.ConditionTrue) }, false},
		{"annotated by somebody", func() { p.Annotations["example.org/note"] = "x" }, false},
		{"ending", func() { now := metav1.Now(); p.DeletionTimestamp = &now }, false},
		{"not ready any more", func() { p.Status.Conditions = ready(corev1.ConditionFalse) }, false},
		{"ended", func() { p.Status.Phase = corev1.PodSucceeded }, true},
	} {
		stage.happens()
		p.ResourceVersion += "0"
		if err := s.pods.Update(p.DeepCopy()); err != nil {
			t.Fatal(err)
		}
		if told := take(); told != stage.changes {
			t.Fatalf("%s: told of it: %v, want %v", stage.name, told, stage.changes)
		}
		if !stage.changes {
			continue
		}
		after, _ := s.Snapshot()
		if !model.SameSlice(after.Policies, before.Policies) || !model.SameSlice(after.Services, before.Services) || !model.SameSlice(after.Namespaces, before.Namespaces) {
			t.Errorf("%s: policies, Services or namespaces are others", stage.name)
		}
		if same, others := sharedPods(before.Pods, after.Pods); same != len(before.Pods) || others != 1 {
			t.Errorf("%s: %d of %d pods are the same, and %d are others, want one", stage.name, same, len(before.Pods), others)
		}
	}
	if err := s.pods.Delete(p); err != nil {
		t.Fatal(err)
	}
	if after, _ := s.Snapshot(); !take() || len(after.Pods) != len(before.Pods) {
		t.Errorf("%d pods after it is gone, want %d", len(after.Pods), len(before.Pods))
	}
}

// sharedPods counts the pods of a list that are the very same in another, and those that are not.
func sharedPods[T any](in, list []*T) (same, others int) {
	known := map[*T]bool{}
	for _, p := range in {
		known[p] = true
	}
	for _, p := range list {
		if known[p] {
			same++
		} else {
			others++
		}
	}
	return same, others
}
