package agree_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A trace says what the evaluators say: its steps' verdicts are theirs, it refuses what any step that applies refuses, and where no rule allows, every rule that it offers
// is one that does not match, for a reason.
func TestTracesSayWhatTheEvaluatorsSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ix := model.NewIndex(netpoltest.Cluster(t))
		companions, _ := companionsOf(ix)
		standing := kernelOf(t, ix, companions)
		all := parties(ix)
		for range 20 {
			c := eval.Call{
				From: rapid.SampledFrom(all).Draw(t, "from"), To: rapid.SampledFrom(all).Draw(t, "to"), Port: rapid.SampledFrom(probes()).Draw(t, "port"),
				Protocol: rapid.SampledFrom([]model.Protocol{model.TCP, model.TCP, model.UDP}).Draw(t, "protocol"),
				HTTP:     rapid.SampledFrom(append(netpoltest.Requests(), nil)).Draw(t, "http"),
			}
			trace := eval.Explain(ix, standing, c)
			from, to := c.From.End(ix), c.To.End(ix)
			refused := false
			for _, s := range trace.Steps {
				refused = refused || s.Applies && !s.Verdict.Allowed
				switch s.Name {
				case eval.StepEgress:
					say(t, s, standing.Governing(networkingv1.PolicyTypeEgress, from).Allows(to, c.Port, c.Protocol))
					say(t, eval.Explain(ix, nil, c).Steps[0], eval.L4(ix, networkingv1.PolicyTypeEgress, c.From, c.To, c.Port, c.Protocol).Allowed)
				case eval.StepIngress:
					say(t, s, standing.Governing(networkingv1.PolicyTypeIngress, to).Allows(from, c.Port, c.Protocol))
					say(t, eval.Explain(ix, nil, c).Steps[1], eval.L4(ix, networkingv1.PolicyTypeIngress, c.To, c.From, c.Port, c.Protocol).Allowed)
				case eval.StepL7:
					if c.To.Workload != nil && c.Protocol == model.TCP {
						connection := eval.Connect(ix, c.To.Workload, c.From, c.Port)
						say(t, s, connection.Verdict(c.HTTP).Allowed)
					}
				case eval.StepCapture:
					say(t, s, true)
				}
				for _, m := range s.Nearest {
					if m.Reason == "" || m.Failing == 0 || s.Verdict.Decider != model.OutcomeDefaultDeny {
						t.Fatalf("step %s, %+v: offers %+v", s.Name, s.Verdict, m)
					}
				}
			}
			if trace.Verdict.Allowed == refused {
				t.Fatalf("verdict %+v of steps %+v", trace.Verdict, trace.Steps)
			}
		}
	})
}

func say(t *rapid.T, s eval.Step, allowed bool) {
	if s.Verdict.Allowed != allowed || s.Text == "" {
		t.Fatalf("step %s says %+v (%q), the evaluator %t", s.Name, s.Verdict, s.Text, allowed)
	}
}
