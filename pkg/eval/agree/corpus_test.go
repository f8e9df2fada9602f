package agree_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// corpusParty finds "NAMESPACE/POD", "ext:NAME" or "node:NAME".
func corpusParty(t *testing.T, c *netpoltest.Case, ix *model.Index, name string) eval.Party {
	t.Helper()
	if end := c.End(t, name); end.Pod == nil {
		return eval.PartyAt(ix, end.Address)
	}
	namespace, pod, _ := strings.Cut(name, "/")
	for i := range ix.Snapshot.Pods {
		if p := ix.Snapshot.Pods[i]; p.Namespace == namespace && p.Name == pod {
			party := eval.PodParty(ix, p)
			if p.HostNetwork {
				party.Address = c.End(t, name).Address // the node's
			}
			return party
		}
	}
	t.Fatalf("no pod %q", name)
	return eval.Party{}
}

// Every flow of the corpus is decided as it says: by the companions beside the other NetworkPolicies, by the acceptable companion that it shows, by what the policies mean
// at L3/4, and in a trace. The layers agree about each case.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, c := range netpoltest.Cases(t, "../../../testdata/corpus") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			ix := model.NewIndex(c.Snapshot(t))
			companions, _ := companionsOf(ix)
			standing := kernelOf(t, ix, companions)
			reference := standing
			if len(c.ReferenceNetworkPolicies) > 0 {
				reference, _ = kernel.New(slices.Concat(c.ReferenceNetworkPolicies, c.UserNetworkPolicies))
			}
			check := func(flows []netpoltest.Flow, want bool) {
				for _, f := range flows {
					from, to := corpusParty(t, &c, ix, f.Src), corpusParty(t, &c, ix, f.Dst)
					if standing.Allows(from.End(ix), to.End(ix), f.Port, f.Proto) != want {
						t.Errorf("%v: want %t, the companions say otherwise", f, want)
					}
					if reference.Allows(from.End(ix), to.End(ix), f.Port, f.Proto) != want {
						t.Errorf("%v: want %t, the companions that the corpus shows say otherwise", f, want)
					}
					in := eval.L4(ix, networkingv1.PolicyTypeIngress, to, from, f.Port, f.Proto)
					out := eval.L4(ix, networkingv1.PolicyTypeEgress, from, to, f.Port, f.Proto)
					if len(c.UserNetworkPolicies) == 0 && (in.Allowed && out.Allowed) != want {
						t.Errorf("%v: want %t, the policies mean %+v and %+v", f, want, in, out)
					}
					trace := eval.Explain(ix, standing, eval.Call{From: from, To: to, Port: f.Port, Protocol: f.Proto})
					if got := trace.Step(eval.StepEgress).Verdict.Allowed && trace.Step(eval.StepIngress).Verdict.Allowed; got != want {
						t.Errorf("%v: want %t, the trace says %+v", f, want, trace.Steps)
					}
				}
			}
			check(c.MustAllow, true)
			check(c.MustDeny, false)
			report := new(agree.Checker).Check(ix, companions)
			for i := range ix.Snapshot.Policies {
				ref := ix.Snapshot.Policies[i].PolicyRef
				if got := report.Verdict(ref); got.State == agree.Disagrees {
					t.Errorf("policy %s: %s", ref.Name, got.Text)
				}
			}
		})
	}
}

// What somebody's NetworkPolicy lets pass beside the policies is listed, with who and which port and by which entry; and nothing else is.
func TestWiderNetworkPolicyIsListed(t *testing.T) {
	t.Parallel()
	cases := netpoltest.Cases(t, "../../../testdata/corpus")
	i := slices.IndexFunc(cases, func(c netpoltest.Case) bool { return c.ID == "np-049" })
	s := cases[i].Snapshot(t)
	s.Services = []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 8080}}}}
	ix := model.NewIndex(s)
	companions, _ := companionsOf(ix)
	var got []string
	for _, w := range widerOf(new(agree.Checker).Check(ix, companions)) {
		if !w.Plumbing {
			got = append(got, w.String())
		}
	}
	if diff := cmp.Diff([]string{
		"TCP 8080 from dev/front-1 to shop/cart-1: by NetworkPolicy shop/user-dev ingress[0]",
		"TCP 8080 from dev/front-1 to shop/cart-2: by NetworkPolicy shop/user-dev ingress[0]",
	}, got); diff != "" {
		t.Errorf("wider (-want +got):\n%s", diff)
	}
}
