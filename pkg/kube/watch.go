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
	"k8s.io/apimachinery/pkg/util/resourceversion"
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

// watchTimeout is how long one watch request runs, so that even a quiet one shows progress well before it is stale: asking again costs two small requests.
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
	size     func() int
	started  time.Time
	progress atomic.Int64          // when anything was heard last, in nanoseconds after started: a monotonic time, whatever is done to the clock
	failure  atomic.Pointer[error] // the last one, nil when something was heard since
	troubled func()                // a failure is there to be read
	run      func(ctx context.Context)
}

// newFeed makes the reflector of a kind, which writes to a table.
func newFeed[T any](c *Config, a api, example runtime.Object, t *table[T], troubled func()) *feed {
	f := &feed{kind: t.kind, logger: t.logger, metrics: c.Metrics, synced: t.hasSynced, size: t.size, started: time.Now(), troubled: troubled}
	seconds := max(1, int64(watchTimeout(c.StaleAfter)/time.Second))
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return f.list(ctx, a, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.TimeoutSeconds, o.AllowWatchBookmarks = &seconds, true
			if o.SendInitialEvents != nil {
				return f.streamList(ctx, a, o)
			}
			return f.watch(ctx, a, o)
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

func (f *feed) heard() {
	f.progress.Store(int64(time.Since(f.started)))
	f.failure.Store(nil)
	f.metrics.defined(f.kind, true)
}

// quiet is how long nothing was heard.
func (f *feed) quiet(now time.Time) time.Duration {
	return now.Sub(f.started) - time.Duration(f.progress.Load())
}

// list asks for what there is now. What an API server remembers may be older than what was read before, by this process or by another one; and asked for the version
// that was read before, one whose store was restored from a backup says no for 40 s.
func (f *feed) list(ctx context.Context, a api, o metav1.ListOptions) (runtime.Object, error) {
	read := o.ResourceVersion
	o.ResourceVersion, o.ResourceVersionMatch = "", ""
	list, err := a.list(ctx, o)
	if err != nil {
		f.failed(ctx, err)
		return nil, err
	}
	// Pages are collected before they are converted: each is stripped as it comes.
	if err := meta.EachListItem(list, func(o runtime.Object) error {
		_, err := strip(o)
		return err
	}); err != nil {
		return nil, err
	}
	if m, err := meta.ListAccessor(list); err == nil {
		f.wentBack(ctx, m.GetResourceVersion(), read)
		if m.GetContinue() == "" {
			f.heard()
		}
	}
	return list, nil
}

// watch goes on from a version. Before that it asks for what the API server must ask its store for: one that has lost its store goes on serving watches from
// memory, bookmarks and all, and one whose store was restored from a backup lets a watch from a version that is still to come wait for it, as if nothing changed.
func (f *feed) watch(ctx context.Context, a api, o metav1.ListOptions) (watch.Interface, error) {
	reading, cancel := context.WithTimeout(ctx, time.Duration(*o.TimeoutSeconds)*time.Second)
	defer cancel()
	stored, err := a.list(reading, metav1.ListOptions{Limit: 1})
	if err != nil {
		f.failed(ctx, err)
		return nil, err
	}
	if m, err := meta.ListAccessor(stored); err == nil && f.wentBack(ctx, m.GetResourceVersion(), o.ResourceVersion) {
		return nil, apierrors.NewResourceExpired("the API server's store has an earlier version")
	}
	w, err := a.watch(ctx, o)
	if err != nil {
		f.failed(ctx, err)
		return nil, err
	}
	f.heard()
	return tap(w, func(e watch.Event) {
		switch e.Type {
		case watch.Error:
			f.failed(ctx, apierrors.FromObject(e.Object))
		case watch.Bookmark:
		default:
			f.heard()
		}
	}, func() []watch.Event { return nil }), nil
}

// wentBack says whether the API server has an earlier version than was read, and tells people what follows.
func (f *feed) wentBack(ctx context.Context, has, read string) bool {
	if order, err := resourceversion.CompareResourceVersion(has, read); err != nil || order >= 0 {
		return false
	}
	f.metrics.watchFailed(f.kind)
	f.logger.ErrorContext(ctx, "the API server has an earlier state than it had: was it restored from a backup? All is listed again, and what is missing is gone",
		"kind", f.kind, "has", has, "read", read)
	return true
}

// streamList asks for a list of what there is now as a stream, and goes on with a watch. client-go would begin one that broke off anew at once, as often as it does: as an error it is
// followed by a list.
func (f *feed) streamList(ctx context.Context, a api, o metav1.ListOptions) (watch.Interface, error) {
	// An API server that does not stream says so by the first, or with an etcd before 3.5.13 by the second. A list is asked for then.
	failed := func(err error) {
		if !apierrors.IsInvalid(err) && !apierrors.IsInternalError(err) {
			f.failed(ctx, err)
		}
	}
	read := o.ResourceVersion
	o.ResourceVersion = ""
	w, err := a.watch(ctx, o)
	if err != nil {
		failed(err)
		return nil, err
	}
	whole := false
	return tap(w, func(e watch.Event) {
		if e.Type == watch.Error {
			failed(apierrors.FromObject(e.Object))
			return
		}
		if m, err := meta.Accessor(e.Object); err == nil && e.Type == watch.Bookmark {
			if whole || m.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
				return
			}
			whole = true
			f.wentBack(ctx, m.GetResourceVersion(), read)
		}
		f.heard()
	}, func() []watch.Event {
		if whole {
			return nil
		}
		broken := apierrors.NewInternalError(errors.New("the streamed list broke off")).Status()
		return []watch.Event{{Type: watch.Error, Object: &broken}}
	}), nil
}

// failed says what it means that a kind cannot be watched. What was read before stays in force: nothing is taken for deleted.
func (f *feed) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	f.metrics.watchFailed(f.kind)
	f.failure.Store(&err)
	f.troubled()
	level, remedy := slog.LevelWarn, ""
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err):
		level = slog.LevelDebug // it is listed again
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		level, remedy = slog.LevelError, fmt.Sprintf("grant list and watch of %s to the control plane's service account", f.kind)
	case apierrors.IsNotFound(err):
		f.metrics.defined(f.kind, false)
		level, remedy = slog.LevelError, fmt.Sprintf("install the definition of %s (manifests/crd)", f.kind)
		if f.synced() && f.size() == 0 {
			remedy += "; with it everything of the kind is gone: what it isolated is open"
		}
	}
	f.logger.Log(ctx, level, "watching failed: what was read last stays in force, and it is tried again", "kind", f.kind, "error", err, "remedy", remedy)
}
