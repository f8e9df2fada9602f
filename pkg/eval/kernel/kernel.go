// Package kernel decides what NetworkPolicies mean, as the Kubernetes API defines them and as the node's kernel enforces them outside the pod: those that pilot-lite made and
// those that it did not, together. Input: NetworkPolicies and the two ends of a connection. Output: whether it passes with the object and entry that let it through, or the
// objects that isolate and why none of them does; and all the ports that pass between two ends. It shares no code with the translator. Pure. One entry point: New.
//
// What the API leaves to network plugins is decided so:
//   - A block of addresses means the pods that have an address in it, too. Some plugins never match a pod by address; Side.ByAddress tells where that mattered.
//   - Pods on the host's network are no pods here: nothing isolates them, and selectors do not mean them.
//   - Traffic between a pod and its own node, which passes whatever the policies say, cannot be told from other addresses' and is not let through.
package kernel

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// End is one end of a connection: a pod, or an address outside.
type End struct {
	Pod             *model.Pod // nil: no pod
	NamespaceLabels labels.Set // of the pod's namespace
	Address         netip.Addr // the address that this connection uses; invalid where it is not known, and then in no block
}

// PodEnd is a pod, with the first of its addresses.
func PodEnd(ix *model.Index, p *model.Pod) End {
	e := End{Pod: p, NamespaceLabels: ix.NamespaceLabels(p.Namespace)}
	if len(p.Addresses) > 0 {
		e.Address = p.Addresses[0]
	}
	return e
}

// selectable says whether selectors and isolation concern this end.
func (e End) selectable() bool { return e.Pod != nil && !e.Pod.HostNetwork }

// Set holds NetworkPolicies, ready to be asked. Read-only after New; safe for concurrent use.
type Set struct {
	byNamespace map[string][]*Policy
}

// New reads NetworkPolicies. What the API server would have refused is found and fails closed: a selector of pods that is not understood selects every pod of its
// namespace, and an entry's peer or port that is not understood matches nothing.
func New(policies []*networkingv1.NetworkPolicy) (*Set, []model.Diagnostic) {
	s := &Set{byNamespace: map[string][]*Policy{}}
	var found []model.Diagnostic
	for _, np := range policies {
		p, problems := Read(np)
		s.byNamespace[p.namespace] = append(s.byNamespace[p.namespace], p)
		found = append(found, problems...)
	}
	for _, list := range s.byNamespace {
		slices.SortStableFunc(list, func(a, b *Policy) int { return cmp.Compare(a.object.Name, b.object.Name) })
	}
	return s, found
}

// Reason says why a side decided as it did.
type Reason string

// Reasons.
const (
	ReasonEntry       Reason = "entry"        // By lets it pass
	ReasonNoEntry     Reason = "no-entry"     // isolated, and no entry of Isolating lets it pass
	ReasonNotIsolated Reason = "not-isolated" // no policy isolates the pod in this direction
	ReasonSelf        Reason = "self"         // a pod is never cut off from itself
	ReasonHostNetwork Reason = "host-network" // NetworkPolicies do not hold for pods on the host's network
	ReasonOutside     Reason = "outside"      // no pod: nobody isolates it
)

// Side is what the policies of one end make of a connection.
type Side struct {
	Direction networkingv1.PolicyType
	Allowed   bool
	Reason    Reason
	Isolating []*networkingv1.NetworkPolicy // that isolate this end in the direction, by name
	By        *Entry                        // ReasonEntry only
	ByAddress bool                          // By knows a pod by a block of addresses, which some network plugins never match with pods
	Misses    []Miss                        // ReasonNoEntry only: every entry of Isolating, the nearest first
}

// Entry is an entry of a NetworkPolicy's ingress or egress.
type Entry struct {
	Policy    *networkingv1.NetworkPolicy
	Direction networkingv1.PolicyType
	Index     int
}

// String is "NetworkPolicy NAMESPACE/NAME ingress[0]".
func (e Entry) String() string {
	return "NetworkPolicy " + e.Policy.Namespace + "/" + e.Policy.Name + " " + strings.ToLower(string(e.Direction)) + "[" + itoa(e.Index) + "]"
}

// Term is a part of an entry.
type Term string

// Terms.
const (
	TermPeers Term = "peers"
	TermPorts Term = "ports"
)

// Miss is an entry that does not let a connection pass, and its first term that fails.
type Miss struct {
	Entry
	Failing int // how many of its terms fail
	Term    Term
	Reason  string // in words, such as "port TCP 8080 is not in [TCP 80]"
}

// Allows says whether a connection passes.
func (s *Set) Allows(from, to End, port uint16, protocol model.Protocol) bool {
	return s.Governing(networkingv1.PolicyTypeEgress, from).Allows(to, port, protocol) && s.Governing(networkingv1.PolicyTypeIngress, to).Allows(from, port, protocol)
}
