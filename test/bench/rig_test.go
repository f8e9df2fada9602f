package bench_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	policyTen = "ten"
	policyAll = "all"
)

// rig is a server with its fleet, while scenarios run.
type rig struct {
	t       testing.TB
	cluster *cluster
	server  *server
	fleet   *fleet
	out     *results
	block   int
}

// sample is what one scenario showed in one block. Times are in seconds, memory and traffic in bytes; all are per edit where the scenario edits.
type sample struct {
	Scenario string             `json:"scenario"`
	Server   string             `json:"server"`
	Sidecars int                `json:"sidecars"`
	Block    int                `json:"block"`
	Values   map[string]float64 `json:"values"`
}

// measure runs every scenario with a number of sidecars: in each block the control plane, then the floor, each started anew.
func measure(t testing.TB, sidecars, blocks int) *results {
	t.Helper()
	c := newCluster(t, sidecars)
	out := &results{}
	for block := range blocks {
		states := runPilotLite(t, c, out, block)
		for _, s := range states {
			s.runFloor(t, c, out, block)
		}
	}
	return out
}

// state is the policies that a group of scenarios needs, and what sidecars hold with them.
type state struct {
	name      string
	selector  map[string]any // of a policy that is there meanwhile
	scenarios []scenario
	held      *fleet
}

type scenario struct {
	name    string
	floor   bool // the floor can do it
	profile int  // for how many seconds it is looked at where the processor time goes: longer than it runs, since the end of that costs the server as much as several edits do
	run     func(r *rig, m *meter)
}

func states() []*state {
	return []*state{
		{name: "base", scenarios: []scenario{
			{"edit-one", true, 8, (*rig).editOne},
			{"pod-added", true, 8, (*rig).podAdded},
			{"no-op", false, 8, (*rig).noOp},
			{"idle", false, 18, (*rig).idle},
			{"edits-20-a-second", true, 24, func(r *rig, m *meter) { r.editsAtRate(m, 20, 20*time.Second, services) }},
			{"edits-5-a-second", true, 24, func(r *rig, m *meter) { r.editsAtRate(m, 5, 20*time.Second, services) }},
			{"storm-1000-a-second", true, 36, func(r *rig, m *meter) { r.editsAtRate(m, 1000, 30*time.Second, services) }},
			{"reconnect", true, 8, (*rig).reconnect},
			{"restart", false, 0, (*rig).restart},
		}},
		{name: policyTen, selector: map[string]any{"matchLabels": map[string]any{"group": "g0"}}, scenarios: []scenario{{"edit-ten", true, 8, (*rig).editTen}}},
		{name: policyAll, selector: map[string]any{}, scenarios: []scenario{{"edit-all", true, 8, (*rig).editAll}, {"edit-all-1%-stalled", false, 0, (*rig).editAllStalled}}},
	}
}

// wanted says whether the caller wants a scenario.
func wanted(name string) bool {
	only := os.Getenv(onlyVariable)
	return only == "" || slices.Contains(strings.Split(only, ","), name)
}

func (s *state) wanted() bool {
	return slices.ContainsFunc(s.scenarios, func(sc scenario) bool { return wanted(sc.name) })
}

// runPilotLite measures the control plane in every state, and returns the states with what its sidecars held in them.
func runPilotLite(t testing.TB, c *cluster, out *results, block int) []*state {
	t.Helper()
	began := time.Now()
	s := startPilotLite(t, c)
	defer s.stop()
	s.waitReady()
	ready := time.Since(began)
	s.settled()
	r := &rig{t: t, cluster: c, server: s, fleet: newFleet(t, c, s.address, c.trust(t)), out: out, block: block}
	defer r.fleet.disconnect()
	r.cold(ready)
	s.settled()
	var kept []*state
	for _, st := range states() {
		if !st.wanted() {
			continue
		}
		if st.selector != nil {
			a := r.fleet.expect(r.affected(st.name))
			c.createPolicy(t, st.name, st.selector, 0)
			a.wait(t, patience)
			s.settled()
		}
		st.held = r.fleet.copy()
		for _, sc := range st.scenarios {
			r.measure(sc)
		}
		kept = append(kept, st)
		if st.selector != nil {
			a := r.fleet.expect(r.affected(st.name))
			c.deletePolicy(t, st.name)
			a.wait(t, patience)
			s.settled()
		}
	}
	return kept
}

// runFloor measures the floor in a state.
func (s *state) runFloor(t testing.TB, c *cluster, out *results, block int) {
	t.Helper()
	if s.selector != nil {
		c.createPolicy(t, s.name, s.selector, 0)
		defer c.deletePolicy(t, s.name)
	}
	server, trust := startFloor(t, c, s.held)
	defer server.stop()
	s.held = nil
	r := &rig{t: t, cluster: c, server: server, fleet: newFleet(t, c, server.address, trust), out: out, block: block}
	defer r.fleet.disconnect()
	if s.selector == nil {
		r.cold(0)
	} else {
		r.fleet.connect(patience)
	}
	for _, sc := range s.scenarios {
		if sc.floor {
			r.measure(sc)
		}
	}
}

// affected is how many sidecars a policy's edit changes.
func (r *rig) affected(policy string) int {
	switch policy {
	case policyAll:
		return len(r.fleet.sidecars)
	case policyTen:
		return servicesOfTen * r.cluster.perApp
	}
	return r.cluster.perApp
}

// copy is the fleet with what it holds now, for the floor.
func (f *fleet) copy() *fleet {
	out := newFleet(f.t, f.cluster, "", &tls.Config{MinVersion: tls.VersionTLS13})
	seen := map[int]bool{}
	for i, s := range f.sidecars {
		if !seen[s.pod.app] { // those of one app hold the same
			seen[s.pod.app] = true
			out.sidecars[i].held = s.snapshot()
		}
	}
	return out
}

// meter takes what a scenario shows.
type meter struct {
	rig    *rig
	values map[string]float64
	edits  int
	first  []time.Duration
	median []time.Duration
	last   []time.Duration
}

// measure runs a scenario, and notes what it cost: as it was when it ended and the writers had settled.
func (r *rig) measure(sc scenario) {
	r.t.Helper()
	if !wanted(sc.name) {
		return
	}
	m := &meter{rig: r, values: map[string]float64{}}
	s, f := r.server, r.fleet
	profile, name := func() map[string]float64 { return nil }, fmt.Sprintf("%s-%d", sc.name, len(f.sidecars))
	if sc.profile > 0 && s.profiles {
		profile = s.startProfile(name, sc.profile)
	}
	before := s.metrics("go_memstats_mallocs_total", "go_memstats_alloc_bytes_total")
	messages, bytes, in, out, cpu := f.messages.Load(), f.bytes.Load(), f.wireIn.Load(), f.wireOut.Load(), s.cpu()
	sc.run(r, m)
	time.Sleep(statusDelay)
	used := (s.cpu() - cpu).Seconds()
	after := s.metrics("go_memstats_mallocs_total", "go_memstats_alloc_bytes_total")
	split := profile() // what that takes is nobody's edit
	if m.edits == 0 {
		m.edits = 1
	}
	per := float64(m.edits)
	set := func(name string, value float64) {
		if _, own := m.values[name]; !own {
			m.values[name] = value / per
		}
	}
	set("cpu", used)
	for part, share := range split {
		set("cpu-"+part, used*share)
	}
	set("messages", float64(f.messages.Load()-messages))
	set("bytes", float64(f.bytes.Load()-bytes))
	set("wire-to-sidecars", float64(f.wireIn.Load()-in))
	set("wire-from-sidecars", float64(f.wireOut.Load()-out))
	if len(after) > 0 {
		set("allocations", after["go_memstats_mallocs_total"]-before["go_memstats_mallocs_total"])
		set("allocated-bytes", after["go_memstats_alloc_bytes_total"]-before["go_memstats_alloc_bytes_total"])
	}
	if sc.profile > 0 && s.profiles {
		s.keepHeap(name)
	}
	m.values["rss"] = s.memory("VmRSS")
	for name, metric := range map[string]string{"heap": "go_memstats_heap_inuse_bytes", "stacks": "go_memstats_stack_inuse_bytes", "goroutines": "go_goroutines"} {
		if v, there := s.metrics(metric)[metric]; there {
			m.values[name] = v
		}
	}
	if len(m.last) > 0 {
		m.values["first"], m.values["median"], m.values["last"] = medianTime(m.first), medianTime(m.median), medianTime(m.last)
		m.values["last-max"] = slices.Max(m.last).Seconds()
	}
	r.out.add(&results{Samples: []sample{{sc.name, s.name, len(f.sidecars), r.block, m.values}}})
}

// statusDelay is longer than a status waits for what changes soon again.
const statusDelay = 1500 * time.Millisecond

func (m *meter) arrivals(a *arrivals) {
	m.edits++
	times := slices.Sorted(slices.Values(a.times))
	m.first, m.median, m.last = append(m.first, times[0]), append(m.median, times[len(times)/2]), append(m.last, times[len(times)-1])
}

func medianTime(times []time.Duration) float64 {
	return slices.Sorted(slices.Values(times))[len(times)/2].Seconds()
}

// waitProxies waits until the server counts a number of proxies.
func (s *server) waitProxies(want int) {
	s.t.Helper()
	s.eventually(fmt.Sprint(want, " proxies"), func() error {
		if got := s.metrics("pilot_lite_proxies")["pilot_lite_proxies"]; int(math.Round(got)) != want {
			return fmt.Errorf("there are %g", got)
		}
		return nil
	})
}

// lags are how long edits took to the last sidecar that they concern.
func (r *rig) lags(edits []edit) []time.Duration {
	r.t.Helper()
	var out []time.Duration
	for _, e := range edits {
		var last time.Time
		for _, s := range r.fleet.sidecars[e.app*r.cluster.perApp : (e.app+1)*r.cluster.perApp] {
			var at time.Time
			r.server.eventually(fmt.Sprintf("edit %d comes to %s", e.marker, s.pod.node()), func() error {
				var there bool
				if at, there = s.when(e.marker); !there {
					return errors.New("it has not")
				}
				return nil
			})
			if at.After(last) {
				last = at
			}
		}
		out = append(out, last.Sub(e.at))
	}
	return slices.Sorted(slices.Values(out))
}

// edit is one that was written.
type edit struct {
	app    int
	marker int64
	at     time.Time
}

// editsLog collects edits of several writers.
type editsLog struct {
	mu  sync.Mutex
	all []edit
}

func (l *editsLog) add(e edit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}
