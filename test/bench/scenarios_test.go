package bench_test

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// cold connects every sidecar at once to a server that is ready; none holds anything. ready is how long the server took to be.
func (r *rig) cold(ready time.Duration) {
	r.t.Helper()
	r.server.resetPeak()
	name := "cold-start"
	if !wanted(name) {
		r.fleet.connect(patience)
		return
	}
	r.measure(scenario{name: name, profile: 8, run: func(r *rig, m *meter) {
		began := time.Now()
		r.fleet.connect(patience)
		m.values["last"] = time.Since(began).Seconds()
		m.values["peak-rss"] = r.server.memory("VmHWM")
		if ready > 0 {
			m.values["process-to-ready"] = ready.Seconds()
		}
	}})
}

// edits writes one edit after another for a while; the next one when the last has arrived everywhere, and a moment has passed.
func (r *rig) edits(m *meter, want int, edit func(i int)) {
	r.t.Helper()
	const lasts, pause, least = 5 * time.Second, 30 * time.Millisecond, 3
	for began := time.Now(); time.Since(began) < lasts || m.edits < least; time.Sleep(pause) {
		a := r.fleet.expect(want)
		edit(m.edits)
		a.wait(r.t, patience)
		m.arrivals(a)
	}
}

func (r *rig) editOne(m *meter) {
	r.edits(m, r.affected(appName(0)), func(i int) { r.cluster.edit(r.t, appName(i), i%services) })
}

func (r *rig) editTen(m *meter) {
	r.edits(m, r.affected(policyTen), func(int) { r.cluster.edit(r.t, policyTen, 0) })
}

func (r *rig) editAll(m *meter) {
	r.edits(m, r.affected(policyAll), func(int) { r.cluster.edit(r.t, policyAll, 0) })
}

// editAllStalled is the same while one sidecar of a hundred reads nothing any more.
func (r *rig) editAllStalled(m *meter) {
	r.t.Helper()
	const oneIn = 100
	stalled := 0
	for i := 0; i < len(r.fleet.sidecars); i += oneIn {
		r.fleet.sidecars[i].stall.Store(true)
		stalled++
	}
	a := r.fleet.expect(len(r.fleet.sidecars) - stalled)
	r.cluster.edit(r.t, policyAll, 0) // which the stalled ones notice that they read no more
	a.wait(r.t, patience)
	r.edits(m, len(r.fleet.sidecars)-stalled, func(int) { r.cluster.edit(r.t, policyAll, 0) })
	m.values["peak-rss"] = r.server.memory("VmHWM")
	for _, s := range r.fleet.sidecars {
		if s.stall.Load() {
			s.cancel()
			<-s.done
			s.stall.Store(false)
			s.start()
		}
	}
	r.server.waitProxies(len(r.fleet.sidecars))
}

// podAdded gives an address to a new pod of a Service, whose pods five others let in.
func (r *rig) podAdded(m *meter) {
	r.t.Helper()
	want := rulesPerPolicy * r.cluster.perApp
	const times, pause = 10, 50 * time.Millisecond
	var messages, bytes int64
	for range times {
		n := int(r.cluster.extra.Add(1))
		p := &pod{app: n % services, name: fmt.Sprintf("extra-%05d", n), address: fmt.Sprintf("10.200.%d.%d", n/250, n%250+1)}
		created := r.cluster.createPod(r.t, p)
		time.Sleep(pause)
		messagesBefore, bytesBefore := r.fleet.messages.Load(), r.fleet.bytes.Load()
		a := r.fleet.expect(want)
		r.cluster.address(r.t, created, p.address)
		a.wait(r.t, patience)
		m.arrivals(a)
		time.Sleep(pause)
		messages, bytes = messages+r.fleet.messages.Load()-messagesBefore, bytes+r.fleet.bytes.Load()-bytesBefore
		a = r.fleet.expect(want)
		r.removePod(p)
		if r.server.name != floorName { // which knows no way back
			a.wait(r.t, patience)
			m.edits++ // it costs what its coming does
		}
		time.Sleep(pause)
	}
	// Processor time and allocations are those of a pod that comes, or goes.
	m.values["messages"], m.values["bytes"] = float64(messages)/times, float64(bytes)/times
}

func (r *rig) removePod(p *pod) {
	at := int64(0)
	must(r.t, func(ctx context.Context) error {
		return r.cluster.client.CoreV1().Pods(namespace).Delete(ctx, p.name, metav1.DeleteOptions{GracePeriodSeconds: &at})
	})
}

// noOp writes what changes nothing for any sidecar: endpoints, and annotations of policies, pods and Services.
func (r *rig) noOp(m *meter) {
	r.t.Helper()
	const times = 20
	for i := range times {
		note := []byte(fmt.Sprintf(`{"metadata":{"annotations":{"example.org/note":"%d"}}}`, i))
		r.cluster.patch(r.t, appName(i), map[string]any{"metadata": map[string]any{"annotations": map[string]any{"example.org/note": fmt.Sprint(i)}}})
		must(r.t, func(ctx context.Context) error {
			_, err := r.cluster.client.CoreV1().Pods(namespace).Patch(ctx, r.cluster.pods[i].name, types.MergePatchType, note, metav1.PatchOptions{})
			return err
		})
		must(r.t, func(ctx context.Context) error {
			_, err := r.cluster.client.CoreV1().Services(namespace).Patch(ctx, appName(i), types.MergePatchType, note, metav1.PatchOptions{})
			return err
		})
		slice := r.cluster.slice(i)
		if i%2 == 0 {
			slice.Endpoints = slice.Endpoints[:0]
		}
		must(r.t, func(ctx context.Context) error {
			_, err := r.cluster.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, slice, metav1.UpdateOptions{})
			return err
		})
		must(r.t, func(ctx context.Context) error {
			_, err := r.cluster.client.DiscoveryV1().EndpointSlices(namespace).Update(ctx, r.cluster.slice(i), metav1.UpdateOptions{})
			return err
		})
		const writes = 5
		m.edits += writes
	}
}

// idle is what connected sidecars cost when nothing happens, a second.
func (r *rig) idle(m *meter) {
	const seconds = 15
	time.Sleep(seconds * time.Second)
	m.edits = seconds
}

// editsAtRate writes edits of many policies at an even pace, as far as the API server keeps up, and takes the lag of a sample of them.
func (r *rig) editsAtRate(m *meter, rate int, lasts time.Duration, policies int) {
	r.t.Helper()
	for _, s := range r.fleet.sidecars {
		s.forget()
	}
	var log editsLog
	began := time.Now()
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	each(writersAtOnce, func(writer int) { // each has policies of its own, so that no edit overtakes another of the same policy
		for app := writer; time.Since(began) < lasts; app += writersAtOnce {
			if app >= policies {
				app = writer
			}
			<-pace.C
			at := time.Now()
			log.add(edit{app, r.cluster.edit(r.t, appName(app), app), at})
		}
	})
	took := time.Since(began)
	const most = 1000
	var sampled []edit
	for i := 0; i < len(log.all); i += max(1, len(log.all)/most) {
		sampled = append(sampled, log.all[i])
	}
	lags := r.lags(sampled)
	m.values["lag-median"], m.values["lag-99"], m.values["lag-max"] = lags[len(lags)/2].Seconds(), lags[len(lags)*99/100].Seconds(), lags[len(lags)-1].Seconds()
	m.values["edits"], m.values["edits-a-second"] = float64(len(log.all)), float64(len(log.all))/took.Seconds()
	m.edits = len(log.all)
}

// reconnect ends every stream, and has every sidecar come back at once with what it holds.
func (r *rig) reconnect(m *meter) {
	r.t.Helper()
	r.fleet.disconnect()
	r.server.waitProxies(0)
	cpu, began := r.server.cpu(), time.Now()
	messages, bytes := r.fleet.messages.Load(), r.fleet.bytes.Load()
	r.fleet.connect(patience)
	r.server.waitProxies(len(r.fleet.sidecars))
	m.values["last"] = time.Since(began).Seconds()
	time.Sleep(statusDelay)
	m.values["cpu"] = (r.server.cpu() - cpu).Seconds()
	m.values["messages"], m.values["bytes"] = float64(r.fleet.messages.Load()-messages), float64(r.fleet.bytes.Load()-bytes)
}

// restart kills the server and starts it again: how long until it is ready, and until every sidecar is back.
func (r *rig) restart(m *meter) {
	r.t.Helper()
	r.server.stop()
	messages, bytes, began := r.fleet.messages.Load(), r.fleet.bytes.Load(), time.Now()
	r.server.again()
	r.server.waitReady()
	m.values["process-to-ready"] = time.Since(began).Seconds()
	r.server.waitProxies(len(r.fleet.sidecars))
	m.values["last"] = time.Since(began).Seconds()
	m.values["cpu"] = r.server.cpu().Seconds()
	m.values["peak-rss"] = r.server.memory("VmHWM")
	r.server.settled()
	m.values["messages"], m.values["bytes"] = float64(r.fleet.messages.Load()-messages), float64(r.fleet.bytes.Load()-bytes)
	m.values["allocations"], m.values["allocated-bytes"] = 0, 0
}
