package agree_test

import (
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// object plants a bug in each NetworkPolicy.
func object(plant func(*networkingv1.NetworkPolicy)) func([]netpol.Companion) []netpol.Companion {
	return func(list []netpol.Companion) []netpol.Companion {
		for i := range list {
			list[i].NetworkPolicy = list[i].NetworkPolicy.DeepCopy()
			plant(list[i].NetworkPolicy)
		}
		return list
	}
}

// entries plants a bug in each entry.
func entries(plant func(peers *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort)) func([]netpol.Companion) []netpol.Companion {
	return object(func(np *networkingv1.NetworkPolicy) {
		for i := range np.Spec.Ingress {
			plant(&np.Spec.Ingress[i].From, &np.Spec.Ingress[i].Ports)
		}
		for i := range np.Spec.Egress {
			plant(&np.Spec.Egress[i].To, &np.Spec.Egress[i].Ports)
		}
	})
}

func peers(plant func(*networkingv1.NetworkPolicyPeer)) func([]netpol.Companion) []netpol.Companion {
	return entries(func(peers *[]networkingv1.NetworkPolicyPeer, _ *[]networkingv1.NetworkPolicyPort) {
		for i := range *peers {
			plant(&(*peers)[i])
		}
	})
}

func ports(plant func(*networkingv1.NetworkPolicyPort)) func([]netpol.Companion) []netpol.Companion {
	return entries(func(_ *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort) {
		for i := range *ports {
			plant(&(*ports)[i])
		}
	})
}

// without leaves out the companions with a role.
func without(role string) func([]netpol.Companion) []netpol.Companion {
	return func(list []netpol.Companion) []netpol.Companion {
		return slices.DeleteFunc(list, func(c netpol.Companion) bool { return c.NetworkPolicy.Labels[netpol.LabelRole] == role })
	}
}

func withoutLabel(s *metav1.LabelSelector, key string) {
	delete(s.MatchLabels, key)
	s.MatchExpressions = slices.DeleteFunc(s.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool { return r.Key == key })
}

// bugs are planted in the compiler's input or in what it made. Each must be noticed in some of the worlds.
var bugs = []struct {
	name  string
	input func(*model.Snapshot)
	plant func([]netpol.Companion) []netpol.Companion
}{
	{"selectors of one peer in two peers", nil, entries(func(peers *[]networkingv1.NetworkPolicyPeer, _ *[]networkingv1.NetworkPolicyPort) {
		var split []networkingv1.NetworkPolicyPeer
		for _, p := range *peers {
			if p.PodSelector != nil && p.NamespaceSelector != nil {
				split = append(split, networkingv1.NetworkPolicyPeer{PodSelector: p.PodSelector}, networkingv1.NetworkPolicyPeer{NamespaceSelector: p.NamespaceSelector})
				continue
			}
			split = append(split, p)
		}
		*peers = split
	})},
	{"selectors of two peers in one peer", nil, entries(func(peers *[]networkingv1.NetworkPolicyPeer, _ *[]networkingv1.NetworkPolicyPort) {
		if p := *peers; len(p) == 2 && p[0].IPBlock == nil && p[1].IPBlock == nil {
			if p[0].PodSelector == nil {
				p[0].PodSelector = p[1].PodSelector
			} else {
				p[0].NamespaceSelector = p[1].NamespaceSelector
			}
			*peers = p[:1]
		}
	})},
	{"peers dropped: anybody", nil, entries(func(peers *[]networkingv1.NetworkPolicyPeer, _ *[]networkingv1.NetworkPolicyPort) { *peers = nil })},
	{"the last peer lost", nil, entries(func(peers *[]networkingv1.NetworkPolicyPeer, _ *[]networkingv1.NetworkPolicyPort) {
		if n := len(*peers); n > 1 {
			*peers = (*peers)[:n-1]
		}
	})},
	{"the selector of namespaces dropped", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.NamespaceSelector != nil && p.PodSelector != nil {
			p.NamespaceSelector = nil
		}
	})},
	{"the selector of namespaces emptied", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.NamespaceSelector != nil {
			p.NamespaceSelector = &metav1.LabelSelector{}
		}
	})},
	{"the selector of pods emptied", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.PodSelector != nil {
			p.PodSelector = &metav1.LabelSelector{}
		}
	})},
	{"the account's label dropped", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.PodSelector != nil {
			withoutLabel(p.PodSelector, v1alpha1.LabelServiceAccount)
		}
	})},
	{"exceptions dropped", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.IPBlock != nil {
			p.IPBlock.Except = nil
		}
	})},
	{"a block twice as large", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.IPBlock != nil && p.IPBlock.CIDR == "203.0.113.128/25" {
			p.IPBlock.CIDR = "203.0.113.0/24"
		}
	})},
	{"a block of one family for both", nil, peers(func(p *networkingv1.NetworkPolicyPeer) {
		if p.IPBlock != nil && p.IPBlock.CIDR == "::/0" {
			p.IPBlock.CIDR = "0.0.0.0/0"
		}
	})},
	{"endPort exclusive", nil, ports(func(p *networkingv1.NetworkPolicyPort) {
		if p.EndPort != nil && *p.EndPort > p.Port.IntVal {
			*p.EndPort--
		}
	})},
	{"endPort one too far", nil, ports(func(p *networkingv1.NetworkPolicyPort) {
		if p.EndPort != nil && *p.EndPort < 65535 {
			*p.EndPort++
		}
	})},
	{"endPort dropped", nil, ports(func(p *networkingv1.NetworkPolicyPort) { p.EndPort = nil })},
	{"a range that begins one too late", nil, ports(func(p *networkingv1.NetworkPolicyPort) {
		if p.EndPort != nil && *p.EndPort > p.Port.IntVal {
			p.Port.IntVal++
		}
	})},
	{"ports dropped: every port", nil, entries(func(_ *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort) { *ports = nil })},
	{"the protocol dropped: TCP", nil, ports(func(p *networkingv1.NetworkPolicyPort) { p.Protocol = nil })},
	{"UDP beside TCP", nil, entries(func(_ *[]networkingv1.NetworkPolicyPeer, ports *[]networkingv1.NetworkPolicyPort) {
		for _, p := range *ports {
			udp := corev1.ProtocolUDP
			p.Protocol = &udp
			*ports = append(*ports, p)
		}
	})},
	{"the sidecar's ports opened", nil, ports(func(p *networkingv1.NetworkPolicyPort) {
		if p.EndPort != nil && *p.EndPort == 14999 {
			*p.EndPort = 65535
		}
	})},
	{"the number of one pod's named port for all pods", func(s *model.Snapshot) {
		for i := range s.Pods {
			s.Pods[i].Ports = slices.Clone(s.Pods[i].Ports)
			for j := range s.Pods[i].Ports {
				if p := &s.Pods[i].Ports[j]; p.Name == "web" {
					p.Number = 80
				}
			}
		}
	}, nil},
	{"labels of the selector dropped", nil, object(func(np *networkingv1.NetworkPolicy) {
		for _, key := range []string{"app", "tier"} {
			withoutLabel(&np.Spec.PodSelector, key)
		}
	})},
	{"ports and peers of one entry for those of another", nil, object(func(np *networkingv1.NetworkPolicy) {
		var all networkingv1.NetworkPolicyIngressRule
		for _, r := range np.Spec.Ingress {
			all.From, all.Ports = append(all.From, r.From...), append(all.Ports, r.Ports...)
		}
		if len(np.Spec.Ingress) > 1 {
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{all}
		}
	})},
	{"the sidecar's label left out", nil, object(func(np *networkingv1.NetworkPolicy) { withoutLabel(&np.Spec.PodSelector, v1alpha1.LabelProxy) })},
	{"policyTypes left out", nil, object(func(np *networkingv1.NetworkPolicy) { np.Spec.PolicyTypes = nil })},
	{"both policyTypes always", nil, object(func(np *networkingv1.NetworkPolicy) {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	})},
	{"ingress and egress swapped", nil, object(func(np *networkingv1.NetworkPolicy) {
		ingress := np.Spec.Ingress
		np.Spec.Ingress = nil
		for _, r := range np.Spec.Egress {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: r.To, Ports: r.Ports})
		}
		np.Spec.Egress = nil
		for _, r := range ingress {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: r.From, Ports: r.Ports})
		}
	})},
	{"expressions of the selector dropped", nil, object(func(np *networkingv1.NetworkPolicy) { np.Spec.PodSelector.MatchExpressions = nil })},
	{"NotIn for In", nil, object(func(np *networkingv1.NetworkPolicy) {
		for i := range np.Spec.PodSelector.MatchExpressions {
			if r := &np.Spec.PodSelector.MatchExpressions[i]; r.Operator == metav1.LabelSelectorOpNotIn {
				r.Operator = metav1.LabelSelectorOpIn
			}
		}
	})},
	{"another namespace", nil, object(func(np *networkingv1.NetworkPolicy) { np.Namespace = "web" })},
	{"no isolation", nil, without("isolate")},
	{"no companion for http", nil, without("http")},
	{"no companion for what a Deny leaves", nil, without("deny")},
	{"no plumbing", nil, without("plumbing")},
	{"Denies forgotten", func(s *model.Snapshot) {
		s.Policies = slices.DeleteFunc(s.Policies, func(p *model.Policy) bool { return p.Action == model.Deny })
	}, nil},
	{"Denies with http taken from L3/4", func(s *model.Snapshot) {
		for _, p := range s.Policies {
			p.Ingress = slices.Clone(p.Ingress)
			for j := range p.Ingress {
				if p.Action == model.Deny {
					p.Ingress[j].HTTP = nil
				}
			}
		}
	}, nil},
	{"DryRun enforced", func(s *model.Snapshot) {
		for i := range s.Policies {
			s.Policies[i].DryRun = false
		}
	}, nil},
	{"what the capture leaves out not left out", func(s *model.Snapshot) {
		for i := range s.Pods {
			s.Pods[i].Proxy.ExcludedInbound = nil
		}
	}, nil},
	{"names of ports forgotten", func(s *model.Snapshot) {
		for i := range s.Pods {
			s.Pods[i].Ports = nil
		}
	}, nil},
	{"a metric's reader is everybody", func(s *model.Snapshot) {
		for i := range s.Mesh.Metrics {
			s.Mesh.Metrics[i].Pods, s.Mesh.Metrics[i].Namespaces = nil, everyNamespace()
		}
	}, nil},
}

// world is one that all bugs are tried in.
type world struct {
	snapshot *model.Snapshot
	index    *model.Index
	sound    bool // the layers agree about companions without a bug
}

func worlds(n int) []func() world {
	out := make([]func() world, 0, n)
	for seed := range n {
		out = append(out, sync.OnceValue(func() world {
			w := world{snapshot: rapid.Custom(netpoltest.Cluster).Example(seed)}
			w.index = model.NewIndex(w.snapshot)
			companions, _ := companionsOf(w.index)
			w.sound = disagreement(w.index, companions) == ""
			return w
		}))
	}
	return out
}

// Every planted bug is noticed: the worlds are rich enough, and the comparison is sharp enough, to tell each from the truth.
func TestPlantedBugsAreCaught(t *testing.T) {
	t.Parallel()
	all := worlds(1500)
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed, draw := range all {
				w := draw()
				if !w.sound {
					continue
				}
				input := *w.snapshot
				input.Policies, input.Pods = nil, nil
				for _, p := range w.snapshot.Policies {
					again := *p
					input.Policies = append(input.Policies, &again)
				}
				for _, p := range w.snapshot.Pods {
					again := *p
					input.Pods = append(input.Pods, &again)
				}
				input.Mesh.Metrics = slices.Clone(input.Mesh.Metrics)
				if b.input != nil {
					b.input(&input)
				}
				built, _ := new(netpol.Builder).Build(model.NewIndex(&input))
				if b.plant != nil {
					built = b.plant(built)
				}
				var companions []agree.Companion
				for _, c := range built {
					if !c.DryRun {
						companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
					}
				}
				if text := disagreement(w.index, companions); text != "" {
					t.Logf("noticed in world %d: %s", seed, text)
					return
				}
			}
			t.Errorf("not noticed in %d worlds", len(all))
		})
	}
}

func everyNamespace() labels.Selector { return labels.Everything() }
