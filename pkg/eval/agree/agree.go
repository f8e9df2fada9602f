// Package agree says whether the two layers agree: whatever the sidecars allow, the NetworkPolicies let pass, those that pilot-lite did not make included; and where the
// NetworkPolicies let pass what no sidecar ever allows, it lists exactly that. Input: a model.Index and the companions. Output: a Report, by workload and by policy. It
// shares no code with the translator. Pure. One entry point: Checker.Check.
package agree

import (
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Companion is a NetworkPolicy that stands, or should, for a policy. Those of DryRun policies do not count and are not to be given.
type Companion struct {
	Policy        model.PolicyRef
	NetworkPolicy *networkingv1.NetworkPolicy
}

// Checker checks one snapshot after another, and keeps what it found for a workload while everything that it was found from is the same: an edit costs what it touches.
// The zero value is ready. Not safe for concurrent use; what it returns is.
type Checker struct{}

// Check compares the layers. The snapshot's NetworkPolicies count beside the companions.
func (x *Checker) Check(ix *model.Index, companions []Companion) *Report { return &Report{} }

// State says what is known of one policy.
type State string

// States.
const (
	Agrees       State = "Agrees"
	Disagrees    State = "Disagrees"
	NotEvaluated State = "NotEvaluated"
)

// Report is what was found about one snapshot. Read-only; safe for concurrent use.
type Report struct {
	Workloads []*Workload // governed in ingress by an enforced policy; sorted by key
}

// Policy says whether the layers agree about the workloads that a policy governs.
func (r *Report) Policy(ref model.PolicyRef) Agreement { return Agreement{} }

// Of is what was found about a workload, by its key; nil where no enforced policy governs its ingress.
func (r *Report) Of(key string) *Workload { return nil }

// Agreement is what a policy's status tells.
type Agreement struct {
	State  State
	Reason string // one word: Agrees, Shut, DryRun, NothingSelected
	Text   string // one sentence; where the layers disagree: who, which port, by which NetworkPolicy, and what to do
	Shut   []Shut // by rules of the policy
	Wider  []Wider
}

// Workload is what was found about one callee.
type Workload struct {
	Key, Namespace, Name string
	Policies             []model.PolicyRef // those that are enforced and govern it
	Shut                 []Shut            // errors: a sidecar allows it, and a NetworkPolicy shuts it
	Wider                []Wider           // a NetworkPolicy lets it pass, and no policy ever allows it
	Access               []Access          // all callers, in groups that nothing tells apart: who gets how far
}

// Side says whose NetworkPolicies are meant.
type Side string

// Sides.
const (
	CalleeIngress Side = "ingress"
	CallerEgress  Side = "egress"
)

// Shut is what a sidecar allows and a NetworkPolicy shuts.
type Shut struct {
	Callers  Callers
	Ports    kernel.Ports
	Rules    []string // that allow it, NAMESPACE/POLICY/RULE; none where nothing isolates the workload at L7
	Policies []model.PolicyRef
	Side     Side
	By       []string           // the NetworkPolicies that isolate and do not let it pass, "NAMESPACE/NAME"
	Request  *model.HTTPRequest // one that the sidecar allows; nil for bytes
	// Deliberate says that it is no error: the caller's own egress policies shut it, or a NetworkPolicy shuts what no rule of ours names.
	Deliberate bool
}

// Wider is what a NetworkPolicy lets pass and no policy ever allows.
type Wider struct {
	Callers  Callers
	Ports    kernel.Ports
	By       []string // entries that let it pass, "NetworkPolicy NAMESPACE/NAME ingress[0]"; none where nothing isolates
	Plumbing bool     // it is opened on purpose, for those who read metrics
}

// Access is how far a group of callers gets.
type Access struct {
	Callers Callers
	L4      kernel.Ports // what NetworkPolicies let pass
	L7      kernel.Ports // TCP ports where a sidecar allows something, or would, if the callee has none
	Partly  kernel.Ports // those of L7 where requests decide: some are allowed, and some are not
}

// Callers are a group of callers that no rule and no NetworkPolicy tells apart.
type Callers struct {
	Workloads []Caller     // by name
	Addresses netip.Prefix // those of the workloads' addresses that lie in it, where that matters; valid and without workloads: anybody else in it
	Except    []netip.Prefix
}

// Caller names a workload that calls.
type Caller struct{ Key, Namespace, Name string }

// Others says whether the group is everybody, in or outside of the cluster, whom no peer names, as far as addresses tell.
func (c Callers) Others() bool { return len(c.Workloads) == 0 }
