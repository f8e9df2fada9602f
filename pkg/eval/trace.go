package eval

import (
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Call is one attempt to reach somebody.
type Call struct {
	From, To Party
	Port     uint16 // the port that policies name: the application's own
	Protocol model.Protocol
	HTTP     *model.HTTPRequest // as the callee's sidecar sees it; nil: bytes
}

// StepName names a step of the way.
type StepName string

// The steps of the way, in their order.
const (
	StepEgress  StepName = "egress"  // the caller's own policies at L3/4
	StepIngress StepName = "ingress" // the callee's policies at L3/4
	StepCapture StepName = "capture" // whether the callee's sidecar sees the call at all
	StepL7      StepName = "l7"      // the callee's sidecar
)

// Outcomes of steps that no rule decides, beside those of model.
const (
	OutcomeSelf        = "self"         // a pod is never cut off from itself
	OutcomeHostNetwork = "host-network" // NetworkPolicies do not hold for pods on the host's network
	OutcomeOutside     = "outside"      // no pod: nothing of ours stands before it
	OutcomePlumbing    = "plumbing"     // what an isolated pod needs to live: names, the control plane, its metrics' readers
	OutcomeNotDenied   = "not-denied"   // what Denies of a pod that no Allow isolates leave open at L3/4
	OutcomeCaptured    = "captured"     // the sidecar sees the call
	OutcomeNoSidecar   = "no-sidecar"   // the callee carries none
	OutcomeExcluded    = "excluded"     // the pod leaves the port out of the capture
	OutcomeNotBound    = "not-bound"    // the sidecar listens on sockets of its own, and on none for the port
	OutcomeNotTCP      = "not-tcp"      // sidecars see TCP alone
)

// Trace is a verdict with the way there.
type Trace struct {
	Call
	// Verdict is that of the first step that refuses; where none does, of the sidecar, or, where no sidecar has a say, of the callee's ingress.
	Verdict model.Verdict
	Steps   []Step // all four, in their order
}

// Step finds a step by its name.
func (t *Trace) Step(name StepName) *Step {
	for i := range t.Steps {
		if t.Steps[i].Name == name {
			return &t.Steps[i]
		}
	}
	return nil
}

// Step is what one part of the way makes of a call.
type Step struct {
	Name StepName
	// Applies says whether the step has a say. Where it has none, Verdict is what its policies would say all the same, and Text tells why nobody asks them.
	Applies bool
	// Verdict names what decided: a rule as NAMESPACE/POLICY/RULE, an outcome, or "NetworkPolicy NAMESPACE/NAME ingress[0]" where no rule of a policy lets pass what that does.
	Verdict model.Verdict
	Text    string // in words
	Nearest []Miss // where no rule allows: the rules that might have, the nearest first
	// DryRun is the verdict if DryRun policies were enforced, too; nil where none concerns the step. At L3/4 it is what the policies mean.
	DryRun *model.Verdict
	// NetworkPolicies is how they decided; at L3/4, where they were given.
	NetworkPolicies *kernel.Side
	// Meant is what the policies mean at L3/4, beside the NetworkPolicies that were given; nil elsewhere.
	Meant *model.Verdict
}

// Term is a part of a rule.
type Term string

// Terms, in the order in which they are looked at.
const (
	TermPeers   Term = "peers"
	TermPorts   Term = "ports"
	TermHTTP    Term = "http" // the rule has http, and the call is none
	TermHosts   Term = "hosts"
	TermMethods Term = "methods"
	TermPaths   Term = "paths"
	TermHeaders Term = "headers"
)

// Miss is a rule that does not match, and its first term that fails.
type Miss struct {
	Rule    string // NAMESPACE/POLICY/RULE
	Policy  model.PolicyRef
	Index   int  // the rule's place in its policy's ingress or egress
	Failing int  // how many of its terms fail
	Term    Term // the first of them
	Reason  string
}

// String is "rule NAMESPACE/POLICY/RULE: method POST is not in [GET]".
func (m Miss) String() string { return "rule " + m.Rule + ": " + m.Reason }
