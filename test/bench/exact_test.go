package bench_test

import (
	"testing"
	"time"
)

// Who is told what by an edit, in which bytes, is the same on every machine: the sidecars that it changes something for get one response each, as large as what the floor
// sends, and nobody else gets anything.
func TestWhatChangesSend(t *testing.T) {
	const sidecars, overFloor = services, 1.06
	c := newCluster(t, sidecars)
	out := &results{}
	own := &rig{t: t, cluster: c, server: startPilotLite(t, c), out: out}
	own.server.waitReady()
	own.server.settled()
	own.fleet = newFleet(t, c, own.server.address, c.trust(t))
	own.fleet.connect(patience)
	held := own.fleet.copy()

	ownOne := own.traffic("an edit of one policy", 1, func() { c.edit(t, appName(7), 7) })
	own.traffic("the same policy, written again", 0, func() { c.rewrite(t, appName(7)) })
	own.traffic("what changes nothing", 0, func() { own.noOp(&meter{values: map[string]float64{}}) })
	p := &pod{app: 3, name: "another", address: "10.201.0.1"}
	created := c.createPod(t, p)
	own.traffic("a pod that nobody knows the address of", 0, func() {})
	own.traffic("its address, which five policies let in", rulesPerPolicy, func() { c.address(t, created, p.address) })
	own.traffic("it goes", rulesPerPolicy, func() { own.removePod(p) })
	own.traffic("a policy for ten Services", servicesOfTen, func() { c.createPolicy(t, policyTen, states()[1].selector, 0) })
	own.traffic("an edit of it", servicesOfTen, func() { c.edit(t, policyTen, 0) })
	own.traffic("its end", servicesOfTen, func() { c.deletePolicy(t, policyTen) })
	own.traffic("a policy for all", sidecars, func() { c.createPolicy(t, policyAll, states()[2].selector, 0) })
	own.traffic("an edit of it", sidecars, func() { c.edit(t, policyAll, 0) })
	own.traffic("its end", sidecars, func() { c.deletePolicy(t, policyAll) })
	own.traffic("every sidecar comes back with what it holds", 0, func() {
		own.fleet.disconnect()
		own.server.waitProxies(0)
		own.fleet.connect(patience)
		own.server.waitProxies(sidecars)
	})
	own.fleet.disconnect()
	own.server.stop()

	floor := &rig{t: t, cluster: c, out: out}
	server, trust := startFloor(t, c, held)
	floor.server, floor.fleet = server, newFleet(t, c, server.address, trust)
	floor.fleet.connect(patience)
	defer floor.fleet.disconnect()
	floorOne := floor.traffic("an edit of one policy, from the floor", 1, func() { c.edit(t, appName(7), 7) })
	if float64(ownOne) > overFloor*float64(floorOne) {
		t.Errorf("an edit took %d bytes, the floor %d: want at most %g times as many", ownOne, floorOne, overFloor)
	}
}

// traffic does something, wants so many responses, to as many sidecars, and returns their bytes.
func (r *rig) traffic(what string, want int, do func()) int64 {
	r.t.Helper()
	const quiet = 300 * time.Millisecond // what comes late is seen
	messages, bytes := r.fleet.messages.Load(), r.fleet.bytes.Load()
	a := r.fleet.expect(want)
	do()
	if want > 0 {
		a.wait(r.t, patience)
	}
	time.Sleep(quiet)
	if got := int(r.fleet.messages.Load() - messages); got != want {
		r.t.Errorf("%s: %d responses, want %d", what, got, want)
	}
	return r.fleet.bytes.Load() - bytes
}
