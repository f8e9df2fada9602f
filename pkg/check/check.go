// Package check answers whether somebody may call somebody: on both layers, with the rule that decided or the one that came nearest, and the way there. It asks two oracles
// about the sidecar, what the policies mean and what the generated configuration decides, and tells where they differ. Input: a model.Index and what translation made of it.
// Output: answers about single calls, and a matrix of all workloads. Pure. One entry point: New.
package check

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// World is what is asked about, with the companions standing as they should. Not safe for concurrent use.
type World struct {
	ix         *model.Index
	output     *translate.Output
	companions []agree.Companion
	standing   *kernel.Set
	sidecars   map[*model.Workload]sidecar
}

// sidecar is the evaluator of one workload's configuration, or why there is none.
type sidecar struct {
	*envoy.Sidecar
	err error
}

// New prepares a world for questions. What it finds are NetworkPolicies that are not understood.
func New(ix *model.Index, output *translate.Output) (*World, []model.Diagnostic) {
	w := &World{ix: ix, output: output, sidecars: map[*model.Workload]sidecar{}}
	all := slices.Clone(ix.Snapshot.NetworkPolicies)
	for _, c := range output.Companions {
		if !c.DryRun {
			w.companions = append(w.companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
			all = append(all, c.NetworkPolicy)
		}
	}
	var found []model.Diagnostic
	w.standing, found = kernel.New(all)
	return w, found
}

// OutcomeRefused is the outcome of a request that a sidecar answers itself, before any policy is asked.
const OutcomeRefused = "refused"

// Answer is what becomes of one call.
type Answer struct {
	Trace   *eval.Trace
	Verdict model.Verdict // that of the trace, but for a request that the sidecar answers itself
	// Sidecar is what the generated configuration decides; nil where it was not asked, for the reason in NotAsked.
	Sidecar  *envoy.Verdict
	NotAsked string
	// Disagreement says how the policies and the generated configuration differ: a fault of this program. "" where they do not.
	Disagreement string
}

// Ask answers one call. The request is as its client sends it; nil for bytes.
func (w *World) Ask(from eval.Party, to Callee, sent *model.HTTPRequest) Answer {
	call := eval.Call{From: from, To: to.Party, Port: to.Port, Protocol: to.Protocol, HTTP: sent}
	a := Answer{Trace: eval.Explain(w.ix, w.standing, call)}
	a.Verdict = a.Trace.Verdict
	if a.NotAsked = notAsked(a.Trace); a.NotAsked != "" {
		return a
	}
	decided, shadow := w.decide(call)
	a.Sidecar = &decided
	if decided.Refusal != nil {
		if a.passesL4() {
			a.Verdict = model.Verdict{Decider: OutcomeRefused}
		}
		return a
	}
	if decided.Seen != nil { // policies look at what the sidecar makes of it
		call.HTTP = translate.Restored(decided.Seen)
		a.Trace = eval.Explain(w.ix, w.standing, call)
		a.Verdict = a.Trace.Verdict
	}
	l7 := a.Trace.Step(eval.StepL7)
	a.Disagreement = difference("", l7.Verdict, &decided)
	if a.Disagreement == "" && l7.DryRun != nil {
		a.Disagreement = difference("with DryRun policies in force, ", *l7.DryRun, &shadow)
	}
	return a
}

// notAsked says why the generated configuration has no say about a call; "" where it has.
func notAsked(t *eval.Trace) string {
	switch {
	case t.To.Workload == nil:
		return "the callee is no pod of the cluster"
	case !t.Step(eval.StepCapture).Applies:
		return "no sidecar sees the call"
	case !t.From.Address.IsValid():
		return "the caller's address is not known"
	}
	return ""
}

// passesL4 says whether both NetworkPolicy steps let the call pass.
func (a *Answer) passesL4() bool {
	return !slices.ContainsFunc(a.Trace.Steps, func(s eval.Step) bool {
		return (s.Name == eval.StepEgress || s.Name == eval.StepIngress) && s.Applies && !s.Verdict.Allowed
	})
}

func difference(when string, meant model.Verdict, decided *envoy.Verdict) string {
	switch {
	case decided.Err != nil:
		return "what the generated configuration decides cannot be told: " + decided.Err.Error()
	case meant.Allowed == decided.Allowed:
		return ""
	}
	return fmt.Sprintf("%sthe policies say %s (%s), and the generated configuration %s (%s)", when, word(meant.Allowed), meant.Decider, word(decided.Allowed), decided.Name)
}

func word(allowed bool) string {
	if allowed {
		return "allow"
	}
	return "deny"
}

// decide asks the callee's generated configuration, as it is in force and with its shadow.
func (w *World) decide(c eval.Call) (decided, shadow envoy.Verdict) {
	s := w.sidecar(c.To.Workload)
	if s.err != nil {
		unknown := envoy.Verdict{Decision: envoy.Decision{Outcome: envoy.Unknown, Err: s.err}}
		return unknown, unknown
	}
	q := &envoy.Call{Source: c.From.Address, Port: socket(c.To.Pod, c.Port), HTTP: c.HTTP}
	return s.Decide(q), s.Shadow(q)
}

// socket is the port that a connection for a pod's port reaches its sidecar at: behind a redirect the same.
func socket(p *model.Pod, port uint16) uint16 {
	for _, b := range p.Proxy.Bound {
		if b.Port == port {
			return b.Listen.Port()
		}
	}
	return port
}

func (w *World) sidecar(of *model.Workload) sidecar {
	if s, known := w.sidecars[of]; known {
		return s
	}
	var s sidecar
	for _, o := range w.output.Workloads {
		if o.Workload != of {
			continue
		}
		messages := make([]proto.Message, 0, len(o.Resources))
		for _, r := range o.Resources {
			messages = append(messages, r.Message)
		}
		s.Sidecar, s.err = envoy.NewSidecar(messages...)
	}
	w.sidecars[of] = s
	return s
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
