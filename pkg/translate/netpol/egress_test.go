package netpol_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// town is a small cluster, as a compromised pod sees it.
func town() *model.Snapshot {
	s := &model.Snapshot{Mesh: convert.DefaultMesh()}
	n := byte(0)
	add := func(namespace, name string, set map[string]string, ports ...model.ContainerPort) {
		n++
		s.Pods = append(s.Pods, &model.Pod{Namespace: namespace, Name: name, Labels: set, Ports: ports, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, n})}, Expected: true})
	}
	add("shop", "front", map[string]string{"app": "front", "policy.pilot-lite.io/proxy": "injected"})
	add("shop", "reviews", map[string]string{"app": "reviews"})
	add("data", "db", map[string]string{"app": "db"})
	add("kube-system", "dns", map[string]string{"k8s-app": "kube-dns"}, model.ContainerPort{Name: "dns", Number: 5353, Protocol: model.UDP}, model.ContainerPort{Name: "dns-tcp", Number: 5354, Protocol: model.TCP})
	add("kube-system", "metrics", map[string]string{"k8s-app": "metrics"})
	add("pilot-lite-system", "pilot-lite", map[string]string{"app.kubernetes.io/name": "pilot-lite"})
	for _, name := range []string{"shop", "data", "kube-system", "pilot-lite-system"} {
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name}})
	}
	s.Services = []model.Service{
		{Namespace: "kube-system", Name: "kube-dns", Selector: map[string]string{"k8s-app": "kube-dns"}, Ports: []model.ServicePort{
			{Name: "dns", Protocol: model.UDP, Port: 53, TargetName: "dns"},
			{Name: "dns-tcp", Protocol: model.TCP, Port: 53, TargetName: "dns-tcp"},
			{Name: "metrics", Protocol: model.TCP, Port: 9153, TargetPort: 9153},
		}},
		// A Service of somebody's that selects other pods opens nothing.
		{Namespace: "kube-system", Name: "other", Selector: map[string]string{"k8s-app": "metrics"}, Ports: []model.ServicePort{{Protocol: model.UDP, Port: 53, TargetPort: 9999}}},
	}
	return s
}

type egressFlow struct {
	to       string // a pod as "NAMESPACE/NAME", or an address
	protocol model.Protocol
	port     uint16
	want     bool
}

func (f egressFlow) check(t *testing.T, ix *model.Index, companions []netpol.Companion) {
	t.Helper()
	var k netpoltest.Kernel
	for _, c := range companions {
		k = append(k, c.NetworkPolicy)
	}
	parties := map[string]netpoltest.End{}
	for _, p := range netpoltest.Parties(ix) {
		parties[p.Name] = p.End
	}
	to, isPod := parties[f.to]
	if !isPod {
		to = netpoltest.End{Address: netip.MustParseAddr(f.to)}
	}
	if got := k.Allows(parties["shop/front"], to, f.port, f.protocol); got != f.want {
		text, _ := json.MarshalIndent(companions, "", " ")
		t.Errorf("front to %s, %s %d: passes %t, want %t\n%s", f.to, f.protocol, f.port, got, f.want, text)
	}
}

func plumbing() []egressFlow {
	return []egressFlow{
		{"kube-system/dns", model.UDP, 53, true}, {"kube-system/dns", model.TCP, 53, true}, // asked directly
		{"kube-system/dns", model.UDP, 5353, true}, {"kube-system/dns", model.TCP, 5354, true}, // asked by its Service, as it arrives
		{"pilot-lite-system/pilot-lite", model.TCP, 15012, true},
	}
}

// An Allow's egress rules shut everything that they do not name: databases, the cluster's own parts, other nodes, the cloud's metadata, the outside. What the pod needs to
// live stays open, and nothing beside it at the same peers.
func TestEgressShutsWhatIsNotNamed(t *testing.T) {
	t.Parallel()
	s := town()
	s.Policies = []*model.Policy{{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "front", UID: "u", Generation: 1}, Action: model.Allow, Selector: labels.SelectorFromSet(labels.Set{"app": "front"}), IsolatesEgress: true,
		Egress: []model.Rule{{Name: "0", Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": "reviews"})}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 9080, To: 9080}}}},
	}}
	ix := model.NewIndex(s)
	companions, _ := new(netpol.Builder).Build(ix)
	for _, f := range append(plumbing(),
		egressFlow{"shop/reviews", model.TCP, 9080, true},
		egressFlow{"shop/reviews", model.TCP, 22, false},
		egressFlow{"shop/reviews", model.UDP, 9080, false},
		egressFlow{"data/db", model.TCP, 5432, false},
		egressFlow{"kube-system/metrics", model.TCP, 443, false},
		egressFlow{"kube-system/metrics", model.UDP, 9999, false},
		egressFlow{"kube-system/dns", model.TCP, 9153, false},
		egressFlow{"kube-system/dns", model.TCP, 5353, false},
		egressFlow{"pilot-lite-system/pilot-lite", model.TCP, 15017, false},
		egressFlow{"169.254.169.254", model.TCP, 80, false},
		egressFlow{"203.0.113.10", model.TCP, 443, false},
		egressFlow{"203.0.113.10", model.UDP, 53, false}, // names are asked of the cluster's servers alone: no tunnel
		egressFlow{"192.0.2.1", model.TCP, 6443, false},  // a node
	) {
		f.check(t, ix, companions)
	}
	roles := map[string]int{}
	for _, c := range companions {
		roles[c.NetworkPolicy.Labels[netpol.LabelRole]]++
	}
	if roles["isolate"] != 1 || roles["plumbing"] != 1 || len(roles) != 2 {
		t.Errorf("roles %v, want one that isolates and one labelled as plumbing", roles)
	}
}

// A Deny in egress takes from pods that are otherwise open what it names, wholly, and leaves them what they need to live even where it denies everything.
func TestADenyInEgressLeavesPlumbing(t *testing.T) {
	t.Parallel()
	deny := func(rules ...model.Rule) []*model.Policy {
		return []*model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: "deny", UID: "u", Generation: 1}, Action: model.Deny, Selector: labels.Everything(), IsolatesEgress: true, Egress: rules,
		}}
	}
	outside := model.Rule{Name: "0", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("169.254.169.254/32")}}}}
	for name, c := range map[string]struct {
		policies []*model.Policy
		flows    []egressFlow
	}{
		"the metadata address": {deny(outside), []egressFlow{
			{"169.254.169.254", model.TCP, 80, false}, {"169.254.169.254", model.UDP, 53, false}, {"203.0.113.10", model.TCP, 443, true}, {"data/db", model.TCP, 5432, true},
		}},
		"everything": {deny(model.Rule{Name: "0"}), []egressFlow{{"203.0.113.10", model.TCP, 443, false}, {"data/db", model.TCP, 5432, false}, {"shop/reviews", model.UDP, 1, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := town()
			s.Policies = c.policies
			ix := model.NewIndex(s)
			companions, found := new(netpol.Builder).Build(ix)
			if len(found) > 0 {
				t.Errorf("found %v", found)
			}
			for _, f := range append(plumbing(), c.flows...) {
				f.check(t, ix, companions)
			}
		})
	}
}
