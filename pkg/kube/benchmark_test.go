package kube

import (
	"fmt"
	"log/slog"
	goruntime "runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// bigCluster is 20 Services in each of some namespaces, with 10 pods and a policy each, read as from lists.
func bigCluster(b testing.TB, inhabited int) *Source {
	b.Helper()
	s := NewSource(Config{Logger: slog.New(slog.DiscardHandler), Client: fake.NewClientset()})
	var namespaces, services, pods, policies []any
	for n := range inhabited {
		namespace := fmt.Sprintf("ns-%02d", n)
		namespaces = append(namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		for a := range 20 {
			app := fmt.Sprintf("app-%02d", a)
			services = append(services, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app},
				Spec:       corev1.ServiceSpec{ClusterIP: fmt.Sprintf("10.96.%d.%d", n, a), Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
			})
			policies = append(policies, bigPolicy(namespace, app, 1))
			for p := range 10 {
				pods = append(pods, bigPod(namespace, app, fmt.Sprintf("10.%d.%d.%d", n, a, p), p))
			}
		}
	}
	for _, list := range []struct {
		into interface {
			Replace(objects []any, version string) error
		}
		objects []any
	}{{s.namespaces, namespaces}, {s.services, services}, {s.pods, pods}, {s.policies, policies}, {s.slices, nil}, {s.networkPolicies, nil}, {s.mesh, nil}, {s.accounts, nil}} {
		if err := list.into.Replace(list.objects, "1"); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func bigPod(namespace, app, address string, n int) *corev1.Pod {
	return newPod(fmt.Sprintf("%s-%d", app, n), func(p *corev1.Pod) {
		p.Namespace, p.Labels["app"], p.OwnerReferences[0].Name, p.Status.PodIP, p.Status.PodIPs = namespace, app, app+"-abc", address, nil
	})
}

func bigPolicy(namespace, app string, generation int64) *policyText {
	o := policyObject(map[string]any{
		"podSelector": map[string]any{"matchLabels": map[string]any{"app": app}},
		"ingress": []any{map[string]any{
			"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "app-07"}}}},
			"http": []any{map[string]any{"methods": []any{"GET"}, "hosts": []any{app}, "paths": []any{map[string]any{"type": "Exact", "value": fmt.Sprint("/", generation)}}}},
		}},
	})
	o.SetNamespace(namespace)
	o.SetName(app)
	o.SetUID(types.UID(namespace + "/" + app))
	o.SetGeneration(generation)
	return o
}

// BenchmarkSnapshot measures what an event costs until the snapshot stands: its conversion, and joining it with all the rest.
func BenchmarkSnapshot(b *testing.B) {
	b.Run("one policy edited", func(b *testing.B) {
		s := bigCluster(b, 50)
		s.Snapshot()
		for i := 0; b.Loop(); i++ {
			if err := s.policies.Update(bigPolicy("ns-25", "app-03", int64(i+2))); err != nil {
				b.Fatal(err)
			}
			s.Snapshot()
		}
	})
	b.Run("one status written", func(b *testing.B) {
		s := bigCluster(b, 50)
		s.Snapshot()
		for i := 0; b.Loop(); i++ {
			o := bigPolicy("ns-25", "app-03", 1)
			o.status = fmt.Appendf(nil, `{"enforced": "%d/10"}`, i)
			if err := s.policies.Update(o); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one pod added", func(b *testing.B) {
		s := bigCluster(b, 50)
		s.Snapshot()
		for i := 0; b.Loop(); i++ {
			if err := s.pods.Update(bigPod("ns-25", "app-03", fmt.Sprintf("10.200.%d.%d", i/250%250, i%250), 10)); err != nil {
				b.Fatal(err)
			}
			s.Snapshot()
		}
	})
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			var before, after goruntime.MemStats
			goruntime.GC()
			goruntime.ReadMemStats(&before)
			s := bigCluster(b, 50)
			s.Snapshot()
			goruntime.GC()
			goruntime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
			goruntime.KeepAlive(s)
		}
	})
}
