package controlplane_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// An edit of a policy sends the slots that it changes to the workloads that it concerns, and nothing else to anybody.
func TestAnEditReachesOnlyWhomItConcerns(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.apply(world(allow("cart", 1, "front"), allow("web", 1, "front")))
	cart, web := r.connect("cart"), r.connect("web")
	before := cart.plumbing()
	r.apply(world(allow("cart", 2, "front"), allow("web", 1, "front")))
	cart.expect("an edit of cart's policy", rbac.HTTPSlot)
	r.apply(world(allow("cart", 2, "front"), allow("web", 2, "front")))
	web.expect("an edit of web's policy, and nothing of cart's before", rbac.HTTPSlot)
	r.apply(world(allow("cart", 3, "front"), allow("web", 2, "front")))
	cart.expect("the next edit of cart's policy, and nothing of web's before", rbac.HTTPSlot)
	if before != cart.plumbing() || r.connect("cart").plumbing() != before {
		t.Error("the bytes of a listener or a cluster changed")
	}
}

// The first policy of a workload, and its last one's removal, change slots only.
func TestIsolationChangesSlotsOnly(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.apply(world())
	cart := r.connect("cart")
	before := cart.plumbing()
	slots := []string{rbac.HTTPSlot, rbac.TCPSlot, translate.ConnectSlot}
	r.apply(world(allow("cart", 1, "front")))
	cart.expect("the first policy", slots...)
	r.apply(world())
	cart.expect("no policy", slots...)
	if got := r.connect("cart").plumbing(); got != before {
		t.Error("the bytes of a listener or a cluster changed")
	}
}

// A caller's new label changes the slots of whom it may call; a callee's new label, which makes another workload of it, changes its slots.
func TestLabelsChangeSlotsOnly(t *testing.T) {
	t.Parallel()
	r := start(t)
	policies := []*model.Policy{allow("cart", 1, "front"), allow("web", 1, "friend")}
	r.apply(world(policies...))
	cart, web := r.connect("cart"), r.connect("web")
	before := web.plumbing()
	relabel := func(name, app string) func([]*model.Pod) []*model.Pod {
		return func(pods []*model.Pod) []*model.Pod {
			for i := range pods {
				if pods[i].Name == name {
					pods[i].Labels["app"] = app
				}
			}
			return pods
		}
	}
	r.apply(with(world(policies...), relabel("front", "friend")))
	cart.expect("front may no longer call cart", rbac.HTTPSlot)
	web.expect("front may call web", rbac.HTTPSlot)
	r.apply(with(world(policies...), relabel("web", "cart")))
	cart.expect("front is back", rbac.HTTPSlot)
	web.expect("web is another workload, which front may call", rbac.HTTPSlot)
	if web.plumbing() != before || r.connect("web").plumbing() != before {
		t.Error("the bytes of a listener or a cluster changed")
	}
}

// Pods that come and go, and concern no policy, make nobody's proxy hear of it.
func TestChurnThatChangesNothingSendsNothing(t *testing.T) {
	t.Parallel()
	r := start(t)
	policies := []*model.Policy{allow("cart", 1, "front")}
	r.apply(world(policies...))
	cart := r.connect("cart")
	for i := range 20 {
		r.apply(with(world(policies...), func(pods []*model.Pod) []*model.Pod {
			return append(pods, &model.Pod{
				Namespace: "shop", Name: fmt.Sprintf("zz-job-%d", i), Labels: map[string]string{"app": "job"}, Expected: true,
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})},
			})
		}))
	}
	r.apply(world(allow("cart", 2, "front")))
	cart.expect("the first thing that concerns it", rbac.HTTPSlot)
}

// A second replica of a caller changes the slots of its callees; a second replica of the callee gets what the first one has.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := start(t)
	policies := []*model.Policy{allow("cart", 1, "front")}
	r.apply(world(policies...))
	cart := r.connect("cart")
	second := func(name string, of int) func([]*model.Pod) []*model.Pod {
		return func(pods []*model.Pod) []*model.Pod {
			p := *pods[of]
			p.Name, p.Addresses = name, []netip.Addr{netip.MustParseAddr("10.0.0.9")}
			return append(pods, &p)
		}
	}
	r.apply(with(world(policies...), second("zz-front", 1)))
	cart.expect("a second front", rbac.HTTPSlot)
	r.apply(with(world(policies...), second("zz-cart", 0)))
	cart.expect("one front again", rbac.HTTPSlot)
	replica := r.connect("zz-cart")
	if len(replica.held) != len(cart.held) {
		t.Errorf("the replica has %d resources, want %d", len(replica.held), len(cart.held))
	}
	for key, bytes := range cart.held {
		if replica.held[key] != bytes {
			t.Errorf("%s: the replica has other bytes", key)
		}
	}
}

// A defect that one object sets off neither ends the server nor changes what is in force; it is counted and reported, and the next good snapshot heals.
func TestAPanicKeepsTheLastGoodOutput(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.apply(world(allow("cart", 1, "front")))
	cart := r.connect("cart")
	last := r.loop.Built().Output

	broken := allow("cart", 2, "front")
	broken.Selector = nil
	for i := range 2 {
		r.apply(world(broken))
		if !r.loop.Degraded() {
			t.Fatal("the loop does not say that the rebuild failed: did it?")
		}
		if r.loop.Built().Output != last {
			t.Error("the last good output is gone")
		}
		for name, want := range map[string]float64{"pilot_lite_rebuild_failures_total": float64(i + 1), "pilot_lite_degraded": 1} {
			r.wantMetric(name, want)
		}
	}
	late := r.connect("cart") // served from the last good output
	for key, bytes := range cart.held {
		if late.held[key] != bytes {
			t.Errorf("%s: other bytes after the failure", key)
		}
	}

	r.apply(world(allow("cart", 3, "front")))
	cart.expect("the first good snapshot, and nothing before", rbac.HTTPSlot)
	if r.loop.Degraded() {
		t.Error("still degraded")
	}
	r.wantMetric("pilot_lite_degraded", 0)
}

// wantMetric compares a metric without labels.
func (r *rig) wantMetric(name string, want float64) {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		m := f.GetMetric()[0]
		if got := m.GetGauge().GetValue() + m.GetCounter().GetValue(); got != want {
			r.t.Errorf("%s is %v, want %v", name, got, want)
		}
		return
	}
	r.t.Errorf("no metric %s", name)
}

// However much changes during a rebuild, one more follows, of the newest state.
func TestABurstIsOneRebuild(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.apply(world())
	cart := r.connect("cart")
	inside, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.asked = func() { once.Do(func() { close(inside); <-release }) } // the loop is idle: it reads this after the next change
	r.set(world())
	<-inside
	const changes = 1000
	for i := range changes {
		r.set(world(allow("cart", int64(i+1), "front")))
	}
	close(release)
	cart.expect("the newest state", rbac.HTTPSlot, rbac.TCPSlot, translate.ConnectSlot)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n := r.loop.WaitFor(ctx, changes); n > 3 {
		t.Errorf("%d rebuilds for a burst of %d changes", n, changes)
	}
	for _, p := range r.cache.Status() {
		for _, resource := range p.Resources {
			for _, ref := range resource.Policies {
				if p.Node == "shop/cart" && ref.Generation != changes {
					t.Errorf("%s is of generation %d, want %d", resource.Name, ref.Generation, changes)
				}
			}
		}
	}
}
