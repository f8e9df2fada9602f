package lint_test

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// callers are all that can call: every pod, and addresses outside in and beside the blocks that worlds name.
func callers(ix *model.Index) []eval.Party {
	var out []eval.Party
	for _, a := range []string{"203.0.113.10", "203.0.113.200", "203.0.113.130", "192.0.2.1", "10.244.200.1", "2001:db8::1", "2001:db9::1"} {
		out = append(out, eval.PartyAt(ix, netip.MustParseAddr(a)))
	}
	for i := range ix.Snapshot.Pods {
		if p := ix.Snapshot.Pods[i]; !p.HostNetwork {
			out = append(out, eval.PodParty(ix, p))
		}
	}
	return out
}

// without is a snapshot without one rule.
func without(s *model.Snapshot, policy model.PolicyRef, field string) *model.Snapshot {
	out := *s
	out.Policies = slices.Clone(s.Policies)
	direction, number, _ := strings.Cut(strings.TrimPrefix(field, "spec."), "[")
	n, err := strconv.Atoi(strings.TrimSuffix(number, "]"))
	if err != nil {
		panic(err)
	}
	for i, was := range out.Policies {
		if was.Namespace != policy.Namespace || was.Name != policy.Name {
			continue
		}
		p := *was
		out.Policies[i] = &p
		if direction == "ingress" {
			p.Ingress = slices.Delete(slices.Clone(p.Ingress), n, n+1)
		} else {
			p.Egress = slices.Delete(slices.Clone(p.Egress), n, n+1)
		}
	}
	return &out
}

// answers are the verdicts on everything that is asked: first at L7, then at L3/4.
type answers struct{ l7, l4 []bool }

func ask(ix *model.Index) answers {
	var out answers
	for _, from := range callers(ix) {
		for _, w := range ix.Workloads {
			if w.HostNetwork {
				continue
			}
			to := eval.WorkloadParty(ix, w)
			for _, port := range []uint16{80, 8081, 9090} {
				for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
					out.l4 = append(out.l4, eval.L4(ix, networkingv1.PolicyTypeIngress, to, from, port, protocol).Allowed)
					if from.Pod != nil {
						out.l4 = append(out.l4, eval.L4(ix, networkingv1.PolicyTypeEgress, from, to, port, protocol).Allowed)
					}
				}
				if slices.Contains(w.Proxy.ExcludedInbound, port) {
					continue // no sidecar sees the port
				}
				c := eval.Connect(ix, w, from, port)
				out.l7 = append(out.l7, c.Verdict(nil).Allowed)
				if !c.HTTP {
					continue // requests are bytes there
				}
				for _, r := range netpoltest.Requests() {
					out.l7 = append(out.l7, c.Verdict(r).Allowed)
				}
			}
		}
	}
	return out
}

// Whatever lint calls dead, shadowed or repeated may go: no verdict is another without it. A rule with http opens whole ports at L3/4, where requests are not told apart:
// without it less may be open there, and never more.
func TestDeadRulesDecideNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ix := model.NewIndex(netpoltest.Cluster(t))
		var before *answers
		tried := 0
		for _, d := range lint.Run(lint.Input{Index: ix, Output: translate.Translate(ix)}) {
			if !slices.Contains([]string{"rule-shadowed", "rule-subsumed", "rule-never-matches"}, d.Code) {
				continue
			}
			if tried++; tried > 2 {
				break
			}
			if before == nil {
				asked := ask(ix)
				before = &asked
			}
			after := ask(model.NewIndex(without(ix.Snapshot, model.PolicyRef{Namespace: d.Object.Namespace, Name: d.Object.Name}, d.Field)))
			if !slices.Equal(before.l7, after.l7) {
				t.Fatalf("%s: without the rule L7 says otherwise", d)
			}
			for i, allowed := range after.l4 {
				if allowed && !before.l4[i] {
					t.Fatalf("%s: without the rule L3/4 says otherwise", d)
				}
			}
		}
	})
}

// Where a Deny refuses every request that a rule allows, of those that are asked, lint says so, or knows a request that was not asked.
func TestShadowedRulesAreFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ix := model.NewIndex(netpoltest.Cluster(t))
		matches, allowed := map[eval.RuleRef]bool{}, map[eval.RuleRef]bool{}
		for _, from := range callers(ix) {
			for _, w := range ix.Workloads {
				if w.HostNetwork {
					continue
				}
				for _, port := range []uint16{1, 53, 79, 80, 81, 5353, 8080, 8081, 8082, 9090, 14999, 65535} {
					c := eval.Connect(ix, w, from, port)
					if slices.Contains(w.Proxy.ExcludedInbound, port) { // no sidecar sees the port: no rule with http holds there
						withHTTP := func(r eval.RuleRef) bool { return r.Rule().HTTP != nil }
						c.Allows, c.Denies = slices.DeleteFunc(c.Allows, withHTTP), slices.DeleteFunc(c.Denies, withHTTP)
					}
					for _, r := range c.Allows {
						for _, q := range append(netpoltest.Requests(), nil) {
							if q != nil && !c.HTTP || !ruleMatches(r, c.HTTP, q) {
								continue
							}
							matches[r] = true
							allowed[r] = allowed[r] || c.Verdict(q).Allowed
						}
					}
				}
			}
		}
		unaddressed := slices.ContainsFunc(ix.Workloads, func(w *model.Workload) bool { return len(w.Addresses) == 0 })
		found := lint.Run(lint.Input{Index: ix, Output: translate.Translate(ix)})
		for r := range matches {
			field := "spec.ingress[" + strconv.Itoa(r.Index) + "]"
			said := slices.ContainsFunc(found, func(d model.Diagnostic) bool {
				return d.Code == "rule-shadowed" && d.Field == field && d.Object.Namespace == r.Policy.Namespace && d.Object.Name == r.Policy.Name
			})
			// A caller without an address may get one that the rule means and the Deny does not, as far as lint knows.
			if said == allowed[r] && (said || !unaddressed) {
				t.Fatalf("rule %s allows something: %t; lint calls it shadowed: %t", r.Name(), allowed[r], said)
			}
		}
	})
}

func ruleMatches(r eval.RuleRef, speaksHTTP bool, q *model.HTTPRequest) bool {
	http := r.Rule().HTTP
	if http == nil {
		return true
	}
	return speaksHTTP && q != nil && slices.ContainsFunc(http, func(m model.HTTPMatch) bool { return eval.Satisfies(model.Allow, &m, q) })
}
