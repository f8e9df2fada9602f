package eval

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Explain traces a call. Standing are the NetworkPolicies that decide at L3/4, those that pilot-lite made and those that it did not; where it is nil, what the policies mean
// at L3/4 decides. The trace costs more than a verdict: who needs no reasons asks Ingress, and the NetworkPolicies themselves.
func Explain(ix *model.Index, standing *kernel.Set, c Call) *Trace {
	x := explainer{ix, standing, c}
	t := &Trace{Call: c, Steps: []Step{
		x.l4(StepEgress, networkingv1.PolicyTypeEgress, c.From, c.To),
		x.l4(StepIngress, networkingv1.PolicyTypeIngress, c.To, c.From),
		x.capture(),
	}}
	t.Steps = append(t.Steps, x.l7(t.Steps[2].Verdict.Decider))
	t.Verdict = verdictOf(t.Steps)
	return t
}

// verdictOf is that of the first step that refuses, else of the last that has a say. The capture has none.
func verdictOf(steps []Step) model.Verdict {
	verdict := model.Verdict{Allowed: true, Decider: OutcomeOutside}
	for _, s := range steps {
		if !s.Applies || s.Name == StepCapture {
			continue
		}
		verdict = s.Verdict
		if !verdict.Allowed {
			break
		}
	}
	return verdict
}

type explainer struct {
	ix       *model.Index
	standing *kernel.Set
	call     Call
}

// l4 is a step that NetworkPolicies decide.
func (x *explainer) l4(name StepName, d networkingv1.PolicyType, governed, other Party) Step {
	of := newL4(x.ix, d, governed, other, x.call.Port, x.call.Protocol)
	intent := of.meant(enforced(x.ix))
	s := Step{Name: name, Applies: governed.selectable(), Verdict: intent}
	if !s.Applies {
		s.Text = "nothing of ours stands before " + governed.String() + ", which is no pod of the cluster"
		if governed.Pod != nil {
			s.Text = "NetworkPolicies do not hold for pods on the host's network, such as " + governed.String()
		}
		return s
	}
	if x.standing != nil {
		side := x.standing.Governing(d, governed.End(x.ix)).Decide(other.End(x.ix), x.call.Port, x.call.Protocol)
		s.NetworkPolicies, s.Meant, s.Verdict = &side, &intent, decided(side, intent)
	}
	if !s.Verdict.Allowed && s.Verdict.Decider == model.OutcomeDefaultDeny {
		s.Nearest = of.misses(enforced(x.ix))
	}
	if slices.ContainsFunc(of.governing(everyPolicy(x.ix)), func(p *model.Policy) bool { return p.DryRun }) {
		v := of.meant(everyPolicy(x.ix))
		s.DryRun = &v
	}
	s.Text = l4Text(&s)
	return s
}

// decided is the NetworkPolicies' verdict, with the decider that the policies give where they mean the same.
func decided(side kernel.Side, intent model.Verdict) model.Verdict {
	v := model.Verdict{Allowed: side.Allowed, Decider: intent.Decider}
	switch {
	case side.Allowed == intent.Allowed:
		if side.Reason == kernel.ReasonEntry && intent.Decider == model.OutcomeNotIsolated {
			v.Decider = side.By.String()
		}
	case side.By != nil:
		v.Decider = side.By.String()
	case side.Allowed:
		v.Decider = string(side.Reason)
	default:
		v.Decider = "NetworkPolicy " + side.Isolating[0].Namespace + "/" + side.Isolating[0].Name
	}
	return v
}

func l4Text(s *Step) string {
	var b strings.Builder
	b.WriteString(outcomeText(s.Verdict))
	if n := s.NetworkPolicies; n != nil {
		switch {
		case n.By != nil && s.Verdict.Decider != n.By.String():
			b.WriteString(", by " + n.By.String())
		case n.Reason == kernel.ReasonNoEntry:
			b.WriteString("; isolated by " + objects(n.Isolating))
		}
		if n.ByAddress {
			b.WriteString("; the other end is known by its address, which some network plugins do not match with pods")
		}
		if s.Meant.Allowed != n.Allowed {
			b.WriteString("; the policies mean otherwise: " + outcomeText(*s.Meant))
		}
	}
	return b.String()
}

func objects(list []*networkingv1.NetworkPolicy) string {
	words := make([]string, 0, len(list))
	for _, np := range list {
		words = append(words, np.Namespace+"/"+np.Name)
	}
	return "NetworkPolicies " + strings.Join(words, ", ")
}

// capture says whether the callee's sidecar sees the call. It refuses nothing.
func (x *explainer) capture() Step {
	to := x.call.To
	s := Step{Name: StepCapture, Verdict: model.Verdict{Allowed: true, Decider: OutcomeCaptured}}
	pass := func(outcome, text string) Step {
		s.Verdict.Decider, s.Text = outcome, text
		return s
	}
	if to.Pod == nil {
		return pass(OutcomeOutside, to.String()+" is no pod of the cluster, and has no sidecar")
	}
	proxy := to.Pod.Proxy
	bound := slices.ContainsFunc(proxy.Bound, func(b model.BoundPort) bool { return b.Port == x.call.Port })
	switch {
	case to.Pod == x.call.From.Pod:
		return pass(OutcomeSelf, "a pod reaches itself without its sidecar")
	case x.call.Protocol != model.TCP:
		return pass(OutcomeNotTCP, "sidecars see TCP alone")
	case !proxy.Injected && len(proxy.Bound) == 0:
		return pass(OutcomeNoSidecar, to.String()+" carries no sidecar: nobody looks at the call")
	case slices.Contains(proxy.ExcludedInbound, x.call.Port):
		return pass(OutcomeExcluded, fmt.Sprintf("the pod leaves port %d out of the capture: nobody looks at the call", x.call.Port))
	case len(proxy.Bound) > 0 && !bound:
		return pass(OutcomeNotBound, fmt.Sprintf("the sidecar listens for no port %d: nobody looks at the call", x.call.Port))
	}
	s.Applies, s.Text = true, "the callee's sidecar sees the call"
	if slices.Contains(proxy.ServerFirst, x.call.Port) {
		s.Text += ", and the application may greet the caller before the sidecar has decided"
	}
	return s
}

// l7 is the callee's sidecar.
func (x *explainer) l7(captured string) Step {
	to, http := x.call.To, x.call.HTTP
	s := Step{Name: StepL7, Applies: captured == OutcomeCaptured}
	if to.Workload == nil || x.call.Protocol != model.TCP {
		s.Verdict = model.Verdict{Allowed: true, Decider: captured}
		s.Text = "no sidecar has a say"
		return s
	}
	c := connect(x.ix, enforced(x.ix), to.Workload, x.call.From, x.call.Port)
	s.Verdict = c.Verdict(http)
	s.Text = outcomeText(s.Verdict)
	if s.Verdict.Decider == model.OutcomeDefaultDeny {
		s.Nearest = x.misses(&c)
	}
	if slices.ContainsFunc(x.ix.Snapshot.Policies, func(p *model.Policy) bool { return p.DryRun && governsIngress(p, to.Workload) }) {
		all := connect(x.ix, everyPolicy(x.ix), to.Workload, x.call.From, x.call.Port)
		v := all.Verdict(http)
		s.DryRun = &v
	}
	if !s.Applies {
		s.Text = "no sidecar has a say; it would say: " + s.Text
	}
	return s
}

// outcomeText is a verdict in words.
func outcomeText(v model.Verdict) string {
	verb := "refused"
	if v.Allowed {
		verb = "allowed"
	}
	switch v.Decider {
	case model.OutcomeNotIsolated:
		return verb + ": no Allow policy isolates the pod"
	case model.OutcomeDefaultDeny:
		return verb + ": an Allow policy isolates the pod, and no rule allows the call"
	case model.OutcomeGuardPath:
		return verb + ": the path has more than one reading"
	case model.OutcomeGuardHost:
		return verb + ": the authority is not one host name or bracketed address"
	case model.OutcomeReservedPort:
		return verb + ": the port is one of the sidecar's own"
	case OutcomeSelf:
		return verb + ": a pod is never cut off from itself"
	case OutcomePlumbing:
		return verb + ": an isolated pod needs it to live"
	case OutcomeNotDenied:
		return verb + ": no Allow policy isolates the pod, and no Deny names the call"
	}
	if strings.HasPrefix(v.Decider, "NetworkPolicy ") {
		return verb + " by " + v.Decider
	}
	return verb + " by rule " + v.Decider
}
