package diff_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// large is 10,000 pods of 1,000 workloads with a policy each, of which two others may call it, in some namespaces.
func large(namespaces int) *model.Snapshot {
	s := &model.Snapshot{Mesh: convert.DefaultMesh()}
	for n := range namespaces {
		name := fmt.Sprint("ns-", n)
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: name, Labels: map[string]string{nameLabel: name}})
	}
	const workloads, pods = 1000, 10
	app := func(w int) labels.Selector {
		return labels.SelectorFromSet(labels.Set{"app": fmt.Sprint("app-", w%workloads)})
	}
	for w := range workloads {
		ns, name := fmt.Sprint("ns-", w%namespaces), fmt.Sprint("app-", w)
		s.Services = append(s.Services, model.Service{Namespace: ns, Name: name, Selector: map[string]string{"app": name}, Ports: []model.ServicePort{
			{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 8080},
		}})
		p := &model.Policy{PolicyRef: model.PolicyRef{Namespace: ns, Name: name}, Action: model.Allow, Selector: app(w), IsolatesIngress: true, Accepted: true}
		for i, path := range []string{"/api", "/admin"} {
			p.Ingress = append(p.Ingress, model.Rule{
				Name: fmt.Sprint(i), Peers: []model.Peer{{Pods: app(w + (i+1)*namespaces)}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
				HTTP: []model.HTTPMatch{{Methods: []string{"GET", "POST"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: path + "/" + name}}}},
			})
		}
		s.Policies = append(s.Policies, p)
		for i := range pods {
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: ns, Name: fmt.Sprint(name, "-", i), Owner: name, ServiceAccount: "default", Labels: map[string]string{"app": name, "pod-template-hash": "1"},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(w >> 8), byte(w), byte(i)})}, Ports: []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}},
			})
		}
	}
	slices.SortFunc(s.Policies, func(a, b *model.Policy) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	})
	return s
}

func benchmark(b *testing.B, before *model.Snapshot, edit func(s *model.Snapshot), flips int) {
	b.Helper()
	after := *before
	after.Policies = slices.Clone(before.Policies)
	edit(&after)
	var indexer model.Indexer
	was, is := indexer.Index(before), indexer.Index(&after)
	b.ReportAllocs()
	for b.Loop() {
		if r := diff.Compare(was, is); len(r.Flips) < flips || flips == 0 && len(r.Flips) > 0 {
			b.Fatalf("%d flips", len(r.Flips))
		}
	}
}

// widen has one policy's rule mean everybody.
func widen(s *model.Snapshot) {
	p := *s.Policies[len(s.Policies)/2]
	s.Policies[len(s.Policies)/2] = &p
	p.Ingress = slices.Clone(p.Ingress)
	p.Ingress[0].Peers = nil
}

func BenchmarkNothingChanges(b *testing.B) {
	benchmark(b, large(50), func(*model.Snapshot) {}, 0)
}

func BenchmarkOnePolicyEdited(b *testing.B) { benchmark(b, large(50), widen, 1) }

func BenchmarkOnePolicyEditedInOneNamespace(b *testing.B) { benchmark(b, large(1), widen, 1) }

// BenchmarkEveryPolicyGoes opens all workloads to everybody.
func BenchmarkEveryPolicyGoes(b *testing.B) {
	benchmark(b, large(50), func(s *model.Snapshot) { s.Policies = nil }, 1)
}

// BenchmarkOneForAll shuts all workloads of the one namespace that there is for everybody but one.
func BenchmarkOneForAll(b *testing.B) {
	benchmark(b, large(1), func(s *model.Snapshot) {
		s.Policies = append(s.Policies, &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "ns-0", Name: "z"}, Action: model.Deny, Selector: labels.Everything(), IsolatesIngress: true, Accepted: true,
			Ingress: []model.Rule{{Name: "0", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": "app-3"})}}}},
		})
	}, 1)
}

// BenchmarkLabelsChange relabels a namespace, so that all workloads have to be looked at.
func BenchmarkLabelsChange(b *testing.B) {
	benchmark(b, large(50), func(s *model.Snapshot) {
		s.Namespaces = slices.Clone(s.Namespaces)
		s.Namespaces[7].Labels = map[string]string{nameLabel: "ns-7", "team": "a"}
	}, 0)
}

func BenchmarkBookinfo(b *testing.B) {
	loaded, err := filesource.Load([]string{"../../examples/bookinfo/platform", "../../examples/bookinfo/policies"}, nil)
	if err != nil || len(loaded.Problems) > 0 {
		b.Fatal(err, loaded.Problems)
	}
	benchmark(b, convert.AsInjected(loaded.Snapshot), func(s *model.Snapshot) { s.Policies = s.Policies[:len(s.Policies)-1] }, 1)
}
