package kube

import (
	"testing"
	"testing/synctest"

	"k8s.io/apimachinery/pkg/watch"
)

// A watch that is stopped with an event on its way ends, and leaves no goroutine behind: the bubble would not end.
func TestATapThatIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := watch.NewFakeWithChanSize(3, false)
		source.Add(nil)
		source.Modify(nil)
		looked := 0
		w := tap(source, func(watch.Event) { looked++ }, nothing)
		if e := <-w.ResultChan(); e.Type != watch.Added {
			t.Errorf("got %s", e.Type)
		}
		synctest.Wait()
		w.Stop()
		w.Stop()
		for range w.ResultChan() {
			t.Error("an event came after the watch was stopped")
		}
		if looked != 2 {
			t.Errorf("%d events were looked at, want 2", looked)
		}
	})
}

// A watch that the server ends is passed on to its end.
func TestATapThatEnds(t *testing.T) {
	t.Parallel()
	source := watch.NewFakeWithChanSize(3, false)
	source.Add(nil)
	source.Delete(nil)
	source.Stop()
	n := 0
	for range tap(source, func(watch.Event) {}, nothing).ResultChan() {
		n++
	}
	if n != 2 {
		t.Errorf("got %d events", n)
	}
}

func nothing() []watch.Event { return nil }
