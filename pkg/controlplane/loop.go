// Package controlplane is the loop that joins a source, the translation and the xDS cache. Input: a Source. Output: updates of a Sink. One entry
// point: Loop.Run.
package controlplane

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// Source gives snapshots.
type Source interface {
	// Changed receives a value after the snapshot changed; several changes may be one value.
	Changed() <-chan struct{}
	// Snapshot is the present snapshot; false until there is a first complete one.
	Snapshot() (*model.Snapshot, bool)
}

// Sink takes the complete state.
type Sink interface {
	Set(u xds.Update)
}

var _ Sink = (*xds.Cache)(nil)

// minInterval lies between two rebuilds: what arrives meanwhile is one rebuild. There is no debounce: the first change is rebuilt at once.
const minInterval = 2 * time.Millisecond

// Loop rebuilds everything after each change, on one goroutine. After a rebuild that panics the last good output stays, and Degraded says so.
type Loop struct {
	source  Source
	sink    Sink
	logger  *slog.Logger
	metrics *Metrics

	indexer    model.Indexer
	translator translate.Translator
	state      state
	told       told

	mu       sync.Mutex
	sequence int64
	moved    chan struct{} // closed when sequence moves on
	degraded bool
	began    time.Time // of the rebuild that is under way; zero where none is
	built    Built
}

// Built is what a rebuild made, and the index that it was made from.
type Built struct {
	Index  *model.Index
	Output *translate.Output
}

// New returns a loop; Run starts it.
func New(source Source, sink Sink, logger *slog.Logger, metrics *Metrics) *Loop {
	return &Loop{source: source, sink: sink, logger: logger, metrics: metrics, moved: make(chan struct{})}
}

// Run rebuilds until ctx is done.
func (l *Loop) Run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-l.source.Changed():
			l.Rebuild()
		}
		pause.Reset(minInterval)
	}
}

// Degraded says whether the last rebuild failed, so that an older output is in force.
func (l *Loop) Degraded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.degraded
}

// Rebuilding is for how long the rebuild that is under way has been; 0 where none is. What changed meanwhile waits for its end.
func (l *Loop) Rebuilding() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began.IsZero() {
		return 0
	}
	return time.Since(l.began)
}

// Built is the last good rebuild; nothing before the first.
func (l *Loop) Built() Built {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.built
}

// WaitFor returns the number of rebuilds when there were at least n, or when ctx is done.
func (l *Loop) WaitFor(ctx context.Context, n int64) int64 {
	for {
		l.mu.Lock()
		sequence, moved := l.sequence, l.moved
		l.mu.Unlock()
		if sequence >= n {
			return sequence
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return sequence
		}
	}
}

// Rebuild is one round: everything, from the present snapshot. Run does it after each change; it is exported to be measured, and not safe beside Run.
func (l *Loop) Rebuild() {
	start := time.Now()
	l.mu.Lock()
	l.began = start
	l.mu.Unlock()
	built, err := l.build()
	output := built.Output
	l.metrics.rebuilt(time.Since(start), output, err) // before anybody is told: who saw the rebuild finds it counted
	l.mu.Lock()
	l.sequence++
	l.began = time.Time{}
	l.degraded = err != nil
	if err == nil && output != nil {
		l.built = built
	}
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
	switch {
	case err != nil:
		l.logger.Error("a rebuild failed: the last good configuration stays in force", "error", err)
	case output != nil:
		l.told.tell(l.logger, output.Diagnostics)
		l.logger.Info("rebuilt", "workloads", len(output.Workloads), "companions", len(output.Companions), "diagnostics", len(output.Diagnostics), "duration", time.Since(start))
	}
}

// build translates the snapshot and hands it to the sink. One recover stands around it: a defect on one object must not take the server with it.
func (l *Loop) build() (built Built, err error) {
	defer func() {
		if p := recover(); p != nil {
			built, err = Built{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			// What was half built must not be taken for built.
			l.translator, l.indexer, l.state = translate.Translator{}, model.Indexer{}, state{}
		}
	}()
	snapshot, complete := l.source.Snapshot()
	if !complete {
		return Built{}, nil
	}
	index := l.indexer.Index(snapshot)
	output := l.translator.Translate(index)
	update, err := l.state.update(index.Grouping, output)
	if err != nil {
		return Built{}, err
	}
	l.sink.Set(update)
	return Built{index, output}, nil
}
