package kube

import (
	"fmt"
	"log/slog"
	goruntime "runtime"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// plane is everything from a cluster's objects to the cache that proxies are served from.
type plane struct {
	*Source
	t    testing.TB
	loop *controlplane.Loop
	n    int // edits
}

func newPlane(t testing.TB, namespaces int) *plane {
	t.Helper()
	p := &plane{Source: bigCluster(t, namespaces), t: t}
	p.loop = controlplane.New(p, xds.NewCache(xds.Config{Salter: translate.Salt}), slog.New(slog.DiscardHandler), nil)
	p.loop.Rebuild()
	if built := p.loop.Built(); built.Output == nil || len(built.Output.Workloads) != 20*namespaces || p.loop.Degraded() {
		t.Fatal("the first rebuild failed")
	}
	return p
}

func (p *plane) editPolicy() {
	p.n++
	if err := p.policies.Update(bigPolicy("ns-01", "app-03", int64(p.n+1))); err != nil {
		p.t.Fatal(err)
	}
}

// addPod adds a pod to a workload that other policies of its namespace name.
func (p *plane) addPod() {
	p.n++
	if err := p.pods.Add(bigPod("ns-01", "app-07", fmt.Sprintf("10.200.%d.%d", p.n/250%250, p.n%250), 10+p.n%100)); err != nil {
		p.t.Fatal(err)
	}
}

// addPodOfNoNote adds a pod to a workload that no policy names as a caller.
func (p *plane) addPodOfNoNote() {
	p.n++
	if err := p.pods.Add(bigPod("ns-01", "app-03", fmt.Sprintf("10.201.%d.%d", p.n/250%250, p.n%250), 10+p.n%100)); err != nil {
		p.t.Fatal(err)
	}
}

// BenchmarkRebuild measures what an event costs until every proxy can be served what follows from it, with 10,000 pods of 1,000 workloads and 1,000 policies.
func BenchmarkRebuild(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		s := bigCluster(b, 50)
		b.ReportAllocs()
		for b.Loop() {
			controlplane.New(s, xds.NewCache(xds.Config{Salter: translate.Salt}), slog.New(slog.DiscardHandler), nil).Rebuild()
			s.world = nil
		}
	})
	for name, edit := range map[string]func(*plane){"one policy": (*plane).editPolicy, "one pod": (*plane).addPod, "one pod of no note": (*plane).addPodOfNoNote} {
		for _, namespaces := range []int{5, 50} {
			b.Run(fmt.Sprintf("%s of %d pods", name, 200*namespaces), func(b *testing.B) {
				p := newPlane(b, namespaces)
				b.ReportAllocs()
				for b.Loop() {
					edit(p)
					p.loop.Rebuild()
				}
			})
		}
	}
}

// What an edit does not touch costs no allocation: ten times as many workloads, pods and policies take as many allocations, but for the few that a longer list takes, and no
// more bytes than those lists have: one pointer for each pod that stays, say.
func TestAnEditAllocatesNothingForWhatItDoesNotTouch(t *testing.T) {
	for _, c := range []struct {
		name  string
		edit  func(*plane)
		bytes float64
	}{
		{"policy", (*plane).editPolicy, 600 << 10}, {"pod", (*plane).addPod, 420 << 10}, {"pod of no note", (*plane).addPodOfNoNote, 320 << 10},
	} {
		var allocations, bytes [2]float64
		for i, namespaces := range []int{5, 50} {
			p := newPlane(t, namespaces)
			allocations[i], bytes[i] = allocated(func() {
				c.edit(p)
				p.loop.Rebuild()
			})
		}
		t.Logf("one %s: %.0f allocations with 100 workloads, %.0f with 1,000; %.0f and %.0f KiB", c.name, allocations[0], allocations[1], bytes[0]/1024, bytes[1]/1024)
		const lists = 250 // of 900 workloads, 9,000 pods and 900 policies
		if grown := allocations[1] - allocations[0]; grown > lists {
			t.Errorf("one %s: 900 workloads more take %.0f allocations more, want %d at most", c.name, grown, lists)
		}
		if grown := bytes[1] - bytes[0]; grown > c.bytes {
			t.Errorf("one %s: 900 workloads more take %.0f KiB more, want %.0f at most", c.name, grown/1024, c.bytes/1024)
		}
	}
}

// allocated is what a function allocates.
func allocated(f func()) (allocations, bytes float64) {
	const runs = 20
	f()
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	for range runs {
		f()
	}
	goruntime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / runs, float64(after.TotalAlloc-before.TotalAlloc) / runs
}
