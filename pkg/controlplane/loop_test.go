package controlplane_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a source that the test edits.
type source struct {
	mu       sync.Mutex
	snapshot *model.Snapshot
	changed  chan struct{}
}

func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Snapshot() (*model.Snapshot, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot, s.snapshot != nil
}

func (s *source) set(snapshot *model.Snapshot) {
	s.mu.Lock()
	s.snapshot = snapshot
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// sink remembers what it was given.
type sink struct {
	mu      sync.Mutex
	updates []xds.Update
}

func (s *sink) Set(u xds.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates = append(s.updates, u)
}

func (s *sink) last() (xds.Update, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.updates) == 0 {
		return xds.Update{}, 0
	}
	return s.updates[len(s.updates)-1], len(s.updates)
}

// running is a loop with its source and sink.
type running struct {
	*controlplane.Loop
	t       *testing.T
	source  *source
	sink    *sink
	rebuilt int64
}

func run(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, source: &source{changed: make(chan struct{}, 1)}, sink: &sink{}}
	r.Loop = controlplane.New(r.source, r.sink, slog.New(slog.DiscardHandler), controlplane.NewMetrics(prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// apply sets a snapshot and waits until it was looked at.
func (r *running) apply(s *model.Snapshot) xds.Update {
	r.t.Helper()
	r.source.set(s)
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	if got := r.WaitFor(ctx, r.rebuilt+1); got < r.rebuilt+1 {
		r.t.Fatalf("%d rebuilds, want %d", got, r.rebuilt+1)
	}
	r.rebuilt++
	u, _ := r.sink.last()
	return u
}

func pods(n int) []*model.Pod {
	var out []*model.Pod
	for i := range n {
		out = append(out, &model.Pod{
			Namespace: "shop", Name: fmt.Sprintf("app-%d", i), Labels: map[string]string{"app": fmt.Sprint(i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})},
			Ports: []model.ContainerPort{{Number: 8080, Protocol: model.TCP}},
		})
	}
	return out
}

func policy(app string, rules ...model.Rule) *model.Policy {
	return &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "p" + app, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true,
		Selector: labels.SelectorFromSet(labels.Set{"app": app}), Ingress: rules,
	}
}

// resources are the versions of what each workload runs, by type and name.
func resources(u xds.Update) map[string]string {
	out := map[string]string{}
	for _, list := range u.Workloads {
		for _, r := range list {
			// The workload's own name is not in its key where it is regrouped; type, name and version are what a proxy sees.
			out[r.Type+" "+r.Name+" "+r.Version] = r.Version
		}
	}
	return out
}

// A policy edit makes new slots for the workloads that it touches; every other resource is the very same one, marshalled already.
func TestAPolicyEditTouchesSlotsOnly(t *testing.T) {
	t.Parallel()
	r := run(t)
	world := pods(5)
	before := r.apply(&model.Snapshot{Pods: world})
	after := r.apply(&model.Snapshot{Pods: world, Policies: []*model.Policy{policy("1")}})
	changed := 0
	for key, list := range after.Workloads {
		for i, res := range list {
			old := before.Workloads[key]
			if len(old) != len(list) {
				t.Fatalf("%s: %d resources, then %d", key, len(old), len(list))
			}
			same := false
			for _, o := range old {
				same = same || o == res
			}
			if same {
				continue
			}
			changed++
			if list[i].Type != xds.ExtensionConfigType || before.Nodes[key][0].ID != "shop/app-1" {
				t.Errorf("%s: %s %s changed", key, res.Type, res.Name)
			}
		}
	}
	if changed == 0 {
		t.Error("nothing changed")
	}
}

// Building the same anew gives the same: nothing would be sent.
func TestNothingChangesWhenNothingDid(t *testing.T) {
	t.Parallel()
	r := run(t)
	before := resources(r.apply(&model.Snapshot{Pods: pods(3), Policies: []*model.Policy{policy("1")}}))
	after := resources(r.apply(&model.Snapshot{Pods: pods(3), Policies: []*model.Policy{policy("1")}}))
	for key := range after {
		if before[key] == "" {
			t.Errorf("%s is new", key)
		}
	}
}

// A rebuild that panics leaves what is in force, says so, and the next good one heals it.
func TestAPanicLeavesTheLastGoodOutput(t *testing.T) {
	t.Parallel()
	r := run(t)
	r.apply(&model.Snapshot{Pods: pods(2)})
	good := r.Built().Output
	broken := policy("1")
	broken.Selector = nil // no source makes such a policy
	r.apply(&model.Snapshot{Pods: pods(2), Policies: []*model.Policy{broken}})
	if _, n := r.sink.last(); n != 1 || !r.Degraded() || r.Built().Output != good {
		t.Errorf("%d updates, degraded %t", n, r.Degraded())
	}
	r.apply(&model.Snapshot{Pods: pods(2), Policies: []*model.Policy{policy("1")}})
	if _, n := r.sink.last(); n != 2 || r.Degraded() {
		t.Errorf("%d updates, degraded %t, after a good snapshot", n, r.Degraded())
	}
}

// Before there is a complete snapshot nothing is handed on.
func TestNothingBeforeTheFirstCompleteSnapshot(t *testing.T) {
	t.Parallel()
	r := run(t)
	r.apply(nil)
	if _, n := r.sink.last(); n != 0 || r.Built().Output != nil {
		t.Errorf("%d updates", n)
	}
}

// A burst ends in the newest state, in far fewer rebuilds than changes.
func TestABurstCoalesces(t *testing.T) {
	t.Parallel()
	r := run(t)
	const changes = 1000
	for i := range changes {
		r.source.set(&model.Snapshot{Pods: pods(1 + i%3)})
	}
	r.source.set(&model.Snapshot{Pods: pods(7)})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		u, n := r.sink.last()
		if len(u.Nodes) == 7 {
			if n > changes/2 {
				t.Errorf("%d rebuilds for %d changes", n, changes)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the newest state did not come: %d workloads after %d rebuilds", len(u.Nodes), n)
		}
	}
}
