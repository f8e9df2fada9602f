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

	"google.golang.org/protobuf/proto"

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
	resources  map[proto.Message]*xds.Resource
	grouping   []*model.Workload // that nodes were listed from
	nodes      map[string]xds.Node

	mu       sync.Mutex
	sequence int64
	moved    chan struct{} // closed when sequence moves on
	degraded bool
	built    Built
}

// Built is what a rebuild made, and the index that it was made from.
type Built struct {
	Index  *model.Index
	Output *translate.Output
}

// New returns a loop; Run starts it.
func New(source Source, sink Sink, logger *slog.Logger, metrics *Metrics) *Loop {
	return &Loop{source: source, sink: sink, logger: logger, metrics: metrics, resources: map[proto.Message]*xds.Resource{}, moved: make(chan struct{})}
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
			l.rebuild()
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

// rebuild is one round: everything, from the present snapshot.
func (l *Loop) rebuild() {
	start := time.Now()
	built, err := l.build()
	output := built.Output
	l.mu.Lock()
	l.sequence++
	l.degraded = err != nil
	if err == nil && output != nil {
		l.built = built
	}
	close(l.moved)
	l.moved = make(chan struct{})
	l.mu.Unlock()
	l.metrics.rebuilt(time.Since(start), output, err)
	switch {
	case err != nil:
		l.logger.Error("a rebuild failed: the last good configuration stays in force", "error", err)
	case output != nil:
		l.logger.Info("rebuilt", "workloads", len(output.Workloads), "companions", len(output.Companions), "diagnostics", len(output.Diagnostics), "duration", time.Since(start))
	}
}

// build translates the snapshot and hands it to the sink. One recover stands around it: a defect on one object must not take the server with it.
func (l *Loop) build() (built Built, err error) {
	defer func() {
		if p := recover(); p != nil {
			built, err = Built{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			// What was half built must not be taken for built.
			l.translator, l.indexer, l.nodes = translate.Translator{}, model.Indexer{}, nil
		}
	}()
	snapshot, complete := l.source.Snapshot()
	if !complete {
		return Built{}, nil
	}
	index := l.indexer.Index(snapshot)
	output := l.translator.Translate(index)
	update, err := l.update(output)
	if err != nil {
		return Built{}, err
	}
	update.Nodes = l.nodesOf(index.Workloads)
	l.sink.Set(update)
	return Built{index, output}, nil
}

// nodesOf lists the proxies of workloads. While the pods stay as they are grouped, the list is the same map: a policy edit does no work per pod.
func (l *Loop) nodesOf(workloads []*model.Workload) map[string]xds.Node {
	if l.nodes != nil && len(l.grouping) == len(workloads) && (len(workloads) == 0 || &l.grouping[0] == &workloads[0]) {
		return l.nodes
	}
	l.grouping, l.nodes = workloads, make(map[string]xds.Node, len(l.nodes))
	for _, w := range workloads {
		for _, p := range w.Pods {
			id := p.Namespace + "/" + p.Name
			l.nodes[id] = xds.Node{ID: id, UID: p.UID, Workload: w.Key, Unaddressed: p.AwaitsAddress}
		}
	}
	return l.nodes
}

// update makes resources of an output's messages. A message that was there before is the same resource, which is marshalled already.
func (l *Loop) update(output *translate.Output) (xds.Update, error) {
	u := xds.Update{Workloads: make(map[string][]*xds.Resource, len(output.Workloads))}
	next := make(map[proto.Message]*xds.Resource, len(l.resources))
	for _, w := range output.Workloads {
		resources := make([]*xds.Resource, 0, len(w.Resources))
		for _, r := range w.Resources {
			resource, err := l.resource(next, r)
			if err != nil {
				return u, fmt.Errorf("workload %s: %w", w.Workload.Key, err)
			}
			resources = append(resources, resource)
		}
		u.Workloads[w.Workload.Key] = resources
	}
	l.resources = next
	return u, nil
}

// resource: workloads share messages, whose policies may differ; the marshalled form is the message's.
func (l *Loop) resource(next map[proto.Message]*xds.Resource, r translate.Resource) (*xds.Resource, error) {
	for _, known := range []*xds.Resource{next[r.Message], l.resources[r.Message]} {
		if known == nil {
			continue
		}
		resource := known.WithPolicies(r.Policies)
		next[r.Message] = resource
		return resource, nil
	}
	resource, err := xds.NewResource(r.Message, r.Policies)
	if err != nil {
		return nil, err
	}
	next[r.Message] = resource
	return resource, nil
}
