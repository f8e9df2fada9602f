package kernel_test

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Cyclonus, which others test network plugins with, reads NetworkPolicies as we do. Where it is known to read them otherwise, it is asked in another way:
//   - it panics without policyTypes, so it is given what the API server would fill in;
//   - its NotIn does not hold where the label is absent (the API's does), so no such pair of label and selector is drawn for it;
//   - it takes a selector that wants an empty value to match where the label is absent, so no such value is drawn;
//   - it knows a port by one name, so no port has two;
//   - it knows neither pods on the host's network, which are addresses to it, nor that a pod is never cut off from itself, which is not asked.
func TestCyclonusReadsNetworkPoliciesAsWeDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := labelled(t)
		ix := model.NewIndex(s)
		objects := netpoltest.NetworkPolicies(t, 5)
		set, found := kernel.New(objects)
		if len(found) > 0 {
			t.Fatalf("found %v", found)
		}
		theirs := matcher.BuildNetworkPolicies(false, withPolicyTypes(objects))
		ends := ends(ix)
		for _, from := range ends {
			for _, to := range ends {
				if from.Pod != nil && from.Pod == to.Pod {
					continue
				}
				ports := set.Ports(from, to)
				for _, port := range []uint16{1, 79, 80, 81, 8080, 8081, 8082, 14990, 15050, 15051, 65535} {
					for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
						got := set.Allows(from, to, port, protocol)
						want := theirs.IsTrafficAllowed(traffic(from, to, port, protocol)).IsAllowed()
						if d := set.Decide(from, to, port, protocol); got != want || d.Allowed() != want || ports.Contains(port, protocol) != want {
							t.Fatalf("%s to %s, %s %d: we say %t (%+v; all ports: %s), Cyclonus says %t", from, to, protocol, port, got, d, ports, want)
						}
					}
				}
			}
		}
	})
}

// labelled is a world in which every label that a NotIn may ask for is there, and ports have names.
func labelled(t *rapid.T) *model.Snapshot {
	s := netpoltest.World(t)
	for i := range s.Pods {
		p := s.Pods[i]
		set := map[string]string{"app": "c"}
		maps.Copy(set, p.Labels)
		p.Labels = set
		p.Ports = []model.ContainerPort{
			{Name: rapid.SampledFrom([]string{"web", "x"}).Draw(t, "name"), Number: 80, Protocol: model.TCP},
			{Name: rapid.SampledFrom([]string{"web", "y"}).Draw(t, "name"), Number: rapid.SampledFrom([]uint16{8080, 8081}).Draw(t, "number"), Protocol: model.TCP},
			{Name: rapid.SampledFrom([]string{"web", "z"}).Draw(t, "name"), Number: 80, Protocol: model.UDP},
		}
		p.HostNetwork = rapid.IntRange(0, 9).Draw(t, "hostNetwork") == 0
		if rapid.IntRange(0, 3).Draw(t, "six") == 0 {
			p.Addresses = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))}
		}
	}
	return s
}

func ends(ix *model.Index) []kernel.End {
	out := []kernel.End{
		{Address: netip.MustParseAddr("203.0.113.10")},
		{Address: netip.MustParseAddr("203.0.113.200")},
		{Address: netip.MustParseAddr("2001:db8::1:0")},
	}
	for i := range ix.Snapshot.Pods {
		out = append(out, kernel.PodEnd(ix, ix.Snapshot.Pods[i]))
	}
	return out
}

func withPolicyTypes(objects []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for _, np := range objects {
		if len(np.Spec.PolicyTypes) == 0 {
			np = np.DeepCopy()
			np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(np.Spec.Egress) > 0 {
				np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
			}
		}
		out = append(out, np)
	}
	return out
}

func traffic(from, to kernel.End, port uint16, protocol model.Protocol) *matcher.Traffic {
	name := ""
	if to.Pod != nil && !to.Pod.HostNetwork {
		for _, c := range to.Pod.Ports {
			if c.Number == port && c.Protocol == protocol {
				name = c.Name
			}
		}
	}
	return &matcher.Traffic{Source: peer(from), Destination: peer(to), ResolvedPort: int(port), ResolvedPortName: name, Protocol: corev1.Protocol(protocol)}
}

func peer(e kernel.End) *matcher.TrafficPeer {
	p := &matcher.TrafficPeer{IP: e.Address.String()}
	if e.Pod != nil && !e.Pod.HostNetwork {
		p.Internal = &matcher.InternalPeer{PodLabels: e.Pod.Labels, NamespaceLabels: e.NamespaceLabels, Namespace: e.Pod.Namespace}
	}
	return p
}
