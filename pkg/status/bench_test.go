package status_test

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// BenchmarkEditForAll measures what follows for statuses once 1,000 proxies run an edited policy that selects all of them, beside one of a hundred others that each has.
func BenchmarkEditForAll(b *testing.B) {
	const workloads, pods = 100, 10
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &model.Snapshot{Policies: []*model.Policy{{PolicyRef: model.PolicyRef{Namespace: "shop", Name: "all", UID: "all", Generation: 1}, Selector: labels.Everything()}}}
	for w := range workloads {
		app := fmt.Sprintf("svc-%03d", w)
		for p := range pods {
			name := fmt.Sprintf("%s-5d4f8c9b7-%05d", app, p)
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: "shop", Name: name, UID: "uid of " + name, Owner: app, Labels: map[string]string{"app": app}, Expected: true, Created: start.Add(-time.Hour),
				Proxy: model.ProxySettings{Injected: true},
			})
		}
		s.Policies = append(s.Policies, &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: app, UID: "uid of " + app, Generation: 1}, Selector: labels.SelectorFromSet(labels.Set{"app": app}),
		})
	}
	ix := model.NewIndex(s)
	policies := make([]status.Policy, 0, len(s.Policies))
	for _, p := range s.Policies {
		policies = append(policies, status.Policy{Ref: p.PolicyRef, Ingress: true, Selected: ix.Selected(p)})
	}
	proxies := func() []*status.Proxy {
		var out []*status.Proxy
		for i, pod := range s.Pods {
			refs := []model.PolicyRef{policies[0].Ref, policies[1+i/pods].Ref}
			slot := status.Slot{Desired: refs, Running: refs, Current: true}
			out = append(out, &status.Proxy{Node: pod.Namespace + "/" + pod.Name, UID: pod.UID, Connected: true, Policies: status.OverSlots([]status.Slot{slot, slot})})
		}
		return out
	}
	tracker := status.NewTracker(start)
	b.ReportAllocs()
	looked := 0
	for b.Loop() {
		b.StopTimer()
		policies[0].Ref.Generation++
		reported := proxies()
		b.StartTimer()
		tracker.SetPolicies(ix, policies, func(model.PolicyRef) bool { return true })
		tracker.SetProxies(reported, start)
		results, _ := tracker.Evaluate(start)
		looked += len(results)
	}
	b.ReportMetric(float64(looked)/float64(b.N), "statuses/op")
}
