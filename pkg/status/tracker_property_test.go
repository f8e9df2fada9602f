package status_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// What was said last of each policy is what looking at everything would say, whatever happened since.
func TestNothingThatChangesAStatusIsPassedBy(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		d := &drawn{t: t, tracker: status.NewTracker(now)}
		for i := range 3 {
			name := fmt.Sprint("cart-", i)
			d.pods = append(d.pods, &model.Pod{
				Namespace: "shop", Name: name, UID: "1", Labels: map[string]string{"app": "cart", "pod": name}, Expected: true, Created: now, Proxy: model.ProxySettings{Injected: true},
			})
		}
		for i, selector := range []labels.Selector{labels.Everything(), labels.SelectorFromSet(labels.Set{"pod": "cart-0"}), labels.SelectorFromSet(labels.Set{"pod": "cart-1"})} {
			d.policies = append(d.policies, &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprint(i), UID: fmt.Sprint(i), Generation: 1}, Selector: selector})
		}
		d.rebuild()
		last := map[string]v1alpha1.L7PolicyStatus{}
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				at := rapid.IntRange(0, 2).Draw(t, "edited")
				p := *d.policies[at]
				p.Generation++
				d.policies[at] = &p
				d.rebuild()
			case 1:
				i := rapid.IntRange(0, 2).Draw(t, "pod")
				again := *d.pods[i]
				again.UID += "1"
				d.pods[i] = &again
				d.rebuild()
			case 2:
				d.hidden[rapid.IntRange(0, 2).Draw(t, "hidden")] = rapid.Bool().Draw(t, "gone")
				d.rebuild()
			case 3:
				i := rapid.IntRange(0, 2).Draw(t, "ended")
				again := *d.pods[i]
				again.Expected = !again.Expected
				d.pods[i] = &again
				d.rebuild()
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
			default:
				d.tracker.SetProxies([]*status.Proxy{d.proxy(now)}, now)
			}
			changed, _ := d.tracker.Evaluate(now)
			for _, r := range changed {
				last[r.Ref.UID] = r.Status
			}
			for _, r := range d.tracker.All(now) {
				if diff := cmp.Diff(r.Status, last[r.Ref.UID]); diff != "" {
					t.Fatalf("policy %s (-looked at +said last):\n%s", r.Ref.Name, diff)
				}
			}
		}
	})
}

// drawn is a world that a test draws.
type drawn struct {
	t        *rapid.T
	tracker  *status.Tracker
	pods     []*model.Pod
	policies []*model.Policy
	last     *status.Proxy // of those that said something
	hidden   [3]bool       // policies that there are not
}

func (d *drawn) rebuild() {
	ix := model.NewIndex(&model.Snapshot{Pods: append([]*model.Pod(nil), d.pods...), Policies: append([]*model.Policy(nil), d.policies...)})
	var policies []status.Policy
	for i := range d.policies {
		if d.hidden[i] {
			continue
		}
		policies = append(policies, status.Policy{Ref: d.policies[i].PolicyRef, Ingress: true, Selected: ix.Selected(d.policies[i])})
		d.tracker.SetCompanions(d.policies[i].UID, status.Companions{Stand: true, Generation: d.policies[i].Generation})
	}
	d.tracker.SetPolicies(ix, policies, func(model.PolicyRef) bool { return rapid.Bool().Draw(d.t, "enforced") })
}

// proxy is what may be said of one: it is gone, turned away, lost, or connected and runs what it should, or less.
func (d *drawn) proxy(now time.Time) *status.Proxy {
	i := rapid.IntRange(0, 1).Draw(d.t, "proxy")
	pod := d.pods[i]
	p := &status.Proxy{Node: pod.Namespace + "/" + pod.Name, UID: pod.UID}
	switch rapid.IntRange(0, 7).Draw(d.t, "said") {
	case 0:
		return &status.Proxy{Node: p.Node, Gone: true}
	case 1:
		p.Problem = rapid.SampledFrom([]string{"", "an old Envoy"}).Draw(d.t, "problem")
		return p
	case 2, 3:
		if d.last != nil {
			return d.last.LostAt(now)
		}
	default:
		p.Connected, p.Since = true, now
	}
	var slots []status.Slot
	for _, n := range []int{0, 1 + i} {
		ran := d.policies[n].PolicyRef
		ran.Generation -= int64(rapid.IntRange(0, 1).Draw(d.t, "behind"))
		slot := status.Slot{Desired: []model.PolicyRef{d.policies[n].PolicyRef}, Running: []model.PolicyRef{ran}, Current: rapid.Bool().Draw(d.t, "current")}
		if !slot.Current && rapid.Bool().Draw(d.t, "refused") {
			slot.Refused = "too large"
		}
		slots = append(slots, slot)
	}
	p.Policies = status.OverSlots(slots)
	d.last = p
	return p
}
