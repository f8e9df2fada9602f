package status_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// world is a policy, the pods that it selects, and a tracker that is told of them.
type world struct {
	t       *testing.T
	now     time.Time
	tracker *status.Tracker
	pods    []*model.Pod
	policy  status.Policy
	stands  status.Companions
	last    v1alpha1.L7PolicyStatus
	// enforced is what the status said when this process came.
	enforced bool
	said     int // how often something was said of the policy
	next     time.Time
}

// newWorld has so many pods with sidecars, which were made long before the tracker, and companions that stand.
func newWorld(t *testing.T, pods int) *world {
	t.Helper()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := &world{t: t, now: start, tracker: status.NewTracker(start), policy: status.Policy{
		Ref: model.PolicyRef{Namespace: "shop", Name: "cart", UID: "u", Generation: 3}, Ingress: true,
	}, stands: status.Companions{Stand: true, Generation: 3}}
	for i := range pods {
		name := fmt.Sprintf("cart-%d", i)
		w.pods = append(w.pods, &model.Pod{
			Namespace: "shop", Name: name, UID: "uid of " + name, Labels: map[string]string{"app": "cart"}, Expected: true, Created: start.Add(-time.Hour),
			Proxy: model.ProxySettings{Injected: true},
		})
	}
	return w
}

// rebuilt tells the tracker of the present pods and policy, as after a rebuild.
func (w *world) rebuilt() *world {
	ix := model.NewIndex(&model.Snapshot{Pods: w.pods, Policies: []*model.Policy{{PolicyRef: w.policy.Ref, Selector: labels.SelectorFromSet(labels.Set{"app": "cart"})}}})
	w.policy.Selected = ix.Selected(ix.Snapshot.Policies[0])
	w.tracker.SetCompanions(w.policy.Ref.UID, w.stands)
	w.tracker.SetPolicies(ix, []status.Policy{w.policy}, func(model.PolicyRef) bool { return w.enforced })
	return w
}

// proxy is a proxy with its slots.
type proxy struct {
	status.Proxy

	slots []status.Slot
}

// proxy is a proxy of one slot that should run the present generation.
func (w *world) proxy(i int, change func(p *proxy)) *status.Proxy {
	p := proxy{status.Proxy{Node: "shop/" + w.pods[i].Name, UID: w.pods[i].UID, Connected: true}, []status.Slot{w.slot(w.policy.Ref.Generation, true)}}
	if change != nil {
		change(&p)
	}
	p.Policies = status.OverSlots(p.slots)
	return &p.Proxy
}

func (w *world) slot(running int64, current bool) status.Slot {
	ran := w.policy.Ref
	ran.Generation = running
	neighbour := model.PolicyRef{Namespace: "shop", Name: "other", UID: "o", Generation: 1}
	return status.Slot{Desired: []model.PolicyRef{neighbour, w.policy.Ref}, Running: []model.PolicyRef{neighbour, ran}, Current: current}
}

func (w *world) reported(proxies ...*status.Proxy) *world {
	w.tracker.SetProxies(proxies, w.now)
	return w
}

// after lets time pass, and takes what is said then.
func (w *world) after(d time.Duration) *world {
	w.now = w.now.Add(d)
	results, next := w.tracker.Evaluate(w.now)
	w.next = next
	for _, r := range results {
		w.said++
		w.last = r.Status
	}
	return w
}

// says checks the condition and the counts.
func (w *world) says(want, reason string, counts v1alpha1.ProxyCounts) *world {
	w.t.Helper()
	c := w.condition(v1alpha1.ConditionEnforced)
	if string(c.Status) != want || c.Reason != reason || w.last.Proxies != counts {
		w.t.Errorf("Enforced=%s (%s: %s), %+v; want %s (%s), %+v", c.Status, c.Reason, c.Message, w.last.Proxies, want, reason, counts)
	}
	if c.ObservedGeneration != w.policy.Ref.Generation {
		w.t.Errorf("it speaks of generation %d, want %d", c.ObservedGeneration, w.policy.Ref.Generation)
	}
	if want := fmt.Sprintf("%d/%d", counts.Enforced, counts.Expected); w.last.Enforced != want {
		w.t.Errorf("enforced %q, want %q", w.last.Enforced, want)
	}
	return w
}

func (w *world) condition(kind string) metav1.Condition {
	w.t.Helper()
	for _, c := range w.last.Conditions {
		if c.Type == kind {
			return c
		}
	}
	w.t.Fatalf("no condition %s: %+v", kind, w.last)
	return metav1.Condition{}
}

func counted(expected, enforced, rejected, pending int32) v1alpha1.ProxyCounts {
	return v1alpha1.ProxyCounts{Expected: expected, Enforced: enforced, Rejected: rejected, Pending: pending}
}

const (
	yes = "True"
	no  = "False"
)

// Each proxy counts, and so do the companions.
func TestEnforcedIsTrueOnlyWhereEverythingIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2).rebuilt()
	w.after(0).says(no, "Pending", counted(2, 0, 0, 2))
	w.reported(w.proxy(0, nil)).after(0).says(no, "Pending", counted(2, 1, 0, 1))
	w.reported(w.proxy(1, func(p *proxy) { p.slots = append(p.slots, w.slot(2, false)) })).after(0).says(no, "Pending", counted(2, 1, 0, 1))
	if m := w.condition(v1alpha1.ConditionEnforced).Message; !strings.Contains(m, "cart-1") || strings.Contains(m, "cart-0") {
		t.Errorf("the message does not name who is waited for: %s", m)
	}
	w.reported(w.proxy(1, nil)).after(0).says(yes, "Enforced", counted(2, 2, 0, 0))

	w.stands.Generation = 2
	w.rebuilt().after(0).says(no, "Pending", counted(2, 2, 0, 0))
	w.stands = status.Companions{Generation: 3, Message: "NetworkPolicy x is somebody else's"}
	w.rebuilt().after(0).says(no, "Pending", counted(2, 2, 0, 0))
	if m := w.condition(v1alpha1.ConditionEnforced).Message; m != w.stands.Message {
		t.Errorf("the message is %q, want the companions' own", m)
	}
	w.stands = status.Companions{Generation: 3, Stand: true}
	w.rebuilt().after(0).says(yes, "Enforced", counted(2, 2, 0, 0))
}

// A new generation is not enforced until it runs; nothing is said where nothing changed.
func TestANewGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt().reported()
	w.reported(w.proxy(0, nil)).after(0).says(yes, "Enforced", counted(1, 1, 0, 0))
	said := w.said
	if w.after(time.Hour); w.said != said || !w.next.IsZero() {
		t.Errorf("something was said though nothing changed, or will be at %s", w.next)
	}
	w.policy.Ref.Generation, w.stands.Generation = 4, 4
	w.rebuilt().after(0).says(no, "Pending", counted(1, 0, 0, 1)) // the replica's report still speaks of generation 3 alone
	w.reported(w.proxy(0, func(p *proxy) { p.slots[0] = w.slot(3, false) })).after(0).says(no, "Pending", counted(1, 0, 0, 1))
	w.reported(w.proxy(0, nil)).after(0).says(yes, "Enforced", counted(1, 1, 0, 0))
}

// What is news to a neighbour alone is told of by the counts, and by the condition once it takes long.
func TestANeighboursEdit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt()
	w.reported(w.proxy(0, nil)).after(0)
	behind := w.proxy(0, func(p *proxy) { p.slots[0].Current = false })
	w.reported(behind).after(0).says(yes, "Enforced", counted(1, 0, 0, 1))
	w.reported(behind).after(status.BehindGrace-time.Second).says(yes, "Enforced", counted(1, 0, 0, 1))
	if want := w.now.Add(time.Second); !w.next.Equal(want) {
		t.Errorf("it is looked at again at %s, want %s", w.next, want)
	}
	w.after(time.Second).says(no, "Pending", counted(1, 0, 0, 1))

	refused := w.proxy(0, func(p *proxy) { p.slots[0].Current, p.slots[0].Refused = false, "too large" })
	w.reported(refused).after(0).says(no, "Refused", counted(1, 0, 1, 0))
	w.reported(w.proxy(0, nil)).after(0).says(yes, "Enforced", counted(1, 1, 0, 0))
}

// A lost proxy has its grace, and then is told of; so is one that never came.
func TestLostProxies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt()
	w.reported(w.proxy(0, nil)).after(time.Minute)
	lost := w.proxy(0, func(p *proxy) { p.Connected, p.Since, p.slots[0].Current = false, w.now, false })
	w.reported(lost).after(0).says(yes, "Enforced", counted(1, 0, 0, 1))
	w.after(status.LostGrace).says(no, "Disconnected", counted(1, 0, 0, 1))
	w.reported(w.proxy(0, nil)).after(0).says(yes, "Enforced", counted(1, 1, 0, 0))
	w.reported(&status.Proxy{Node: "shop/cart-0", Gone: true}).after(0).says(no, "Disconnected", counted(1, 0, 0, 1))
}

// One that lost what it ran before it had this generation has no grace.
func TestALostProxyOfAnOlderGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt()
	w.after(time.Minute)
	w.reported(w.proxy(0, func(p *proxy) { p.Connected, p.Since = false, w.now; p.slots[0] = w.slot(2, false) })).after(0).says(no, "Disconnected", counted(1, 0, 0, 1))
}

// A process that takes over leaves proxies the time to show themselves, but believes of no generation what was never said of it.
func TestTakingOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.enforced = true
	w.rebuilt().after(0).says(yes, "Enforced", counted(1, 0, 0, 1))
	w.after(status.LostGrace).says(no, "Disconnected", counted(1, 0, 0, 1))

	w = newWorld(t, 1)
	w.enforced = true
	w.pods[0].Created = w.now.Add(time.Second)
	w.rebuilt().after(2*time.Second).says(no, "Pending", counted(1, 0, 0, 1)) // a new pod was never counted
}

// What another pod of the same name ran says nothing of the present one.
func TestAPodOfTheSameName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt()
	old := w.proxy(0, nil)
	w.pods[0].UID = "another"
	w.rebuilt().reported(old).after(0).says(no, "Pending", counted(1, 0, 0, 1))
	w.reported(w.proxy(0, nil)).after(0).says(yes, "Enforced", counted(1, 1, 0, 0))
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		reason string
		counts v1alpha1.ProxyCounts
	}{
		"nothing is selected": {func(w *world) { w.pods = nil }, "NothingSelected", counted(0, 0, 0, 0)},
		"what ended is not expected": {func(w *world) {
			w.pods[0].Expected, w.pods[1].Expected = false, false
		}, "NothingSelected", counted(0, 0, 0, 0)},
		"a pod without sidecar": {func(w *world) { w.pods[1].Proxy.Injected = false }, "NoProxy", counted(2, 1, 0, 1)},
		"only tried":            {func(w *world) { w.policy.DryRun = true }, "DryRun", counted(2, 2, 0, 0)},
		"egress alone":          {func(w *world) { w.policy.Ingress = false }, "Enforced", counted(2, 2, 0, 0)},
		"egress alone, without sidecars": {func(w *world) {
			w.policy.Ingress, w.pods[0].Proxy.Injected = false, false
		}, "Enforced", counted(2, 2, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			c.change(w)
			w.rebuilt()
			for i := range w.pods {
				w.reported(w.proxy(i, nil))
			}
			want := no
			if c.reason == "Enforced" {
				want = yes
			}
			w.after(0).says(want, c.reason, c.counts)
		})
	}
}

func TestAcceptedAndAgreement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt().after(0)
	if c := w.condition(v1alpha1.ConditionAccepted); c.Status != metav1.ConditionTrue {
		t.Errorf("accepted: %+v", c)
	}
	if c := w.condition(v1alpha1.ConditionLayersAgree); c.Status != metav1.ConditionUnknown || c.Reason != "NotEvaluated" {
		t.Errorf("agreement: %+v", c)
	}
	w.policy.Problems = []model.Diagnostic{{Field: "spec.ingress[0].http[0]", Consequence: "the rule allows nothing", Remedy: "write a path"}}
	w.rebuilt()
	generation := w.policy.Ref.Generation
	w.tracker.SetAgreement(func(p model.PolicyRef) status.Agreement {
		if p.Generation != generation {
			return status.Agreement{}
		}
		return status.Agreement{Status: metav1.ConditionFalse, Reason: "Shut", Message: "x"}
	})
	w.after(0)
	if c := w.condition(v1alpha1.ConditionAccepted); c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "spec.ingress[0].http[0]: the rule allows nothing; write a path") {
		t.Errorf("accepted: %+v", c)
	}
	if c := w.condition(v1alpha1.ConditionLayersAgree); c.Status != metav1.ConditionFalse || c.Reason != "Shut" || c.Message != "x" {
		t.Errorf("agreement: %+v", c)
	}
	w.policy.Ref.Generation++
	if c := w.rebuilt().after(0).condition(v1alpha1.ConditionLayersAgree); c.Status != metav1.ConditionUnknown || c.Reason != "NotEvaluated" {
		t.Errorf("the next generation has the agreement of the one before: %+v", c)
	}
}

// What a proxy writes is cut where the schema would refuse it.
func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1).rebuilt()
	w.reported(w.proxy(0, func(p *proxy) { p.slots[0] = w.slot(2, false); p.slots[0].Refused = strings.Repeat("é", 4000) })).after(0)
	w.says(no, "Refused", counted(1, 0, 1, 0))
	if n := len(w.last.FirstRefusal); n > 1024 || n < 1000 {
		t.Errorf("the refusal has %d bytes", n)
	}
	if n := len(w.condition(v1alpha1.ConditionEnforced).Message); n > 2048 {
		t.Errorf("the message has %d bytes", n)
	}
}

// News of one proxy is news for the policies that select it, and no others.
func TestOnlyWhatChangedIsLookedAt(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tracker := status.NewTracker(start)
	snapshot := &model.Snapshot{}
	for _, app := range []string{"a", "b"} {
		snapshot.Pods = append(snapshot.Pods, &model.Pod{
			Namespace: "shop", Name: app, UID: app, Labels: map[string]string{"app": app}, Expected: true, Proxy: model.ProxySettings{Injected: true},
		})
		snapshot.Policies = append(snapshot.Policies, &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: app, UID: app, Generation: 1}, Selector: labels.SelectorFromSet(labels.Set{"app": app})})
	}
	ix := model.NewIndex(snapshot)
	var policies []status.Policy
	for _, p := range snapshot.Policies {
		policies = append(policies, status.Policy{Ref: p.PolicyRef, Ingress: true, Selected: ix.Selected(p)})
	}
	tracker.SetPolicies(ix, policies, func(model.PolicyRef) bool { return false })
	if changed, _ := tracker.Evaluate(start.Add(time.Hour)); len(changed) != 2 {
		t.Fatalf("at first %d policies are looked at, want both", len(changed))
	}
	tracker.SetProxies([]*status.Proxy{{Node: "shop/a", UID: "a", Connected: true}}, start)
	if changed, _ := tracker.Evaluate(start.Add(time.Hour)); len(changed) != 1 || changed[0].Ref.Name != "a" {
		t.Errorf("looked at: %+v, want a alone", changed)
	}
	both := func(generation int64) *status.Proxy { // a proxy of both, as far as reports go
		return &status.Proxy{Node: "shop/a", UID: "a", Connected: true, Policies: []status.Standing{{Policy: "a", Running: 1, Current: true}, {Policy: "b", Running: generation, Current: true}}}
	}
	tracker.SetProxies([]*status.Proxy{both(1)}, start)
	tracker.Evaluate(start.Add(time.Hour))
	tracker.SetProxies([]*status.Proxy{both(2)}, start)
	if changed, _ := tracker.Evaluate(start.Add(time.Hour)); len(changed) != 0 {
		t.Errorf("looked at: %+v, where a proxy runs what it ran of it", changed)
	}
	tracker.SetPolicies(ix, policies, func(model.PolicyRef) bool { return false })
	if changed, _ := tracker.Evaluate(start.Add(time.Hour)); len(changed) != 0 {
		t.Errorf("a rebuild without a change has %d policies looked at", len(changed))
	}
	policies[0].Selected = policies[1].Selected
	tracker.SetPolicies(ix, policies, func(model.PolicyRef) bool { return false })
	tracker.Evaluate(start.Add(time.Hour))
	tracker.SetProxies([]*status.Proxy{{Node: "shop/a", UID: "a"}}, start)
	if changed, _ := tracker.Evaluate(start.Add(time.Hour)); len(changed) != 0 {
		t.Errorf("looked at: %+v, where a policy that selects the pod no more is the only one that did", changed)
	}
}
