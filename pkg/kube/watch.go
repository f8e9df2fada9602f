package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// StaleAfter is how long a watch may show no progress before what was read from it counts as old.
	StaleAfter = 60 * time.Second

	// After a failure the API server is asked again within the longest of these, so that a policy edit is felt soon after it is back.
	retryFirst   = 200 * time.Millisecond
	retryLongest = 3 * time.Second
)

// watchTimeout is how long one watch request runs. The API server ends it with a bookmark, so that even a quiet watch shows progress well before it is stale. Asking
// again from there costs one request.
func watchTimeout(staleAfter time.Duration) time.Duration { return staleAfter * 2 / 3 }

// api is how one kind is listed and watched.
type api struct {
	list  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error)
	watch func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// feed follows one kind.
type feed struct {
	kind     string
	logger   *slog.Logger
	metrics  *Metrics
	synced   func() bool
	progress atomic.Int64 // when anything was heard last, in Unix nanoseconds
	run      func(ctx context.Context)
}

// newFeed makes the reflector of a kind, which writes to a table.
func newFeed[T any](c *Config, a api, example runtime.Object, t *table[T]) *feed {
	f := &feed{kind: t.kind, logger: t.logger, metrics: c.Metrics, synced: t.hasSynced}
	seconds := max(1, int64(watchTimeout(c.StaleAfter)/time.Second))
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := a.list(ctx, o)
			if err != nil {
				f.failed(ctx, err)
				return nil, err
			}
			f.heard()
			return list, nil
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.TimeoutSeconds, o.AllowWatchBookmarks = &seconds, true
			streamed := o.SendInitialEvents != nil
			w, err := a.watch(ctx, o)
			if err != nil {
				f.watchFailed(ctx, streamed, err)
				return nil, err
			}
			f.heard()
			return f.follow(ctx, w, streamed), nil
		},
	}
	f.run = func(ctx context.Context) {
		const often = 1000 // steps until the longest pause holds for good
		backoff := &wait.Backoff{Duration: retryFirst, Factor: 2, Jitter: 0.5, Steps: often, Cap: retryLongest}
		// What fails is told above, with what to do.
		quiet := logr.Discard()
		r := cache.NewReflectorWithOptions(lw, example, t, cache.ReflectorOptions{Name: t.kind, TypeDescription: t.kind, Backoff: backoff, Logger: &quiet})
		r.RunWithContext(klog.NewContext(ctx, quiet))
	}
	return f
}

func (f *feed) heard() { f.progress.Store(time.Now().UnixNano()) }

// quiet is how long nothing was heard.
func (f *feed) quiet(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, f.progress.Load()))
}

// follow notes what a watch brings. client-go would begin a streamed list that broke off anew at once, as often as it does: as an error it is followed by a list.
func (f *feed) follow(ctx context.Context, w watch.Interface, streamed bool) watch.Interface {
	whole := !streamed
	return tap(w, func(e watch.Event) {
		if e.Type == watch.Error {
			f.watchFailed(ctx, streamed, apierrors.FromObject(e.Object))
			return
		}
		whole = whole || endsList(e)
		f.heard()
	}, func() []watch.Event {
		if whole {
			return nil
		}
		broken := apierrors.NewInternalError(errors.New("the streamed list broke off")).Status()
		return []watch.Event{{Type: watch.Error, Object: &broken}}
	})
}

// endsList: what was streamed until here is a whole list.
func endsList(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	m, err := meta.Accessor(e.Object)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// watchFailed: an API server that does not stream lists says so in one of these ways (the second with an etcd before 3.5.13), and is asked for a list instead.
func (f *feed) watchFailed(ctx context.Context, streamed bool, err error) {
	if streamed && (apierrors.IsInvalid(err) || apierrors.IsInternalError(err)) {
		f.logger.DebugContext(ctx, "the list is not streamed: it is asked for", "kind", f.kind, "error", err)
		return
	}
	f.failed(ctx, err)
}

// failed says what it means that a kind cannot be watched. What was read before stays in force: nothing is taken for deleted.
func (f *feed) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.metrics.watchFailed(f.kind)
	level, remedy := slog.LevelWarn, ""
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		level = slog.LevelDebug // it is listed again
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		level, remedy = slog.LevelError, fmt.Sprintf("grant list and watch of %s to the control plane's service account", f.kind)
	case apierrors.IsNotFound(err):
		level, remedy = slog.LevelError, fmt.Sprintf("install the definition of %s (manifests/crd)", f.kind)
	}
	f.logger.Log(ctx, level, "watching failed: what was read last stays in force, and it is tried again", "kind", f.kind, "error", err, "remedy", remedy)
}
