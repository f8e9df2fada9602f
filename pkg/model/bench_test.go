package model_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// large is 10,000 pods of 1,000 workloads behind 100 Services, with 1,000 policies.
func large() *model.Snapshot {
	s := &model.Snapshot{}
	for i := range 100 {
		app := fmt.Sprint("app-", i)
		s.Services = append(s.Services, model.Service{
			Namespace: fmt.Sprint("ns-", i%50), Name: app, Selector: map[string]string{"app": app},
			Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 8080}},
		})
	}
	for w := range 1000 {
		p := &model.Policy{PolicyRef: model.PolicyRef{Namespace: fmt.Sprint("ns-", w%50), Name: fmt.Sprint("p-", w)}, Selector: selector("app", fmt.Sprint("app-", w%100))}
		s.Policies = append(s.Policies, p)
		for i := range 10 {
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: fmt.Sprint("ns-", w%50), Name: fmt.Sprintf("app-%d-%d", w, i), Owner: fmt.Sprint("app-", w), ServiceAccount: "default",
				Labels:    map[string]string{"app": fmt.Sprint("app-", w%100), "version": fmt.Sprint("v", w), "pod-template-hash": fmt.Sprint(w)},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(w >> 8), byte(w), byte(i)})},
				Ports:     []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}},
			})
		}
	}
	return s
}

func BenchmarkNewIndex(b *testing.B) {
	s := large()
	b.ReportAllocs()
	for b.Loop() {
		if ix := model.NewIndex(s); len(ix.Workloads) != 1000 {
			b.Fatalf("got %d workloads", len(ix.Workloads))
		}
	}
}

// BenchmarkIndexAfterPolicyEdit indexes a snapshot that differs from the one before in its policies only.
func BenchmarkIndexAfterPolicyEdit(b *testing.B) {
	s := large()
	var x model.Indexer
	x.Index(s)
	b.ReportAllocs()
	for b.Loop() {
		edited := *s
		x.Index(&edited)
	}
}
