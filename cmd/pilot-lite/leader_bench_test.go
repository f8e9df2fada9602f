package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// manyPolicies is 1,000 workloads of 10 pods with a policy each, in 50 namespaces.
func manyPolicies() *model.Snapshot {
	app := func(name string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": name}) }
	s := &model.Snapshot{Mesh: convert.DefaultMesh()}
	for n := range 50 {
		namespace := fmt.Sprintf("ns-%02d", n)
		for w := range 20 {
			name := fmt.Sprintf("app-%02d", w)
			for p := range 10 {
				s.Pods = append(s.Pods, &model.Pod{
					Namespace: namespace, Name: fmt.Sprintf("%s-%d", name, p), Owner: name, ServiceAccount: name, Expected: true, Proxy: model.ProxySettings{Injected: true},
					Labels:    map[string]string{"app": name, v1alpha1.LabelServiceAccount: name, v1alpha1.LabelProxy: v1alpha1.ProxyInjected},
					Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), byte(w), byte(p)})}, Ports: []model.ContainerPort{{Name: "http", Number: 8080, Protocol: model.TCP}},
				})
			}
			s.Services = append(s.Services, model.Service{
				Namespace: namespace, Name: name, Selector: map[string]string{"app": name}, Ports: []model.ServicePort{{Name: "http", Port: 80, TargetPort: 8080, Protocol: model.TCP}},
			})
			s.Policies = append(s.Policies, &model.Policy{
				PolicyRef: model.PolicyRef{Namespace: namespace, Name: name, UID: namespace + name, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true, Selector: app(name),
				Ingress: []model.Rule{{
					Name: "reads", Peers: []model.Peer{{Pods: app(fmt.Sprintf("app-%02d", (w+1)%20))}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
					HTTP: []model.HTTPMatch{{Methods: []string{"GET"}}},
				}},
			})
		}
	}
	return s
}

// BenchmarkJudge measures what the leader does after a rebuild for one edited policy, beside writing: comparing the layers, and telling what follows for statuses.
func BenchmarkJudge(b *testing.B) {
	base := manyPolicies()
	edited := func(i int) *model.Snapshot {
		next := *base
		next.Policies = slices.Clone(base.Policies)
		p := *next.Policies[500]
		next.Policies[500] = &p
		p.Generation += int64(i)
		p.Ingress = slices.Clone(p.Ingress)
		p.Ingress[0].HTTP = []model.HTTPMatch{{Methods: []string{[]string{"GET", "PUT"}[i%2]}}}
		return &next
	}
	scaled := func(i int) *model.Snapshot {
		next := *base
		p := *base.Pods[5000]
		p.Name, p.Addresses = fmt.Sprintf("%s-more-%d", p.Name, i), []netip.Addr{netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})}
		next.Pods = slices.Insert(slices.Clone(base.Pods), 5001, &p)
		return &next
	}
	s := &clusterServer{source: kube.NewSource(kube.Config{Logger: slog.New(slog.DiscardHandler), Client: fake.NewClientset()})}
	for name, edit := range map[string]func(int) *model.Snapshot{"policy": edited, "pod": scaled} {
		var indexer model.Indexer
		var translator translate.Translator
		rebuild := func(i int) controlplane.Built {
			ix := indexer.Index(edit(i))
			return controlplane.Built{Index: ix, Output: translator.Translate(ix)}
		}
		b.Run("layers of one "+name, func(b *testing.B) {
			var layers comparer
			if _, err := layers.compare(rebuild(0)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				built := rebuild(i)
				b.StartTimer()
				_, _ = layers.compare(built)
			}
		})
		b.Run("statuses of one "+name, func(b *testing.B) {
			var layers comparer
			tracker := status.NewTracker(time.Now())
			var policies []status.Policy
			judge := func(built controlplane.Built, report *agree.Report) int {
				policies = appendPolicies(policies[:0], built)
				tracker.SetPolicies(built.Index, policies, s.saysEnforced)
				tracker.SetAgreement(func(p model.PolicyRef) status.Agreement { return agreementOf(report, p) })
				results, _ := tracker.Evaluate(time.Now())
				return len(results)
			}
			built := rebuild(0)
			report, _ := layers.compare(built)
			judge(built, report)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				built := rebuild(i)
				after, _ := layers.compare(built)
				b.StartTimer()
				judge(built, after)
			}
		})
	}
}
