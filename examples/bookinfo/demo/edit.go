package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	edits       = 20                     // after the first one
	probePause  = 500 * time.Microsecond // between two requests that look for the new verdict
	editTime    = 10 * time.Second
	eventsAfter = 3 // events of the stream to wait for after an edit
	editedFile  = "yaml/policies/reviews.yaml"
	before      = "methods: [GET]"
	after       = "methods: [HEAD]"
	callerName  = "productpage-v1"
	calleeName  = "reviews-v3"
)

// showEdit edits a policy while a stream that it once allowed is open: new requests are refused at once, and the stream goes on.
func (w *world) showEdit(ctx context.Context, out *output) (bool, error) {
	e, err := w.newEdit(ctx)
	if err != nil {
		return false, err
	}
	defer e.stream.close()
	out.head("A policy edit, while a stream from %s to %s is open", callerName, calleeName)
	shut, err := e.edit(ctx, before, after, false)
	if err != nil {
		return false, err
	}
	acked, proxies, err := w.acknowledged(ctx, "reviews", shut.written)
	if err != nil {
		return false, err
	}
	events, alive := e.stream.goesOn(ctx)
	out.check(true, "%s: %q becomes %q, and GET /reviews/0 is refused %s after the file was written", filepath.Base(editedFile), before, after, shut.took.Round(100*time.Microsecond))
	out.check(true, "the last of %d proxies had acknowledged it %s after the file was written", proxies, acked.Round(100*time.Microsecond))
	out.check(alive, "the stream, open since before, goes on: event %d arrived", events)
	opened, err := e.edit(ctx, after, before, true)
	if err != nil {
		return false, err
	}
	times := []time.Duration{shut.took, opened.took}
	for i := range edits {
		old, now, allowed := before, after, false
		if i%2 == 1 {
			old, now, allowed = after, before, true
		}
		result, err := e.edit(ctx, old, now, allowed)
		if err != nil {
			return false, err
		}
		times = append(times, result.took)
	}
	events, stillAlive := e.stream.goesOn(ctx)
	slices.Sort(times)
	out.check(true, "%d edits, from file to verdict: median %s, slowest %s", len(times), times[len(times)/2].Round(100*time.Microsecond), times[len(times)-1].Round(100*time.Microsecond))
	modified, err := w.listenersModified(ctx)
	if err != nil {
		return false, err
	}
	out.check(modified == 0, "listeners that were modified or drained meanwhile: %d", modified)
	out.check(stillAlive, "the same stream after all of them: event %d arrived", events)
	return alive && stillAlive && modified == 0, nil
}

// edit is what the edits need.
type edit struct {
	file   string
	url    string
	client *http.Client
	stream *stream
}

func (w *world) newEdit(ctx context.Context) (*edit, error) {
	caller, err := w.named(callerName)
	if err != nil {
		return nil, err
	}
	callee, err := w.named(calleeName)
	if err != nil {
		return nil, err
	}
	base := "http://" + callee.listen(9080).String() + "/reviews/0"
	client := from(caller.address, keepAlives)
	opened, err := openStream(ctx, client, base+"/stream")
	if err != nil {
		return nil, err
	}
	return &edit{file: filepath.Join(w.dir, editedFile), url: base, client: client, stream: opened}, nil
}

// edited says when a file was written, and how long it took until a request got the new verdict.
type edited struct {
	written time.Time
	took    time.Duration
}

// edit replaces text in the file, as editors do, and asks until the verdict is the wanted one.
func (e *edit) edit(ctx context.Context, old, replacement string, allowed bool) (*edited, error) {
	text, err := os.ReadFile(e.file)
	if err != nil {
		return nil, fmt.Errorf("edit: %w", err)
	}
	if !strings.Contains(string(text), old) {
		return nil, fmt.Errorf("edit: no %q in %s", old, e.file)
	}
	next := filepath.Join(filepath.Dir(e.file), ".next") // hidden, so that nobody reads it before it is whole
	if err := os.WriteFile(next, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600); err != nil {
		return nil, fmt.Errorf("edit: %w", err)
	}
	written := time.Now()
	if err := os.Rename(next, e.file); err != nil {
		return nil, fmt.Errorf("edit: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	for {
		is, err := e.allowed(ctx)
		if err != nil {
			return nil, fmt.Errorf("edit %q to %q: %w", old, replacement, err)
		}
		if is == allowed {
			return &edited{written, time.Since(written)}, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("edit %q to %q: no new verdict: %w", old, replacement, ctx.Err())
		case <-time.After(probePause):
		}
	}
}

func (e *edit) allowed(ctx context.Context) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, http.NoBody)
	if err != nil {
		return false, err
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return false, err
	}
	return resp.StatusCode == http.StatusOK, resp.Body.Close()
}

// acknowledged waits until every proxy runs what a policy says now, and returns when the last of those that it concerns said so.
func (w *world) acknowledged(ctx context.Context, policy string, written time.Time) (took time.Duration, proxies int, err error) {
	if err := w.eventually(ctx, "every proxy has acknowledged", w.allEnforced); err != nil {
		return 0, 0, err
	}
	all, err := w.status(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, p := range all {
		concerned := false
		for _, r := range p.Resources {
			for _, ref := range r.Policies {
				if ref.Policy == "bookinfo/"+policy {
					concerned = true
					took = max(took, r.Changed.Sub(written))
				}
			}
		}
		if concerned {
			proxies++
		}
	}
	return took, proxies, nil
}

// listenersModified is how many listeners all sidecars have modified or begun to drain since they started.
func (w *world) listenersModified(ctx context.Context) (total int, err error) {
	for _, each := range w.workloads {
		for _, stat := range []string{"listener_modified", "listener_in_place_updated", "listener_removed", "total_listeners_draining"} {
			text, err := get(ctx, overSocket(w.adminSocket(each)), "http://admin/stats?filter=^listener_manager."+stat+"$")
			if err != nil {
				return 0, err
			}
			var n int
			if _, value, found := strings.Cut(text, ": "); found {
				if _, err := fmt.Sscan(value, &n); err != nil {
					return 0, fmt.Errorf("stat %s of %s: %w", stat, each.name, err)
				}
			}
			total += n
		}
	}
	return total, nil
}

// stream counts the events of a response that does not end.
type stream struct {
	events atomic.Int64
	ended  chan struct{}
	cancel context.CancelFunc
}

func openStream(ctx context.Context, client *http.Client, url string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open the stream: %w", err)
	}
	patient := *client
	patient.Timeout = 0
	resp, err := patient.Do(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.Join(errors.New(resp.Status), resp.Body.Close())
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open the stream: %w", err)
	}
	s := &stream{ended: make(chan struct{}), cancel: cancel}
	go func() {
		defer close(s.ended)
		defer func() { _ = resp.Body.Close() }()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "data:") {
				s.events.Add(1)
			}
		}
	}()
	return s, nil
}

// goesOn waits for a few more events, and says how many there were in all and whether the stream is still open.
func (s *stream) goesOn(ctx context.Context) (events int64, alive bool) {
	ctx, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for want := s.events.Load() + eventsAfter; ; {
		select {
		case <-ctx.Done():
			return s.events.Load(), false
		case <-s.ended:
			return s.events.Load(), false
		case <-ticker.C:
		}
		if n := s.events.Load(); n >= want {
			return n, true
		}
	}
}

func (s *stream) close() {
	s.cancel()
	<-s.ended
}
