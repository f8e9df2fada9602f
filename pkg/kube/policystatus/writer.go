// Package policystatus writes the statuses of policies to the API server. Input: the status that each policy should have, and how it stands there. Output: writes, of
// what differs alone. One entry point: Writer.Run, in the leader alone.
//
// What it promises: a policy is written at most once a second, and never for what passes within half of one; but that it is enforced is written at once, since somebody
// may be waiting for it. A write is for the very policy (its UID), so that one that was made anew is not told what its predecessor was. What it does not own in the
// status it leaves alone. Two writers with the same input write the same.
package policystatus

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// FieldManager is the name that we apply under.
const FieldManager = "pilot-lite"

const (
	// minInterval lies between two writes of one policy.
	minInterval = time.Second
	// settleTime is how long anything but "enforced" must have differed until it is written: most of it passes in milliseconds.
	settleTime = 500 * time.Millisecond
	// compareTime is how long "enforced" waits for what the comparison of the layers says, to be written together.
	compareTime = 200 * time.Millisecond
	// readBack is how long a write may take to be seen in what stands, until it is written again.
	readBack = 5 * time.Second
	// lookInterval lies between two looks at what differs.
	lookInterval = 20 * time.Millisecond
	// writeTimeout bounds one request, retries of the client included.
	writeTimeout = 10 * time.Second
	longestPause = 30 * time.Second
	workers      = 8
)

// Client writes a status, for the very policy.
type Client interface {
	ApplyStatus(ctx context.Context, ref model.PolicyRef, status *v1alpha1.L7PolicyStatus, manager string) error
}

// Config is what a Writer needs.
type Config struct {
	Client Client
	// Stored is the status of a policy as it stands; false where no such policy stands.
	Stored  func(ref model.PolicyRef) (v1alpha1.L7PolicyStatus, bool)
	Leads   func() bool // asked before each write; nil where there is nobody else
	Logger  *slog.Logger
	Metrics *Metrics // may be nil
}

// Writer compares and writes.
type Writer struct {
	Config
	poke chan struct{}
	done chan outcome

	mu      sync.Mutex
	records map[string]*record // by the policy's UID
	open    map[string]*record // those that differ, or may
}

// record is what is remembered of one policy.
type record struct {
	ref      model.PolicyRef
	desired  v1alpha1.L7PolicyStatus
	differs  time.Time // since when; zero while what stands is as desired
	written  *v1alpha1.L7PolicyStatus
	last     time.Time // of the last write
	failures int
	busy     bool
}

// outcome is how a write went.
type outcome struct {
	uid     string
	written v1alpha1.L7PolicyStatus
	err     error
	at      time.Time
}

// New returns a writer; Run starts it.
func New(c Config) *Writer {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Leads == nil {
		c.Leads = func() bool { return true }
	}
	return &Writer{Config: c, poke: make(chan struct{}, 1), done: make(chan outcome, workers), records: map[string]*record{}, open: map[string]*record{}}
}

// Set says what some policies' statuses should be.
func (w *Writer) Set(results []status.Result) {
	if len(results) == 0 {
		return
	}
	w.mu.Lock()
	for _, r := range results {
		known := w.records[r.Ref.UID]
		if known == nil {
			known = &record{}
			w.records[r.Ref.UID] = known
		}
		w.Metrics.moved(known.reason(), reasonOf(&r.Status))
		known.ref, known.desired = r.Ref, r.Status
		w.open[r.Ref.UID] = known
	}
	w.mu.Unlock()
	w.wake()
}

// Touched says that what stands of some policies has changed, by their UIDs. It never blocks.
func (w *Writer) Touched(uids []string) {
	some := false
	w.mu.Lock()
	for _, uid := range uids {
		if r := w.records[uid]; r != nil {
			w.open[uid], some = r, true
		}
	}
	w.mu.Unlock()
	if some {
		w.wake()
	}
}

// openAll has every policy looked at.
func (w *Writer) openAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.open, w.records)
}

func (w *Writer) wake() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// Run compares and writes until ctx is done, and returns when the last write has ended.
func (w *Writer) Run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	busy := 0
	var last, all time.Time
	for {
		select {
		case <-ctx.Done():
			for ; busy > 0; busy-- {
				w.settle(<-w.done)
			}
			return
		case o := <-w.done:
			busy--
			w.settle(o)
			next.Reset(0)
			continue
		case <-w.poke:
			next.Reset(max(0, lookInterval-time.Since(last)))
			continue
		case <-next.C:
		}
		last = time.Now()
		if last.Sub(all) >= readBack { // whatever was not heard of
			all = last
			w.openAll()
		}
		due, wait := w.look(last, workers-busy)
		next.Reset(wait)
		for _, r := range due {
			busy++
			go func() { w.done <- w.write(ctx, r) }()
		}
	}
}

// task is a write to do.
type task struct {
	ref     model.PolicyRef
	desired v1alpha1.L7PolicyStatus
}

// look finds at most n writes that are due, and when to look again. What stands as desired it looks at no more until something happens to it.
func (w *Writer) look(now time.Time, n int) (due []task, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait = readBack
	for uid, r := range w.open {
		if r.busy {
			continue
		}
		stored, found := w.Stored(r.ref)
		if !found {
			w.Metrics.moved(r.reason(), "")
			delete(w.records, uid)
			delete(w.open, uid)
			continue
		}
		at, some := r.due(&stored, now)
		switch {
		case !some:
			delete(w.open, uid)
		case at.After(now):
			wait = min(wait, at.Sub(now))
		case len(due) < n:
			r.busy = true
			due = append(due, task{r.ref, merged(&r.desired, &stored, now)})
		}
	}
	return due, wait
}

// due says when the policy is to be written, if it is.
func (r *record) due(stored *v1alpha1.L7PolicyStatus, now time.Time) (at time.Time, some bool) {
	if same(&r.desired, stored) {
		r.differs, r.written = time.Time{}, nil
		return at, false
	}
	if r.differs.IsZero() {
		r.differs = now
	}
	at = r.last.Add(minInterval)
	if settled := r.differs.Add(settling(&r.desired, stored)); settled.After(at) {
		at = settled
	}
	switch {
	case r.failures > 0:
		at = r.last.Add(min(minInterval<<min(r.failures, 5), longestPause)) //nolint:mnd // doublings
	case r.written != nil && same(&r.desired, r.written):
		at = r.last.Add(readBack) // it is on its way back
	}
	return at, true
}

// settle takes over how a write went.
func (w *Writer) settle(o outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.records[o.uid]
	if r == nil {
		return
	}
	r.busy, r.last = false, o.at
	if o.err != nil {
		r.failures++
		return
	}
	r.failures, r.written = 0, &o.written
}
