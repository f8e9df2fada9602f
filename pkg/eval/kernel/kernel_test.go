package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// cluster is three namespaces: a callee whose named port is another number in its twin, callers, and one on the host's network.
func cluster() *model.Index {
	pod := func(namespace, name, address string, set map[string]string, ports ...model.ContainerPort) *model.Pod {
		return &model.Pod{Namespace: namespace, Name: name, Labels: set, Ports: ports, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	}
	web := func(number uint16, protocol model.Protocol) model.ContainerPort {
		return model.ContainerPort{Name: "web", Number: number, Protocol: protocol}
	}
	agent := pod("data", "agent", "192.0.2.10", map[string]string{"app": "front"}, web(8080, model.TCP))
	agent.HostNetwork = true
	return model.NewIndex(&model.Snapshot{
		Namespaces: []model.Namespace{
			{Name: "shop", Labels: map[string]string{"team": "a"}}, {Name: "data", Labels: map[string]string{"team": "b"}}, {Name: "bare"},
		},
		Pods: []*model.Pod{
			pod("shop", "cart-1", "10.0.0.1", map[string]string{"app": "cart", "version": "1"}, web(8080, model.TCP), model.ContainerPort{Name: "dns", Number: 5353, Protocol: model.UDP}),
			pod("shop", "cart-2", "10.0.0.2", map[string]string{"app": "cart", "version": "2"}, web(9090, model.TCP), web(7070, model.UDP)),
			pod("shop", "front", "10.0.0.3", map[string]string{"app": "front"}),
			pod("data", "front", "10.0.0.4", map[string]string{"app": "front"}),
			pod("bare", "front", "10.0.1.5", nil),
			agent,
		},
	})
}

func find(t *testing.T, ix *model.Index, name string) kernel.End {
	t.Helper()
	namespace, pod, isPod := strings.Cut(name, "/")
	if !isPod {
		if name == "" {
			return kernel.End{}
		}
		e := kernel.End{Address: netip.MustParseAddr(name)}
		if e.Pod = ix.PodAt(e.Address); e.Pod != nil {
			e.NamespaceLabels = ix.NamespaceLabels(e.Pod.Namespace)
		}
		return e
	}
	for i := range ix.Snapshot.Pods {
		if p := ix.Snapshot.Pods[i]; p.Namespace == namespace && p.Name == pod {
			return kernel.PodEnd(ix, p)
		}
	}
	t.Fatalf("no pod %q", name)
	return kernel.End{}
}

// policies reads specs of NetworkPolicies, of namespace shop where they name none.
func policies(t *testing.T, texts ...string) []*networkingv1.NetworkPolicy {
	t.Helper()
	var out []*networkingv1.NetworkPolicy
	for i, text := range texts {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: string(rune('a' + i))}}
		if err := yaml.UnmarshalStrict([]byte(text), &np.Spec); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out = append(out, np)
	}
	return out
}

type flow struct {
	from, to string
	port     uint16
	protocol model.Protocol
	want     bool
}

func tcp(from, to string, port uint16, want bool) flow { return flow{from, to, port, model.TCP, want} }

func udp(from, to string, port uint16, want bool) flow { return flow{from, to, port, model.UDP, want} }

// The semantics, statement by statement, as the API's documentation of NetworkPolicy makes them.
func TestSemantics(t *testing.T) {
	t.Parallel()
	const cart = "podSelector: {matchLabels: {app: cart}}\n"
	for name, c := range map[string]struct {
		policies []string
		flows    []flow
	}{
		"no policy, no isolation": {nil, []flow{tcp("shop/front", "shop/cart-1", 8080, true), tcp("192.0.2.1", "shop/cart-1", 1, true)}},
		"an empty selector selects the whole namespace and no other": {[]string{"podSelector: {}"}, []flow{
			tcp("data/front", "shop/front", 80, false), tcp("shop/front", "data/front", 80, true),
		}},
		"without policyTypes and egress only ingress is governed": {[]string{cart}, []flow{
			tcp("shop/front", "shop/cart-1", 8080, false), tcp("shop/cart-1", "shop/front", 80, true),
		}},
		"without policyTypes and with egress both are": {[]string{cart + "egress: [{ports: [{port: 80}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 8080, false), tcp("shop/cart-1", "shop/front", 80, true), tcp("shop/cart-1", "shop/front", 81, false),
		}},
		"an empty egress list is no egress list": {[]string{cart + "egress: []"}, []flow{tcp("shop/cart-1", "shop/front", 80, true)}},
		"egress entries do not count where policyTypes leaves egress out": {[]string{cart + "policyTypes: [Ingress]\negress: [{ports: [{port: 80}]}]"}, []flow{
			tcp("shop/cart-1", "shop/front", 81, true),
		}},
		"ingress entries do not count where policyTypes leaves ingress out": {[]string{cart + "policyTypes: [Egress]\ningress: [{}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 8080, true), tcp("shop/cart-1", "shop/front", 80, false),
		}},
		"an empty entry lets everything pass": {[]string{cart + "ingress: [{}]"}, []flow{
			tcp("192.0.2.1", "shop/cart-1", 1, true), udp("", "shop/cart-1", 65535, true),
		}},
		"empty lists in an entry mean any": {[]string{cart + "ingress: [{from: [], ports: []}]"}, []flow{tcp("192.0.2.1", "shop/cart-1", 1, true)}},
		"peers are ORed, peers and ports are ANDed": {[]string{cart + "ingress: [{from: [{podSelector: {matchLabels: {app: front}}}, {ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}, {port: 81, protocol: UDP}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 80, true), udp("shop/front", "shop/cart-1", 81, true), tcp("shop/front", "shop/cart-1", 81, false),
			tcp("192.0.2.1", "shop/cart-1", 80, true), tcp("shop/cart-2", "shop/cart-1", 80, false), tcp("data/front", "shop/cart-1", 80, false),
		}},
		"entries are ORed without a cross product": {[]string{cart + "ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{port: 81}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 80, true), tcp("shop/front", "shop/cart-1", 81, false), tcp("data/front", "shop/cart-1", 81, true), tcp("data/front", "shop/cart-1", 80, false),
		}},
		"selectors of one peer are ANDed": {[]string{cart + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}, podSelector: {matchLabels: {app: front}}}]}]"}, []flow{
			tcp("data/front", "shop/cart-1", 1, true), tcp("shop/front", "shop/cart-1", 1, false), tcp("bare/front", "shop/cart-1", 1, false),
		}},
		"selectors of two peers are ORed": {[]string{cart + "ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}, {podSelector: {matchLabels: {app: front}}}]}]"}, []flow{
			tcp("data/front", "shop/cart-1", 1, true), tcp("shop/front", "shop/cart-1", 1, true), tcp("bare/front", "shop/cart-1", 1, false),
		}},
		"an empty selector of pods is every pod of the policy's namespace": {[]string{cart + "ingress: [{from: [{podSelector: {}}]}]"}, []flow{
			tcp("shop/cart-2", "shop/cart-1", 1, true), tcp("data/front", "shop/cart-1", 1, false), tcp("192.0.2.1", "shop/cart-1", 1, false),
		}},
		"an empty selector of namespaces is every pod, and nobody outside": {[]string{cart + "ingress: [{from: [{namespaceSelector: {}}]}]"}, []flow{
			tcp("bare/front", "shop/cart-1", 1, true), tcp("192.0.2.1", "shop/cart-1", 1, false), tcp("", "shop/cart-1", 1, false),
		}},
		"NotIn holds where the label is absent": {[]string{cart + "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [b]}]}}]}]"}, []flow{
			tcp("bare/front", "shop/cart-1", 1, true), tcp("shop/front", "shop/cart-1", 1, true), tcp("data/front", "shop/cart-1", 1, false),
		}},
		"a block knows pods by their address, its exceptions too": {[]string{cart + "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.1.0/24, 10.0.0.4/32]}}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 1, true), tcp("data/front", "shop/cart-1", 1, false), tcp("bare/front", "shop/cart-1", 1, false), tcp("10.0.9.9", "shop/cart-1", 1, true),
			tcp("192.0.2.1", "shop/cart-1", 1, false), tcp("2001:db8::1", "shop/cart-1", 1, false), tcp("", "shop/cart-1", 1, false),
		}},
		"everybody's IPv4 is nobody's IPv6": {[]string{cart + "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]"}, []flow{
			tcp("192.0.2.1", "shop/cart-1", 1, true), tcp("::ffff:192.0.2.1", "shop/cart-1", 1, true), tcp("2001:db8::1", "shop/cart-1", 1, false),
		}},
		"a port without a protocol is TCP": {[]string{cart + "ingress: [{ports: [{port: 80}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 80, true), udp("shop/front", "shop/cart-1", 80, false),
		}},
		"a protocol without a port is every port of it": {[]string{cart + "ingress: [{ports: [{protocol: UDP}]}]"}, []flow{
			udp("shop/front", "shop/cart-1", 1, true), udp("shop/front", "shop/cart-1", 65535, true), tcp("shop/front", "shop/cart-1", 1, false),
		}},
		"endPort is inclusive": {[]string{cart + "ingress: [{ports: [{port: 80, endPort: 82}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 79, false), tcp("shop/front", "shop/cart-1", 80, true), tcp("shop/front", "shop/cart-1", 82, true), tcp("shop/front", "shop/cart-1", 83, false),
		}},
		"a named port is each callee's own number, of its protocol": {[]string{cart + "ingress: [{ports: [{port: web}, {port: dns}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 8080, true), tcp("shop/front", "shop/cart-1", 9090, false), tcp("shop/front", "shop/cart-2", 9090, true),
			udp("shop/front", "shop/cart-2", 7070, false), udp("shop/front", "shop/cart-1", 5353, false),
		}},
		"in egress it is the callee's too, and nobody's outside": {[]string{"podSelector: {matchLabels: {app: front}}\npolicyTypes: [Egress]\negress: [{ports: [{port: web}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 8080, true), tcp("shop/front", "shop/cart-2", 9090, true), tcp("shop/front", "shop/cart-2", 8080, false), tcp("shop/front", "192.0.2.1", 8080, false),
			tcp("shop/front", "data/agent", 8080, false),
		}},
		"policies are a union, whatever their order": {[]string{cart, cart + "ingress: [{ports: [{port: 80}]}]", "podSelector: {}\ningress: [{ports: [{port: 81}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 80, true), tcp("shop/front", "shop/cart-1", 81, true), tcp("shop/front", "shop/cart-1", 82, false), tcp("shop/cart-1", "shop/front", 80, false),
		}},
		"both ends have their say": {[]string{cart + "ingress: [{ports: [{port: 80}]}]", "podSelector: {matchLabels: {app: front}}\npolicyTypes: [Egress]\negress: [{ports: [{port: 81}]}]"}, []flow{
			tcp("shop/front", "shop/cart-1", 80, false), tcp("shop/front", "shop/cart-1", 81, false), tcp("data/front", "shop/cart-1", 80, true), tcp("shop/front", "data/front", 81, true),
		}},
		"a pod is not cut off from itself": {[]string{"podSelector: {}\npolicyTypes: [Ingress, Egress]"}, []flow{
			tcp("shop/cart-1", "shop/cart-1", 80, true), tcp("shop/cart-1", "shop/cart-2", 80, false),
		}},
		"the host's network is not isolated and not selected": {[]string{cart + "ingress: [{from: [{namespaceSelector: {}}]}, {from: [{ipBlock: {cidr: 192.0.2.0/28}}], ports: [{port: 9}]}]"}, []flow{
			tcp("data/agent", "shop/cart-1", 80, false), tcp("data/agent", "shop/cart-1", 9, true), tcp("shop/front", "data/agent", 80, true),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ix := cluster()
			set, found := kernel.New(policies(t, c.policies...))
			if len(found) > 0 {
				t.Fatal(found)
			}
			for _, f := range c.flows {
				from, to := find(t, ix, f.from), find(t, ix, f.to)
				if got := set.Allows(from, to, f.port, f.protocol); got != f.want {
					t.Errorf("%s to %s, %s %d: passes %t, want %t", f.from, f.to, f.protocol, f.port, got, f.want)
				}
				d := set.Decide(from, to, f.port, f.protocol)
				if d.Allowed() != f.want {
					t.Errorf("%s to %s, %s %d: decided %+v, want %t", f.from, f.to, f.protocol, f.port, d, f.want)
				}
				if got := set.Ports(from, to).Contains(f.port, f.protocol); got != f.want {
					t.Errorf("%s to %s: ports %s, want %s %d among them: %t", f.from, f.to, set.Ports(from, to), f.protocol, f.port, f.want)
				}
			}
		})
	}
}

// A decision names the object and the entry that let a connection pass, or those that isolate and why none of their entries does, the nearest first.
func TestReasons(t *testing.T) {
	t.Parallel()
	ix := cluster()
	set, _ := kernel.New(policies(t,
		"podSelector: {matchLabels: {app: cart}}\ningress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: 80}, {port: web}]}, {from: [{ipBlock: {cidr: 10.0.0.4/32}}], ports: [{port: 81, endPort: 82}]}]",
		"podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {team: c}}}, {podSelector: {matchLabels: {app: x}}}]}, {from: [{namespaceSelector: {matchLabels: {team: c}}}], ports: [{protocol: SCTP, port: none}]}]",
	))
	const nearer, farther = "port TCP 9 is not in [TCP 80, TCP web (8080)]", "pod shop/front is not in 10.0.0.4/32"
	side := set.Decide(find(t, ix, "shop/front"), find(t, ix, "shop/cart-1"), 9, model.TCP).Ingress
	var names, misses []string
	for _, np := range side.Isolating {
		names = append(names, np.Name)
	}
	for _, m := range side.Misses {
		misses = append(misses, m.String()+": "+m.Reason)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names); diff != "" || side.Allowed || side.Reason != kernel.ReasonNoEntry {
		t.Errorf("side %+v, isolating (-want +got):\n%s", side, diff)
	}
	if diff := cmp.Diff([]string{
		"NetworkPolicy shop/a ingress[0]: " + nearer,
		"NetworkPolicy shop/b ingress[0]: none of its 2 peers means pod shop/front",
		"NetworkPolicy shop/a ingress[1]: " + farther,
		"NetworkPolicy shop/b ingress[1]: the labels of namespace shop do not match {team=c}",
	}, misses); diff != "" {
		t.Errorf("misses (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		from, to  string
		port      uint16
		direction networkingv1.PolicyType
		reason    kernel.Reason
		by        string
		byAddress bool
	}{
		{"shop/front", "shop/cart-1", 80, networkingv1.PolicyTypeIngress, kernel.ReasonEntry, "NetworkPolicy shop/a ingress[0]", false},
		{"data/front", "shop/cart-1", 82, networkingv1.PolicyTypeIngress, kernel.ReasonEntry, "NetworkPolicy shop/a ingress[1]", true},
		{"10.0.0.4", "shop/cart-1", 82, networkingv1.PolicyTypeIngress, kernel.ReasonEntry, "NetworkPolicy shop/a ingress[1]", true},
		{"shop/front", "shop/cart-1", 80, networkingv1.PolicyTypeEgress, kernel.ReasonNotIsolated, "", false},
		{"shop/front", "shop/front", 80, networkingv1.PolicyTypeIngress, kernel.ReasonSelf, "", false},
		{"shop/front", "data/agent", 80, networkingv1.PolicyTypeIngress, kernel.ReasonHostNetwork, "", false},
		{"shop/front", "192.0.2.1", 80, networkingv1.PolicyTypeIngress, kernel.ReasonOutside, "", false},
	} {
		d := set.Decide(find(t, ix, c.from), find(t, ix, c.to), c.port, model.TCP)
		got := d.Ingress
		if c.direction == networkingv1.PolicyTypeEgress {
			got = d.Egress
		}
		by := ""
		if got.By != nil {
			by = got.By.String()
		}
		if got.Reason != c.reason || by != c.by || !got.Allowed || got.ByAddress != c.byAddress || got.Misses != nil {
			t.Errorf("%s to %s %d: got %+v by %q", c.from, c.to, c.port, got, by)
		}
	}
}

// What no API server would store opens nothing, isolates what it might have meant, and is told.
func TestInvalidPartsFailClosed(t *testing.T) {
	t.Parallel()
	number := int32(90)
	for name, c := range map[string]struct {
		breaks func(np *networkingv1.NetworkPolicy)
		field  string
	}{
		"selector": {func(np *networkingv1.NetworkPolicy) {
			np.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Is"}}
		}, "spec.podSelector"},
		"peer's selector": {func(np *networkingv1.NetworkPolicy) { np.Spec.Ingress[0].From[0].PodSelector.MatchLabels["?"] = "" }, "spec.ingress[0].from[0].podSelector"},
		"empty peer":      {func(np *networkingv1.NetworkPolicy) { np.Spec.Ingress[0].From[0].PodSelector = nil }, "spec.ingress[0].from[0]"},
		"block beside a selector": {func(np *networkingv1.NetworkPolicy) {
			np.Spec.Ingress[0].From[0].IPBlock = &networkingv1.IPBlock{CIDR: "0.0.0.0/0"}
		}, "spec.ingress[0].from[0]"},
		"block": {func(np *networkingv1.NetworkPolicy) {
			np.Spec.Ingress[0].From[0] = networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0"}}
		}, "spec.ingress[0].from[0].ipBlock.cidr"},
		"exception": {func(np *networkingv1.NetworkPolicy) {
			np.Spec.Ingress[0].From[0] = networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"x"}}}
		}, "spec.ingress[0].from[0].ipBlock.except[0]"},
		"range backwards": {func(np *networkingv1.NetworkPolicy) { np.Spec.Ingress[0].Ports[0].EndPort = new(int32) }, "spec.ingress[0].ports[0]"},
		"port 0":          {func(np *networkingv1.NetworkPolicy) { np.Spec.Ingress[0].Ports[0].Port.IntVal = 0 }, "spec.ingress[0].ports[0]"},
		"endPort without port": {func(np *networkingv1.NetworkPolicy) {
			np.Spec.Ingress[0].Ports[0] = networkingv1.NetworkPolicyPort{EndPort: &number}
		}, "spec.ingress[0].ports[0].endPort"},
		"endPort beside a name": {func(np *networkingv1.NetworkPolicy) {
			p := &np.Spec.Ingress[0].Ports[0]
			p.EndPort, p.Port.Type, p.Port.StrVal = &number, 1, "web"
		}, "spec.ingress[0].ports[0].endPort"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ix := cluster()
			np := policies(t, "podSelector: {matchLabels: {app: cart}}\ningress: [{from: [{podSelector: {matchLabels: {app: front}}}], ports: [{port: 80}]}]")[0]
			c.breaks(np)
			set, found := kernel.New([]*networkingv1.NetworkPolicy{np})
			if len(found) != 1 || found[0].Field != c.field || found[0].Object.String() != "NetworkPolicy shop/a" || found[0].Remedy == "" {
				t.Errorf("found %v, want one about %s", found, c.field)
			}
			if c.field == "spec.podSelector" {
				if set.Allows(find(t, ix, "data/front"), find(t, ix, "shop/front"), 80, model.TCP) {
					t.Error("a pod that the selector may have meant is not isolated")
				}
				return
			}
			if got := set.Ports(find(t, ix, "shop/front"), find(t, ix, "shop/cart-1")); len(got) > 0 {
				t.Errorf("ports %s pass, want none", got)
			}
		})
	}
}

// The set operations are those of sets: a port is in the result as it is in the operands.
func TestPorts(t *testing.T) {
	t.Parallel()
	a := kernel.PortsOf(kernel.Range{Protocol: model.TCP, From: 10, To: 20}, kernel.Range{Protocol: model.TCP, From: 21, To: 30}, kernel.Range{Protocol: model.UDP, From: 5, To: 5})
	b := kernel.PortsOf(kernel.Range{Protocol: model.TCP, From: 15, To: 16}, kernel.Range{Protocol: model.TCP, From: 30, To: 65535}, kernel.Range{Protocol: model.SCTP, From: 1, To: 65535})
	if a.String() != "TCP 10-30, UDP 5" || b.String() != "SCTP, TCP 15-16, TCP 30-65535" || kernel.Ports(nil).String() != "none" {
		t.Errorf("got %q and %q", a, b)
	}
	for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
		for port := 1; port <= 65535; port++ {
			n := uint16(port)
			inA, inB := a.Contains(n, protocol), b.Contains(n, protocol)
			if a.Union(b).Contains(n, protocol) != (inA || inB) || a.Intersect(b).Contains(n, protocol) != (inA && inB) || a.Minus(b).Contains(n, protocol) != (inA && !inB) {
				t.Fatalf("%s %d is wrong", protocol, port)
			}
		}
	}
	if got := kernel.EveryPort().Minus(a).Union(a).String(); got != kernel.EveryPort().String() {
		t.Errorf("got %s", got)
	}
	if got := a.Of(model.UDP).String(); got != "UDP 5" {
		t.Errorf("got %s", got)
	}
}
