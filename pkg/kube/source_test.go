package kube

import (
	"testing"

	"k8s.io/client-go/kubernetes/fake"
)

// Whichever kind is listed last, whoever waits for the snapshot hears of it: in an empty cluster nothing else would ever tell them.
func TestTheLastListIsToldOf(t *testing.T) {
	t.Parallel()
	for last := range 8 {
		s := NewSource(Config{Client: fake.NewClientset()})
		lists := []func() error{
			func() error { return s.namespaces.Replace(nil, "") }, func() error { return s.services.Replace(nil, "") }, func() error { return s.slices.Replace(nil, "") },
			func() error { return s.pods.Replace(nil, "") }, func() error { return s.accounts.Replace(nil, "") }, func() error { return s.networkPolicies.Replace(nil, "") },
			func() error { return s.mesh.Replace(nil, "") }, func() error { return s.policies.Replace(nil, "") },
		}
		if len(lists) != len(s.feeds) {
			t.Fatalf("%d kinds are read, and %d are tried", len(s.feeds), len(lists))
		}
		list := func(i int) {
			if err := lists[i](); err != nil {
				t.Fatal(err)
			}
		}
		for i := range lists {
			if i != last {
				list(i)
			}
		}
		select { // what was told so far is heard
		case <-s.Changed():
		default:
		}
		waiting := s.Waiting()
		list(last)
		select {
		case <-s.Changed():
		default:
			t.Errorf("nobody heard that the last kind was listed: %v", waiting)
		}
		if _, complete := s.Snapshot(); !complete {
			t.Errorf("no snapshot, though everything was listed; still waiting for %v", s.Waiting())
		}
	}
}
