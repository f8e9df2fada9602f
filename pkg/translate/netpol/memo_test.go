package netpol_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// A builder that remembers gives what one without a memory gives, whatever was edited since: another policy, a Deny beside it, the mesh, the pods.
func TestABuilderForgetsNothingThatDecides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var builder netpol.Builder
		var indexer model.Indexer
		s := memoSnapshot()
		for range 8 {
			s = memoEdit(t, s)
			ix := indexer.Index(s)
			companions, found := builder.Build(ix)
			wantCompanions, wantFound := new(netpol.Builder).Build(model.NewIndex(s))
			if diff := cmp.Diff(wantCompanions, companions); diff != "" {
				t.Fatalf("companions (-without a memory +with):\n%s", diff)
			}
			if diff := cmp.Diff(wantFound, found); diff != "" {
				t.Fatalf("findings (-without a memory +with):\n%s", diff)
			}
		}
	})
}

// An edit of what requests may say, of an Allow or of a Deny, leaves every companion the very same.
func TestRequestsChangeNoCompanion(t *testing.T) {
	t.Parallel()
	var builder netpol.Builder
	var indexer model.Indexer
	s := memoSnapshot()
	s.Policies[2].Action = model.Deny
	for i := range s.Policies {
		s.Policies[i].Ingress = []model.Rule{{Name: "of the " + s.Policies[i].Name, HTTP: []model.HTTPMatch{{Methods: []string{"GET"}}}}, s.Policies[i].Ingress[0]}
	}
	before, _ := builder.Build(indexer.Index(s))
	for i := range s.Policies {
		next := *s
		next.Policies = slices.Clone(s.Policies)
		p := *next.Policies[i]
		next.Policies[i] = &p
		p.Generation++
		p.Ingress = slices.Clone(p.Ingress)
		p.Ingress[0].Name, p.Ingress[0].HTTP = "another", []model.HTTPMatch{{Methods: []string{"PUT", "POST"}}}
		after, _ := builder.Build(indexer.Index(&next))
		if !model.SameSlice(before, after) {
			t.Errorf("an edit of %s made other companions:\n%s", p.Name, cmp.Diff(before, after))
		}
		s = &next
	}
}

func memoSnapshot() *model.Snapshot {
	app := func(name string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": name}) }
	s := &model.Snapshot{Mesh: model.Mesh{DNS: []model.Peer{{Namespaces: labels.Everything(), Pods: app("a")}}, ControlPlane: []model.Peer{{Pods: app("control")}}, ControlPlanePort: 15012}}
	for _, name := range []string{"a", "b", "c"} {
		s.Pods = append(s.Pods, &model.Pod{Namespace: "shop", Name: name, Labels: map[string]string{"app": name}, Ports: []model.ContainerPort{{Name: "web", Number: 80, Protocol: model.TCP}}})
		selector := app(name)
		if name == "c" {
			selector = labels.Everything() // so that its Deny takes from the others' Allows
		}
		s.Policies = append(s.Policies, &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: name, UID: name, Generation: 1}, Action: model.Allow, Selector: selector, IsolatesIngress: true, IsolatesEgress: name == "b",
			Ingress: []model.Rule{{Name: "0", Peers: []model.Peer{{Pods: app("b")}}, Ports: []model.PortRange{{Protocol: model.TCP, Name: "web"}}}},
		})
	}
	return s
}

// memoEdit is the next snapshot: new lists where something changed, the same ones elsewhere.
func memoEdit(t *rapid.T, s *model.Snapshot) *model.Snapshot {
	next := *s
	next.Policies = append([]*model.Policy(nil), s.Policies...)
	edited := rapid.IntRange(0, len(next.Policies)-1).Draw(t, "policy")
	p := *next.Policies[edited]
	next.Policies[edited] = &p
	switch rapid.IntRange(0, 7).Draw(t, "edit") {
	case 0:
		p.Generation++
		p.Ingress = []model.Rule{{Name: "0", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": rapid.SampledFrom([]string{"a", "c"}).Draw(t, "caller")})}}}}
	case 1:
		p.Generation++
		p.Action = rapid.SampledFrom([]model.Action{model.Allow, model.Deny}).Draw(t, "action")
	case 2:
		p.Generation++
		p.DryRun = !p.DryRun
	case 3:
		next.Mesh.DNS = []model.Peer{{Namespaces: labels.Everything(), Pods: labels.SelectorFromSet(labels.Set{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "dns")})}}
	case 4:
		next.Pods = append([]*model.Pod(nil), s.Pods...)
		i := rapid.IntRange(0, len(next.Pods)-1).Draw(t, "pod")
		pod := *next.Pods[i]
		next.Pods[i] = &pod
		pod.Ports = []model.ContainerPort{{Name: "web", Number: rapid.SampledFrom([]uint16{80, 8080}).Draw(t, "port"), Protocol: model.TCP}}
	case 5: // where calls to the name servers' Service arrive
		next.Services = []model.Service{{Namespace: "shop", Name: "dns", Selector: map[string]string{"app": "a"}, Ports: []model.ServicePort{{
			Protocol: model.UDP, Port: 53, TargetPort: rapid.SampledFrom([]uint16{53, 5353}).Draw(t, "target"),
		}}}}
	case 6: // what requests may say, or that they must be HTTP at all
		p.Generation++
		p.Ingress = slices.Clone(p.Ingress)
		p.Ingress[0].HTTP = rapid.SampledFrom([][]model.HTTPMatch{nil, {}, {{Methods: []string{"GET"}}}}).Draw(t, "http")
	case 7: // nothing
	}
	return &next
}
