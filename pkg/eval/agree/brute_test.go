package agree_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// companionsOf are the companions that stand for a snapshot's policies, and whether all of them say what the policies mean.
func companionsOf(ix *model.Index) (companions []agree.Companion, found []model.Diagnostic) {
	built, found := new(netpol.Builder).Build(ix)
	for _, c := range built {
		if !c.DryRun {
			companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
		}
	}
	return companions, found
}

func kernelOf(t rapid.TB, ix *model.Index, companions []agree.Companion) *kernel.Set {
	t.Helper()
	all := slices.Clone(ix.Snapshot.NetworkPolicies)
	for _, c := range companions {
		all = append(all, c.NetworkPolicy)
	}
	set, found := kernel.New(all)
	if len(found) > 0 {
		t.Fatal(found)
	}
	return set
}

// parties are all that can call: every pod, and some addresses outside.
func parties(ix *model.Index) []eval.Party {
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

// probes are ports on both sides of whatever may tell ports apart.
func probes() []uint16 {
	return []uint16{1, 8, 9, 10, 53, 79, 80, 81, 82, 5353, 5354, 8079, 8080, 8081, 8082, 8090, 8091, 9089, 9090, 9091, 13999, 14000, 14990, 14991, 14999, 15000, 15012, 15050, 15051, 15090, 15099, 15100, 65535}
}

// asked remembers, by the rules that decide, whether they allow any of the requests.
type asked map[string]bool

func (a asked) some(c eval.Connection) bool {
	if !c.HTTP {
		return c.Verdict(nil).Allowed
	}
	key := fmt.Sprint(c.Governed, c.Isolated, c.Reserved)
	for _, list := range [][]eval.RuleRef{c.Allows, c.Denies} {
		for _, r := range list {
			key += " " + r.Name()
		}
		key += "|"
	}
	if _, known := a[key]; !known {
		a[key] = slices.ContainsFunc(netpoltest.Requests(), func(r *model.HTTPRequest) bool { return c.Verdict(r).Allowed })
	}
	return a[key]
}

// pair is a caller and a callee pod.
type pair struct {
	ix              *model.Index
	asked           asked
	from, to        eval.Party
	ingress, egress kernel.Governing
}

func newPair(ix *model.Index, set *kernel.Set, a asked, from, to eval.Party) pair {
	return pair{ix, a, from, to, set.Governing(networkingv1.PolicyTypeIngress, to.End(ix)), set.Governing(networkingv1.PolicyTypeEgress, from.End(ix))}
}

// allowsSome says whether any request, or bytes, is allowed at L7.
func (p pair) allowsSome(port uint16) bool {
	return p.asked.some(eval.Connect(p.ix, p.to.Workload, p.from, port))
}

func (p pair) governed() bool {
	return eval.Connect(p.ix, p.to.Workload, p.from, 1).Governed
}

func (p pair) passesIngress(port uint16, protocol model.Protocol) bool {
	return p.ingress.Allows(p.from.End(p.ix), port, protocol)
}

func (p pair) passesEgress(port uint16) bool {
	return p.egress.Allows(p.to.End(p.ix), port, model.TCP)
}

func (p pair) meant(d networkingv1.PolicyType, port uint16, protocol model.Protocol) model.Verdict {
	if d == networkingv1.PolicyTypeEgress {
		return eval.L4(p.ix, d, p.from, p.to, port, protocol)
	}
	return eval.L4(p.ix, d, p.to, p.from, port, protocol)
}

// needs says whether L3/4 must let a TCP port pass: a sidecar allows something there, or, where none looks, a rule opens it.
func (p pair) needs(port uint16) bool {
	if p.to.Pod.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected && !slices.Contains(p.to.Pod.Proxy.ExcludedInbound, port) {
		return p.allowsSome(port) && (port < model.ReservedFirst || port > model.ReservedLast)
	}
	v := p.meant(networkingv1.PolicyTypeIngress, port, model.TCP)
	return v.Allowed && v.Decider != eval.OutcomePlumbing
}

// picked says whether a rule that allows the caller names it by label or account.
func (p pair) picked(port uint16) bool {
	for _, r := range eval.Connect(p.ix, p.to.Workload, p.from, port).Allows {
		for _, q := range r.Rule().Peers {
			if q.Block == nil && (q.ServiceAccounts != nil || q.Pods != nil && !q.Pods.Empty()) && eval.Means(p.ix, r.Policy.Namespace, q, p.from) {
				return true
			}
		}
	}
	return false
}

// listed says whether what was found lists a port from a caller.
func listed(from eval.Party, callers agree.Callers, ports kernel.Ports, port uint16, protocol model.Protocol) bool {
	return ports.Contains(port, protocol) && among(from, callers)
}

// among says whether a caller is one of a group that names workloads. Groups of everybody else are for those whom no other group has.
func among(from eval.Party, c agree.Callers) bool {
	if !c.Others() && (from.Workload == nil || !slices.ContainsFunc(c.Workloads, func(w agree.Caller) bool { return w.Key == from.Workload.Key })) {
		return false
	}
	return c.Contain(from.Address)
}

// accessOf finds the one group of a caller.
func accessOf(t rapid.TB, from eval.Party, w *agree.Workload) agree.Access {
	t.Helper()
	var named, others []agree.Access
	for _, a := range w.Access {
		switch {
		case !among(from, a.Callers):
		case a.Callers.Others():
			others = append(others, a)
		default:
			named = append(named, a)
		}
	}
	isNamed := slices.ContainsFunc(w.Access, func(a agree.Access) bool {
		return from.Workload != nil && slices.ContainsFunc(a.Callers.Workloads, func(c agree.Caller) bool { return c.Key == from.Workload.Key })
	})
	switch {
	case isNamed && len(named) == 1:
		return named[0]
	case !isNamed && len(others) == 1:
		return others[0]
	}
	t.Fatalf("%s at %s is in %d groups by name and %d by address: %+v", from, from.Address, len(named), len(others), w.Access)
	return agree.Access{}
}

// check holds a report against every caller, callee and probed port.
func check(t rapid.TB, ix *model.Index, set *kernel.Set, report *agree.Report) {
	t.Helper()
	callers, known := parties(ix), asked{}
	for _, w := range ix.Workloads {
		if w.HostNetwork {
			continue
		}
		found := report.Of(w.Key)
		if found == nil {
			t.Fatalf("nothing was found about %s", w.Key)
		}
		for _, from := range callers {
			if from.Pod == nil && from.Workload != nil {
				continue
			}
			if from.Pod != nil && !from.Address.IsValid() && !isNamed(from, found) {
				continue // nobody names it, and its address is not known
			}
			if from.Workload == w { // another of its pods calls: one is never cut off from itself
				another := *from.Pod
				another.Name += "-another"
				from.Pod = &another
			}
			var pairs []pair
			for _, p := range w.Pods {
				pairs = append(pairs, newPair(ix, set, known, from, eval.PodParty(ix, p)))
			}
			group := accessOf(t, from, found)
			for _, port := range probes() {
				for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
					compare(t, pairs, group, found, port, protocol)
				}
				compareEgress(t, pairs, group, found, port)
			}
		}
	}
}

func isNamed(from eval.Party, w *agree.Workload) bool {
	return slices.ContainsFunc(w.Access, func(a agree.Access) bool {
		return slices.ContainsFunc(a.Callers.Workloads, func(c agree.Caller) bool { return c.Key == from.Workload.Key })
	})
}

// compare looks at one port of a callee's pods, any of which may be open or shut.
func compare(t rapid.TB, pairs []pair, group agree.Access, w *agree.Workload, port uint16, protocol model.Protocol) {
	t.Helper()
	from, governed := pairs[0].from, pairs[0].governed()
	var open, allowed, wider, shut bool
	for _, p := range pairs {
		passes := p.passesIngress(port, protocol)
		open = open || passes
		if protocol != model.TCP {
			wider = wider || governed && passes && !p.meant(networkingv1.PolicyTypeIngress, port, protocol).Allowed
			continue
		}
		some := p.allowsSome(port)
		allowed = allowed || some
		wider = wider || governed && passes && !some
		shut = shut || governed && !passes && p.needs(port)
	}
	what := fmt.Sprintf("%s (%s) to %s, %s %d", from, from.Address, w.Key, protocol, port)
	if got := group.L4.Contains(port, protocol); got != open {
		t.Fatalf("%s: passes at L3/4: %t, the report says %t; %+v", what, open, got, group)
	}
	if got := group.L7.Contains(port, protocol); got != allowed {
		t.Fatalf("%s: something is allowed at L7: %t, the report says %t; %+v", what, allowed, got, group)
	}
	in := func(c agree.Callers) bool { return c.Others() == group.Callers.Others() }
	if got := slices.ContainsFunc(w.Wider, func(x agree.Wider) bool { return in(x.Callers) && listed(from, x.Callers, x.Ports, port, protocol) }); got != wider {
		t.Fatalf("%s: wider at L3/4: %t, the report says %t; %+v", what, wider, got, w.Wider)
	}
	if got := slices.ContainsFunc(w.Shut, func(x agree.Shut) bool {
		return x.Side == agree.CalleeIngress && in(x.Callers) && listed(from, x.Callers, x.Ports, port, protocol)
	}); got != shut {
		t.Fatalf("%s: shut at L3/4: %t, the report says %t; %+v", what, shut, got, w.Shut)
	}
}

// compareEgress looks at what a caller's own NetworkPolicies shut, though the callee's layers let it pass.
func compareEgress(t rapid.TB, pairs []pair, group agree.Access, w *agree.Workload, port uint16) {
	t.Helper()
	p := pairs[0]
	needed := p.from.Pod != nil && p.governed() && p.needs(port) && p.picked(port)
	shut, mistaken := false, false
	for _, q := range pairs {
		needed = needed && q.passesIngress(port, model.TCP)
		passes := q.passesEgress(port)
		shut = shut || !passes
		mistaken = mistaken || !passes && q.meant(networkingv1.PolicyTypeEgress, port, model.TCP).Allowed
	}
	want := needed && shut
	deliberate := want && !mistaken
	i := slices.IndexFunc(w.Shut, func(x agree.Shut) bool {
		return x.Side == agree.CallerEgress && listed(p.from, x.Callers, x.Ports, port, model.TCP)
	})
	if (i >= 0) != want || want && w.Shut[i].Deliberate != deliberate {
		t.Fatalf("%s to %s, TCP %d: shut by the caller's egress: %t, deliberately: %t; the report says %+v; access %+v", p.from, w.Key, port, want, deliberate, w.Shut, group)
	}
}

// Whatever NetworkPolicies stand, the report says of every caller, callee and port what asking the evaluators about each of them says.
func TestReportIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, exactness)
}

func exactness(t *rapid.T) {
	ix := model.NewIndex(netpoltest.Cluster(t))
	companions, _ := companionsOf(ix)
	for len(companions) > 0 && rapid.IntRange(0, 2).Draw(t, "missing") == 0 { // not yet written, or lost
		i := rapid.IntRange(0, len(companions)-1).Draw(t, "companion")
		companions = slices.Delete(companions, i, i+1)
	}
	check(t, ix, kernelOf(t, ix, companions), new(agree.Checker).Check(ix, companions))
}
