package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Policy is a NetworkPolicy whose selectors and addresses are parsed. Read-only; safe for concurrent use.
type Policy struct {
	object          *networkingv1.NetworkPolicy
	namespace       string
	pods            labels.Selector
	ingress, egress bool // the directions that it governs
	entries         map[networkingv1.PolicyType][]entry
}

// Namespace is the namespace of the pods that it selects.
func (p *Policy) Namespace() string { return p.namespace }

// Governs says whether the policy isolates the pods that it selects in a direction.
func (p *Policy) Governs(d networkingv1.PolicyType) bool {
	return d == networkingv1.PolicyTypeIngress && p.ingress || d == networkingv1.PolicyTypeEgress && p.egress
}

// entry matches when a peer and a port do. An empty list of either, written or not, means any.
type entry struct {
	anybody, everywhere bool
	peers               []peer
	ports               []port
}

// peer is a block, or pods: of the policy's namespace where namespaces is nil, every pod of the namespaces where pods is nil.
type peer struct {
	block            *block
	namespaces, pods labels.Selector
}

type block struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

// port is a range, or a name that the callee's containers give numbers.
type port struct {
	Range
	name string
}

// reader collects what is wrong with one object.
type reader struct {
	object *networkingv1.NetworkPolicy
	found  []model.Diagnostic
}

func (r *reader) problem(field, consequence, remedy string) {
	r.found = append(r.found, model.Diagnostic{
		Code: "network-policy-invalid", Severity: model.SeverityError, Field: field, Consequence: consequence, Remedy: remedy,
		Object: model.ObjectRef{Kind: "NetworkPolicy", Namespace: r.object.Namespace, Name: r.object.Name},
	})
}

// Selects says whether the policy selects a pod of its namespace.
func (p *Policy) Selects(namespace string, set labels.Set) bool {
	return p.namespace == namespace && p.pods.Matches(set)
}

// Read parses a NetworkPolicy. Without policyTypes it governs ingress, and egress where it has egress entries.
func Read(np *networkingv1.NetworkPolicy) (*Policy, []model.Diagnostic) {
	r := &reader{object: np}
	p := &Policy{object: np, namespace: np.Namespace, entries: map[networkingv1.PolicyType][]entry{}}
	if p.namespace == "" {
		p.namespace = metav1.NamespaceDefault
	}
	var understood bool
	if p.pods, understood = r.selector("spec.podSelector", &np.Spec.PodSelector); !understood {
		p.pods = labels.Everything()
	}
	p.ingress, p.egress = len(np.Spec.PolicyTypes) == 0, len(np.Spec.PolicyTypes) == 0 && len(np.Spec.Egress) > 0
	for _, t := range np.Spec.PolicyTypes {
		p.ingress = p.ingress || t == networkingv1.PolicyTypeIngress
		p.egress = p.egress || t == networkingv1.PolicyTypeEgress
	}
	for i, e := range np.Spec.Ingress {
		field := fmt.Sprintf("spec.ingress[%d]", i)
		p.entries[networkingv1.PolicyTypeIngress] = append(p.entries[networkingv1.PolicyTypeIngress], r.entry(field, "from", e.From, e.Ports))
	}
	for i, e := range np.Spec.Egress {
		field := fmt.Sprintf("spec.egress[%d]", i)
		p.entries[networkingv1.PolicyTypeEgress] = append(p.entries[networkingv1.PolicyTypeEgress], r.entry(field, "to", e.To, e.Ports))
	}
	return p, r.found
}

func (r *reader) selector(field string, s *metav1.LabelSelector) (labels.Selector, bool) {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		r.problem(field, "the selector is not understood: "+err.Error(), "correct the selector")
		return labels.Nothing(), false
	}
	return parsed, true
}

func (r *reader) entry(field, peersName string, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) entry {
	e := entry{anybody: len(peers) == 0, everywhere: len(ports) == 0}
	for i := range peers {
		if p, understood := r.peer(fmt.Sprintf("%s.%s[%d]", field, peersName, i), &peers[i]); understood {
			e.peers = append(e.peers, p)
		}
	}
	for i := range ports {
		if p, understood := r.port(fmt.Sprintf("%s.ports[%d]", field, i), &ports[i]); understood {
			e.ports = append(e.ports, p)
		}
	}
	return e
}

func (r *reader) peer(field string, in *networkingv1.NetworkPolicyPeer) (peer, bool) {
	if in.IPBlock != nil {
		if in.PodSelector != nil || in.NamespaceSelector != nil {
			r.problem(field, "a block of addresses stands beside a selector: the peer matches nobody", "write two peers")
			return peer{}, false
		}
		b, understood := r.block(field+".ipBlock", in.IPBlock)
		return peer{block: b}, understood
	}
	if in.PodSelector == nil && in.NamespaceSelector == nil {
		r.problem(field, "the peer is empty: it matches nobody", "write a selector or a block; {podSelector: {}} means every pod of the namespace")
		return peer{}, false
	}
	var out peer
	understood := true
	if in.NamespaceSelector != nil {
		out.namespaces, understood = r.selector(field+".namespaceSelector", in.NamespaceSelector)
	}
	if in.PodSelector != nil {
		var pods bool
		out.pods, pods = r.selector(field+".podSelector", in.PodSelector)
		understood = understood && pods
	}
	return out, understood
}

func (r *reader) block(field string, in *networkingv1.IPBlock) (*block, bool) {
	const remedy = "write a block such as 10.0.0.0/8"
	cidr, err := netip.ParsePrefix(in.CIDR)
	if err != nil {
		r.problem(field+".cidr", "the block is not understood, so the peer matches nobody: "+err.Error(), remedy)
		return nil, false
	}
	out := &block{cidr: cidr.Masked()}
	for i, text := range in.Except {
		x, err := netip.ParsePrefix(text)
		if err != nil {
			r.problem(fmt.Sprintf("%s.except[%d]", field, i), "the exception is not understood, so the peer matches nobody: "+err.Error(), remedy)
			return nil, false
		}
		out.except = append(out.except, x.Masked())
	}
	return out, true
}

func (r *reader) port(field string, in *networkingv1.NetworkPolicyPort) (port, bool) {
	p := port{Range: Range{Protocol: model.TCP, From: firstPort, To: lastPort}}
	if in.Protocol != nil {
		p.Protocol = model.Protocol(*in.Protocol)
	}
	if in.Port == nil {
		if in.EndPort != nil {
			r.problem(field+".endPort", "endPort stands without a port: the entry matches no port by it", "write port, too")
		}
		return p, in.EndPort == nil
	}
	if in.Port.Type == intstr.String {
		if in.EndPort != nil {
			r.problem(field+".endPort", "endPort stands beside a port's name: the entry matches no port by it", "write the port's number")
		}
		p.name = in.Port.StrVal
		return p, in.EndPort == nil
	}
	from, to := in.Port.IntVal, in.Port.IntVal
	if in.EndPort != nil {
		to = *in.EndPort
	}
	if from < int32(firstPort) || to > int32(lastPort) || from > to {
		r.problem(field, fmt.Sprintf("%d to %d is no range of ports: the entry matches no port by it", from, to), "write numbers from 1 to 65535, endPort not below port")
		return p, false
	}
	p.From, p.To = uint16(from), uint16(to)
	return p, true
}

// peersMatch says whether the entry means an end.
func (e *entry) peersMatch(namespace string, other End) bool {
	return e.anybody || slices.ContainsFunc(e.peers, func(p peer) bool { return p.matches(namespace, other) })
}

// matches: the selectors of one peer are ANDed, and without a selector of namespaces the peer stays in the policy's own.
func (p peer) matches(namespace string, other End) bool {
	if p.block != nil {
		return p.block.contains(other.Address)
	}
	if !other.selectable() {
		return false
	}
	if p.namespaces == nil && other.Pod.Namespace != namespace {
		return false
	}
	if p.namespaces != nil && !p.namespaces.Matches(other.NamespaceLabels) {
		return false
	}
	return p.pods == nil || p.pods.Matches(labels.Set(other.Pod.Labels))
}

func (b *block) contains(a netip.Addr) bool {
	a = a.Unmap()
	return b.cidr.Contains(a) && !slices.ContainsFunc(b.except, func(x netip.Prefix) bool { return x.Contains(a) })
}

// portsMatch says whether the entry means a port of the callee.
func (e *entry) portsMatch(callee End, number uint16, protocol model.Protocol) bool {
	return e.everywhere || slices.ContainsFunc(e.ports, func(p port) bool {
		if p.Protocol != protocol {
			return false
		}
		if p.name == "" {
			return p.From <= number && number <= p.To
		}
		return slices.Contains(p.numbers(callee), number)
	})
}

// numbers are those that the callee's containers give a name. Somebody outside gives it none, and neither does a pod on the host's network.
func (p port) numbers(callee End) []uint16 {
	if !callee.selectable() {
		return nil
	}
	var out []uint16
	for _, c := range callee.Pod.Ports {
		if c.Name == p.name && c.Protocol == p.Protocol {
			out = append(out, c.Number)
		}
	}
	return out
}

// allowed are the entry's ports of the callee.
func (e *entry) allowed(callee End) []Range {
	if e.everywhere {
		return EveryPort()
	}
	var out []Range
	for _, p := range e.ports {
		if p.name == "" {
			out = append(out, p.Range)
			continue
		}
		for _, n := range p.numbers(callee) {
			out = append(out, Range{p.Protocol, n, n})
		}
	}
	return out
}

// opens says whether the entry means any of some ports of the callee.
func (e *entry) opens(callee End, ports Ports) bool {
	return slices.ContainsFunc(e.allowed(callee), func(a Range) bool {
		return slices.ContainsFunc(ports, func(b Range) bool { return a.Protocol == b.Protocol && a.From <= b.To && b.From <= a.To })
	})
}

func (p port) String() string {
	if p.name == "" {
		return p.Range.String()
	}
	return string(p.Protocol) + " " + p.name
}

func (e *entry) portsMissed(callee End, number uint16, protocol model.Protocol) string {
	if len(e.ports) == 0 {
		return "it lists no port that can be understood"
	}
	words := make([]string, 0, len(e.ports))
	for _, p := range e.ports {
		word := p.String()
		if p.name != "" {
			if numbers := p.numbers(callee); len(numbers) > 0 {
				word += fmt.Sprintf(" (%d)", numbers[0])
			} else {
				word += " (no container has it)"
			}
		}
		words = append(words, word)
	}
	return "port " + Range{protocol, number, number}.String() + " is not in [" + strings.Join(words, ", ") + "]"
}

// peersMissed says who is not meant, and by the one peer that there is, why not.
func (e *entry) peersMissed(namespace string, other End) string {
	who := other.String()
	if len(e.peers) != 1 {
		return fmt.Sprintf("none of its %d peers means %s", len(e.peers), who)
	}
	p := e.peers[0]
	switch {
	case p.block != nil && !other.Address.IsValid():
		return who + " has no address that is known, and the peer is " + p.block.String()
	case p.block != nil:
		return who + " is not in " + p.block.String()
	case other.Pod == nil:
		return who + " is no pod"
	case other.Pod.HostNetwork:
		return who + " is on the host's network, where selectors mean nobody"
	case p.namespaces == nil && other.Pod.Namespace != namespace:
		return who + " is not in namespace " + namespace
	case p.namespaces != nil && !p.namespaces.Matches(other.NamespaceLabels):
		return "the labels of namespace " + other.Pod.Namespace + " do not match " + quoted(p.namespaces)
	case p.pods != nil:
		return "the labels of " + who + " do not match " + quoted(p.pods)
	}
	return who + " is not meant"
}

func quoted(s labels.Selector) string { return "{" + s.String() + "}" }

func (b *block) String() string {
	words := make([]string, 0, len(b.except))
	for _, x := range b.except {
		words = append(words, x.String())
	}
	if len(words) == 0 {
		return b.cidr.String()
	}
	return b.cidr.String() + " without " + strings.Join(words, ", ")
}

// String is "pod NAMESPACE/NAME", an address, or "an unknown caller".
func (e End) String() string {
	switch {
	case e.Pod != nil:
		return "pod " + e.Pod.Namespace + "/" + e.Pod.Name
	case e.Address.IsValid():
		return "address " + e.Address.String()
	}
	return "an unknown caller"
}
