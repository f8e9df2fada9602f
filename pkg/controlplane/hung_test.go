package controlplane_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// For how long a rebuild has been under way is told while it is, from its beginning, and nothing once it ended, however that was, nor while nothing changes.
func TestRebuilding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		g := &gate{source: &source{changed: make(chan struct{}, 1)}, asked: func() { <-release }}
		loop := controlplane.New(g, &sink{}, slog.New(slog.DiscardHandler), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); loop.Run(ctx) }()
		defer func() { cancel(); <-done }()
		want := func(what string, want time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := loop.Rebuilding(); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		time.Sleep(time.Hour)
		want("nothing changed", 0)
		for _, s := range []*model.Snapshot{world(allow("cart", 1, "front")), nil} { // nil: nothing was read yet
			g.set(s)
			want("it began", 0)
			time.Sleep(90 * time.Second)
			want("it hangs", 90*time.Second)
			g.set(s) // waits
			time.Sleep(30 * time.Second)
			want("it hangs, and more changed", 2*time.Minute)
			release <- struct{}{}
			want("it ended", 0)
			release <- struct{}{} // the next one
			want("the next ended", 0)
			time.Sleep(time.Hour)
			want("nothing changed again", 0)
		}
	})
}
