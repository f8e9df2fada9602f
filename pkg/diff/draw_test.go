package diff_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const nameLabel = "kubernetes.io/metadata.name"

// world is two namespaces with a few pods, and no policies.
func world() *model.Snapshot {
	s := &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{nameLabel: "shop", "team": "a"}}, {Name: "web", Labels: map[string]string{nameLabel: "web"}}},
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "a"}, Ports: []model.ServicePort{
			{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 80},
		}}},
	}
	add := func(namespace, name, address string, set map[string]string) {
		p := &model.Pod{Namespace: namespace, Name: name, Owner: name, Labels: set, Ports: []model.ContainerPort{
			{Name: "web", Number: 80, Protocol: model.TCP}, {Name: "db", Number: 90, Protocol: model.TCP}, {Name: "dns", Number: 53, Protocol: model.UDP},
		}}
		if address != "" {
			p.Addresses = []netip.Addr{netip.MustParseAddr(address)}
		}
		s.Pods = append(s.Pods, p)
	}
	add("shop", "cart", "10.0.0.1", map[string]string{"app": "a"})
	add("shop", "cart-one", "10.0.1.1", map[string]string{"app": "a", "tier": "1"})
	add("shop", "store", "10.0.0.2", map[string]string{"app": "b", "tier": "2", v1alpha1.LabelServiceAccount: "x", v1alpha1.LabelProxy: v1alpha1.ProxyInjected})
	add("web", "front", "10.0.0.3", map[string]string{"app": "a", v1alpha1.LabelServiceAccount: "x"})
	add("web", "plain", "", map[string]string{})
	add("shop", "node", "", map[string]string{"app": "b"})
	s.Pods[len(s.Pods)-1].HostNetwork = true
	s.Pods[2].Ports[1].Number = 91 // db is another number here
	return s
}

// drawWorld draws policies and NetworkPolicies for the world.
func drawWorld(t *rapid.T) *model.Snapshot {
	s := world()
	for i := range rapid.IntRange(0, 3).Draw(t, "policies") {
		s.Policies = append(s.Policies, drawPolicy(t, fmt.Sprint("p", i)))
	}
	for i := range rapid.IntRange(0, 1).Draw(t, "networkPolicies") {
		s.NetworkPolicies = append(s.NetworkPolicies, drawNetworkPolicy(t, fmt.Sprint("n", i)))
	}
	sortPolicies(s)
	return s
}

// sortPolicies: a snapshot's lists are sorted.
func sortPolicies(s *model.Snapshot) {
	slices.SortStableFunc(s.Policies, func(a, b *model.Policy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// drawEdit draws what became of a world.
func drawEdit(t *rapid.T, s *model.Snapshot) *model.Snapshot {
	next := *s
	next.Policies = nil
	for _, was := range s.Policies {
		p := *was
		switch rapid.IntRange(0, 6).Draw(t, "edit") {
		case 0: // deleted
		case 1:
			next.Policies = append(next.Policies, drawPolicy(t, p.Name))
		case 2: // one rule alone
			p.Ingress = append(slices.Clone(p.Ingress), drawRule(t, "new", p.IsolatesIngress))
			next.Policies = append(next.Policies, &p)
		case 3:
			p.DryRun = !p.DryRun
			next.Policies = append(next.Policies, &p)
		case 4:
			p.Ingress = p.Ingress[:len(p.Ingress)/2]
			next.Policies = append(next.Policies, &p)
		default:
			next.Policies = append(next.Policies, was)
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "another") == 0 {
		next.Policies = append(next.Policies, drawPolicy(t, "q"))
	}
	switch rapid.IntRange(0, 11).Draw(t, "besides") {
	case 0:
		next.NetworkPolicies = nil
	case 5: // a port's name is another's, or has another number
		p := anotherPod(&next, rapid.IntRange(0, 4).Draw(t, "pod"))
		p.Ports = slices.Clone(p.Ports)
		p.Ports[rapid.IntRange(0, 2).Draw(t, "port")] = rapid.SampledFrom([]model.ContainerPort{
			{Name: "db", Number: 92, Protocol: model.TCP}, {Name: "web", Number: 90, Protocol: model.TCP}, {Name: "dns", Number: 54, Protocol: model.UDP}, {Name: "x", Number: 90, Protocol: model.TCP},
		}).Draw(t, "containerPort")
	case 6: // edited
		next.NetworkPolicies = []*networkingv1.NetworkPolicy{drawNetworkPolicy(t, "n0")}
	case 1:
		next.NetworkPolicies = append(slices.Clone(s.NetworkPolicies), drawNetworkPolicy(t, "m"))
	case 2: // a pod is labelled anew
		anotherPod(&next, rapid.IntRange(0, 3).Draw(t, "pod")).Labels = map[string]string{"app": "b", "tier": rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "tier")}
	case 3: // a namespace is labelled anew
		next.Namespaces = []model.Namespace{{Name: "shop", Labels: map[string]string{nameLabel: "shop"}}, {Name: "web", Labels: map[string]string{nameLabel: "web", "team": "a"}}}
	case 4: // a port speaks otherwise
		next.Services = []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")}, Ports: []model.ServicePort{
			{Name: rapid.SampledFrom([]string{"http", "tcp"}).Draw(t, "speaks"), Protocol: model.TCP, Port: 80, TargetPort: rapid.SampledFrom([]uint16{80, 90}).Draw(t, "target")},
		}}}
	}
	sortPolicies(&next)
	return &next
}

func drawPolicy(t *rapid.T, name string) *model.Policy {
	p := &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: rapid.SampledFrom([]string{"shop", "shop", "shop", "web"}).Draw(t, "namespace"), Name: name},
		Selector:  drawSelector(t), Action: rapid.SampledFrom([]model.Action{model.Allow, model.Allow, model.Deny}).Draw(t, "action"),
		DryRun: rapid.IntRange(0, 9).Draw(t, "dryRun") == 0, Accepted: true,
	}
	p.IsolatesIngress = rapid.IntRange(0, 4).Draw(t, "ingress") > 0
	p.IsolatesEgress = !p.IsolatesIngress || rapid.IntRange(0, 3).Draw(t, "both") == 0
	for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
		if p.IsolatesIngress {
			p.Ingress = append(p.Ingress, drawRule(t, strconv.Itoa(i), true))
		}
		if p.IsolatesEgress {
			p.Egress = append(p.Egress, drawRule(t, strconv.Itoa(i), false))
		}
	}
	return p
}

func drawSelector(t *rapid.T) labels.Selector {
	out, err := labels.Parse(rapid.SampledFrom([]string{"", "app=a", "app=b", "app in (a,b)", "app notin (a)", "tier", "!tier", "app=a,tier=1", "app,tier!=2", "app=c"}).Draw(t, "selector"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func drawRule(t *rapid.T, name string, http bool) model.Rule {
	r := model.Rule{Name: name}
	if http && rapid.IntRange(0, 3).Draw(t, "http") > 0 {
		r.HTTP = rapid.SliceOfN(rapid.Custom(drawMatch), 1, 2).Draw(t, "matches")
	}
	if rapid.IntRange(0, 3).Draw(t, "hasPeers") > 0 {
		r.Peers = rapid.SliceOfN(rapid.Custom(drawPeer), 1, 2).Draw(t, "peers")
	}
	if rapid.Bool().Draw(t, "hasPorts") {
		ranges := []model.PortRange{
			{Protocol: model.TCP, From: 80, To: 80},
			{Protocol: model.TCP, From: 80, To: 90},
			{Protocol: model.TCP, From: 85, To: 100},
			{Protocol: model.TCP},
			{Protocol: model.UDP, From: 53, To: 53},
			{Protocol: model.TCP, From: 14000, To: 15050},
		}
		if http {
			ranges = append(ranges, model.PortRange{Protocol: model.TCP, Name: "db"}, model.PortRange{Protocol: model.TCP, Name: "none"})
		}
		r.Ports = rapid.SliceOfN(rapid.SampledFrom(ranges), 1, 2).Draw(t, "ports")
	}
	return r
}

func drawMatch(t *rapid.T) model.HTTPMatch {
	return rapid.SampledFrom([]model.HTTPMatch{
		{},
		{Methods: []string{"GET"}},
		{Methods: []string{"GET", "POST"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: "/a"}}},
		{Paths: []model.PathMatch{{Type: model.Prefix, Value: "/a"}}},
		{Paths: []model.PathMatch{{Type: model.Exact, Value: "/a"}}},
		{Paths: []model.PathMatch{{Type: model.Prefix, Value: "/"}}},
		{Paths: []model.PathMatch{{Type: model.Regex, Value: "/[ab]+"}}},
		{Paths: []model.PathMatch{{Type: model.Regex, Value: "/(a|b)(a|b)*"}}}, // the same
		{Hosts: []model.Host{{Name: "cart", Aliases: []string{"cart.shop"}}}},
		{Hosts: []model.Host{{Name: "shop", Wildcard: true}}},
		{Headers: []model.HeaderMatch{{Name: "x", Type: model.Present}}},
		{Headers: []model.HeaderMatch{{Name: "x", Type: model.Exact, Value: "1"}}},
		{Headers: []model.HeaderMatch{{Name: "x", Type: model.NotExact, Value: "1"}}},
		{Methods: []string{"GET"}, Headers: []model.HeaderMatch{{Name: "x", Type: model.Absent}}},
	}).Draw(t, "match")
}

func drawPeer(t *rapid.T) model.Peer {
	switch rapid.IntRange(0, 5).Draw(t, "peer") {
	case 0, 1:
		return model.Peer{Pods: drawSelector(t)}
	case 2:
		return model.Peer{Namespaces: labels.SelectorFromSet(labels.Set{"team": "a"}), Pods: drawSelector(t)}
	case 3:
		return model.Peer{Namespaces: drawNamespaces(t)}
	case 4:
		return model.Peer{Namespaces: labels.Everything(), ServiceAccounts: []string{rapid.SampledFrom([]string{"x", "y"}).Draw(t, "account")}}
	}
	b := &model.IPBlock{CIDR: netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.0/24", "10.0.0.0/16", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32", "10.0.0.2/32"}).Draw(t, "cidr"))}
	if b.CIDR.Bits() == 24 && rapid.Bool().Draw(t, "except") {
		b.Except = []netip.Prefix{netip.MustParsePrefix(rapid.SampledFrom([]string{"203.0.113.192/26", "10.0.0.2/31"}).Draw(t, "excepted"))}
	}
	return model.Peer{Block: b}
}

func drawNamespaces(t *rapid.T) labels.Selector {
	out, err := labels.Parse(rapid.SampledFrom([]string{"", "team", "!team", "team=a", "team notin (a)", nameLabel + "=web", nameLabel + "=later", nameLabel + "!=web,team!=b"}).Draw(t, "namespaces"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// drawNetworkPolicy draws one that pilot-lite did not make: with named ports, and all that may be left out.
func drawNetworkPolicy(t *rapid.T, name string) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: rapid.SampledFrom([]string{"shop", "web"}).Draw(t, "namespace"), Name: name}}
	np.Spec.PodSelector = rapid.SampledFrom([]metav1.LabelSelector{{}, {MatchLabels: map[string]string{"app": "a"}}, {MatchLabels: map[string]string{"app": "b"}}}).Draw(t, "pods")
	np.Spec.PolicyTypes = rapid.SampledFrom([][]networkingv1.PolicyType{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "types")
	for range rapid.IntRange(0, 2).Draw(t, "in") {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawNetworkPeers(t), Ports: drawNetworkPorts(t)})
	}
	for range rapid.IntRange(0, 2).Draw(t, "out") {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawNetworkPeers(t), Ports: drawNetworkPorts(t)})
	}
	return np
}

func drawNetworkPeers(t *rapid.T) []networkingv1.NetworkPolicyPeer {
	set := func(k, v string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{k: v}}
	}
	return rapid.SliceOfN(rapid.SampledFrom([]networkingv1.NetworkPolicyPeer{
		{PodSelector: set("app", "a")},
		{PodSelector: set("tier", "1")},
		{NamespaceSelector: set("team", "a"), PodSelector: set("app", "b")},
		{NamespaceSelector: &metav1.LabelSelector{}},
		{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/16", Except: []string{"10.0.1.0/24"}}},
		{IPBlock: &networkingv1.IPBlock{CIDR: "203.0.113.0/24"}},
		{PodSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpDoesNotExist}}}},
	}), 0, 2).Draw(t, "peers")
}

func drawNetworkPorts(t *rapid.T) []networkingv1.NetworkPolicyPort {
	udp, tcp := corev1.ProtocolUDP, corev1.ProtocolTCP
	number := func(n int32) *intstr.IntOrString { v := intstr.FromInt32(n); return &v }
	name := func(s string) *intstr.IntOrString { v := intstr.FromString(s); return &v }
	end := int32(90)
	return rapid.SliceOfN(rapid.SampledFrom([]networkingv1.NetworkPolicyPort{
		{Port: number(80)}, {Protocol: &tcp, Port: number(80), EndPort: &end}, {Protocol: &udp}, {Port: name("db")}, {Protocol: &udp, Port: name("dns")}, {Protocol: &tcp, Port: name("none")},
	}), 0, 2).Draw(t, "ports")
}

// anotherPod puts a copy in the place of a pod, to be changed.
func anotherPod(s *model.Snapshot, i int) *model.Pod {
	p := *s.Pods[i]
	s.Pods = slices.Clone(s.Pods)
	s.Pods[i] = &p
	return &p
}
