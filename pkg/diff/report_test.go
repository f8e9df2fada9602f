package diff_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// lists says whether parties name a pod that stands.
func lists(p diff.Parties, pod party) bool {
	named := func(m diff.Members) bool {
		return slices.ContainsFunc(m.Workloads, func(w string) bool {
			name, at, partly := strings.Cut(w, " at ")
			return name == pod.name && (!partly || at == pod.address.String() || within(at, pod.address))
		})
	}
	return named(p.Members) || p.Anyone && !named(p.But)
}

// mayMean says whether parties list the address of a pod, whose own address is not known.
func mayMean(p diff.Parties, pod party) bool {
	return pod.name == "web/plain" && slices.ContainsFunc(slices.Concat(p.Addresses, p.But.Addresses), func(s string) bool { return within(s, pod.address) })
}

func within(spans string, a netip.Addr) bool {
	for s := range strings.SplitSeq(spans, " or ") {
		if p, err := netip.ParsePrefix(s); err == nil && p.Contains(a) {
			return true
		}
		first, last, ranged := strings.Cut(s, "-")
		if ranged && netip.MustParseAddr(first).Compare(a) <= 0 && a.Compare(netip.MustParseAddr(last)) <= 0 && netip.MustParseAddr(first).BitLen() == a.BitLen() {
			return true
		}
	}
	return false
}

// What people read says of every two workloads, and every port, what was found.
func TestReportsSayWhatWasFound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := drawWorld(t)
		after := drawEdit(t, before)
		c := newComparison(before, after, nil, netip.MustParseAddr("10.0.0.55"))
		report := diff.Compare(c.before, c.after)
		for _, subject := range standing(before) {
			ns, name, _ := strings.Cut(subject.name, "/")
			for _, layer := range []diff.Layer{diff.L7, diff.L4} {
				for _, d := range []model.Direction{model.Ingress, model.Egress} {
					classes := c.found.Subject(layer, d, c.before.WorkloadOf(ns, name))
					for _, other := range c.parties[:len(standing(before))] {
						for _, port := range []uint16{53, 80, 90, 91, 15006} {
							p := diff.PortRange{Protocol: model.TCP, From: port, To: port}
							want := map[string]bool{}
							for _, x := range classes(matching(c.evalBefore, c.evalAfter, other), p) {
								want[fmt.Sprint(x.Effect, x.Before, x.After)] = true
							}
							got, unsure := told(report, layer, d, subject, other, p)
							if diff := cmp.Diff(want, got); diff != "" && !unsure {
								t.Fatalf("%s %s of %s, with %s, port %d: found, told:\n%s", layer, d, subject, other, port, diff)
							}
						}
					}
				}
			}
		}
	})
}

// What opens or closes at one end only is told as such exactly where the other end lets nothing of it through.
func TestTheOtherEndIsTold(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := drawWorld(t)
		after := drawEdit(t, before)
		c := newComparison(before, after, nil, unknown(77))
		report := diff.Compare(c.before, c.after)
		was, is := kernelOf(c.before), kernelOf(c.after)
		for _, f := range report.Flips {
			k, ix := was, c.evalBefore
			if f.Effect == diff.EffectOpens {
				k, ix = is, c.evalAfter
			}
			whose, others, opposite := f.Callees, f.Callers, networkingv1.PolicyTypeEgress
			if f.Direction == model.Egress {
				whose, others, opposite = f.Callers, f.Callees, networkingv1.PolicyTypeIngress
			}
			for _, subject := range standing(before) {
				for _, other := range standing(before) {
					if f.Layer != diff.L4 || subject.name == other.name || subject.name == "web/plain" || other.name == "web/plain" || !lists(whose, subject) || !lists(others, other) {
						continue
					}
					var ports []kernel.Range
					for _, p := range f.Ports {
						ports = append(ports, kernel.Range(p))
					}
					flowing := k.Governing(opposite, eval.PartyAt(ix, other.address).End(ix)).Ports(eval.PartyAt(ix, subject.address).End(ix)).Intersect(kernel.PortsOf(ports...))
					if f.OtherEndShuts != (len(flowing) == 0) {
						t.Fatalf("%s of %s with %s: the other end lets %s of %v through; told %t", f.Direction, subject, other, flowing, f.Ports, f.OtherEndShuts)
					}
				}
			}
		}
	})
}

func told(r *diff.Report, l diff.Layer, d model.Direction, subject, other party, p diff.PortRange) (out map[string]bool, unsure bool) {
	out = map[string]bool{}
	for _, f := range r.Flips {
		whose, others := f.Callees, f.Callers
		if d == model.Egress {
			whose, others = f.Callers, f.Callees
		}
		holds := slices.ContainsFunc(f.Ports, func(q diff.PortRange) bool { return q.Protocol == p.Protocol && q.From <= p.From && p.From <= q.To })
		if f.Layer != l || f.Direction != d || !holds || !lists(whose, subject) {
			continue
		}
		unsure = unsure || mayMean(others, other)
		if lists(others, other) {
			out[fmt.Sprint(f.Effect, f.Before, f.After)] = true
		}
	}
	return out, unsure
}

// Every pod that could be made is in a class, whatever its labels and wherever its namespace comes from.
func TestEveryStrangerIsCounted(t *testing.T) {
	t.Parallel()
	var parties []party
	for _, app := range []string{"", "a", "b", "c", "d"} {
		for _, tier := range []string{"", "1", "2", "3"} {
			for _, account := range []string{"", "x", "z"} {
				for _, ns := range []party{{namespace: "shop"}, {namespace: "web"}, {namespace: "later"}, {namespace: "later-a", nsLabels: labels.Set{"team": "a"}}, {namespace: "later-b", nsLabels: labels.Set{"team": "b"}}} {
					ns.labels = labels.Set{}
					for k, v := range map[string]string{"app": app, "tier": tier, v1alpha1.LabelServiceAccount: account} {
						if v != "" {
							ns.labels[k] = v
						}
					}
					n := len(parties)
					ns.name, ns.address = fmt.Sprint(ns.namespace, "/stranger-", n), unknown(n)
					parties = append(parties, ns)
				}
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		before := world()
		after := drawWorld(t)
		c := newComparison(before, after, parties, unknown(5000))
		// Where no rule isolates and none denies, there is nothing to tell apart.
		if !slices.ContainsFunc(after.Policies, func(q *model.Policy) bool {
			return !q.DryRun && q.IsolatesIngress && q.Action == model.Allow && q.Namespace == "shop" && q.Selector.Matches(labels.Set{"app": "a", "tier": "1"})
		}) {
			return
		}
		known := c.found.Known(c.before.WorkloadOf("shop", "cart-one"))
		for _, p := range parties {
			if !known(matching(c.evalBefore, c.evalAfter, p)) {
				t.Fatalf("%s is in no class", p)
			}
		}
	})
}

func FuzzFlips(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		before := drawWorld(t)
		after := drawEdit(t, before)
		c := newComparison(before, after, drawStrangers(t, 4), unknown(77))
		if err := c.l7(rapid.SliceOfN(rapid.Custom(drawRequest), 4, 4).Draw(t, "requests")); err != nil {
			t.Fatal(err)
		}
		if err := c.l4(); err != nil {
			t.Fatal(err)
		}
	}))
}

// cart is a policy for the pods of app=a in shop.
func cart(action model.Action, rules ...model.Rule) *model.Policy {
	return &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "cart-" + strings.ToLower(string(action))}, Action: action, Selector: labels.SelectorFromSet(labels.Set{"app": "a"}),
		IsolatesIngress: true, Ingress: rules, Accepted: true,
	}
}

func compare(before, after *model.Snapshot) *diff.Report {
	var indexer model.Indexer
	return diff.Compare(indexer.Index(before), indexer.Index(after))
}

func withPolicies(policies ...*model.Policy) *model.Snapshot {
	s := world()
	s.Policies = policies
	return s
}

// What is guarded is what was guarded before the edit, and only what opens of it is told.
func TestGuarded(t *testing.T) {
	t.Parallel()
	from := func(app string) model.Rule {
		return model.Rule{Name: app, Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{"app": app})}}}
	}
	guard := func(s *model.Snapshot, ns string) *model.Snapshot {
		for i := range s.Namespaces {
			s.Namespaces[i].Guarded = s.Namespaces[i].Name == ns
		}
		return s
	}
	policyThatGuards := func(p *model.Policy) *model.Policy { p.Guarded = true; return p }
	elsewhere := policyThatGuards(&model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: "guard"}, Action: model.Deny, Selector: labels.SelectorFromSet(labels.Set{"app": "b"})})
	for name, test := range map[string]struct {
		before, after *model.Snapshot
		want          []string
	}{
		"nothing is guarded": {withPolicies(cart(model.Allow)), withPolicies(cart(model.Allow, from("b"))), nil},
		"a namespace is":     {guard(withPolicies(cart(model.Allow)), "shop"), guard(withPolicies(cart(model.Allow, from("b"))), "shop"), []string{"Namespace shop"}},
		"another is":         {guard(withPolicies(cart(model.Allow)), "web"), guard(withPolicies(cart(model.Allow, from("b"))), "web"), nil},
		"a policy guards":    {withPolicies(policyThatGuards(cart(model.Allow))), withPolicies(policyThatGuards(cart(model.Allow, from("b")))), []string{"L7Policy shop/cart-allow"}},
		"it goes as well":    {withPolicies(policyThatGuards(cart(model.Allow))), withPolicies(), []string{"L7Policy shop/cart-allow"}},
		"it comes only now":  {withPolicies(cart(model.Allow)), withPolicies(policyThatGuards(cart(model.Allow, from("b")))), nil},
		"it guards others":   {withPolicies(cart(model.Allow), elsewhere), withPolicies(cart(model.Allow, from("b")), elsewhere), nil},
		"it only closes":     {guard(withPolicies(cart(model.Allow, from("b"))), "shop"), guard(withPolicies(cart(model.Allow)), "shop"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flips, complete := diff.Guarded(model.NewIndex(test.before), model.NewIndex(test.after), func() bool { return false })
			var got []string
			for _, f := range flips {
				got = append(got, f.Guards...)
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, slices.Compact(got)); diff != "" || !complete {
				t.Errorf("complete: %t; want, got:\n%s", complete, diff)
			}
		})
	}
}

// Who is told to stop stops, and says so.
func TestGuardedStops(t *testing.T) {
	t.Parallel()
	before := withPolicies(cart(model.Allow))
	before.Namespaces[0].Guarded = true
	asked := 0
	flips, complete := diff.Guarded(model.NewIndex(before), model.NewIndex(world()), func() bool { asked++; return asked > 2 })
	if complete {
		t.Errorf("complete, with %v", flips)
	}
}

// A question that is too large is not answered as if nothing flipped.
func TestTooLargeAQuestionIsTold(t *testing.T) {
	t.Parallel()
	var rules []model.Rule
	for i := range 14 {
		rules = append(rules, model.Rule{Name: fmt.Sprint(i), Peers: []model.Peer{{Pods: labels.SelectorFromSet(labels.Set{fmt.Sprint("key-", i): "x"})}}, Ports: []model.PortRange{{Protocol: model.TCP, From: uint16(i + 1), To: uint16(i + 1)}}})
	}
	report := compare(withPolicies(), withPolicies(cart(model.Allow, rules...)))
	if !slices.ContainsFunc(report.Flips, func(f diff.Flip) bool { return f.Effect == diff.EffectMayFlip }) || !report.Opens() {
		t.Errorf("%+v", report.Flips)
	}
}

// Relabelled, pods are the same workload; those that come or go have no verdict to flip.
func TestWorkloadsThatComeAndGo(t *testing.T) {
	t.Parallel()
	after := withPolicies(cart(model.Allow))
	after.Pods = slices.Clone(after.Pods[1:])
	after.Pods = append(after.Pods, &model.Pod{Namespace: "web", Name: "new-1", Owner: "new", Labels: map[string]string{"app": "a"}})
	r := compare(withPolicies(cart(model.Allow)), after)
	if len(r.Flips) > 0 || !slices.Equal(r.Added, []string{"web/new"}) || !slices.Equal(r.Removed, []string{"shop/cart"}) {
		t.Errorf("%+v", r)
	}
	after = withPolicies(cart(model.Allow))
	after.Pods[0].Labels = map[string]string{"app": "z"} // out of the policy's reach
	r = compare(withPolicies(cart(model.Allow)), after)
	if !r.Opens() || len(r.Added) > 0 || len(r.Removed) > 0 || r.Flips[0].Callees.Workloads[0] != "shop/cart" {
		t.Errorf("%+v", r)
	}
}

// Pods of one name and other labels are told apart.
func TestNamesTellWorkloadsApart(t *testing.T) {
	t.Parallel()
	before, after := withPolicies(), withPolicies(cart(model.Allow))
	for _, s := range []*model.Snapshot{before, after} {
		for i := range s.Pods[:2] {
			s.Pods[i].Owner = "cart"
		}
		s.Policies = append(s.Policies, &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: "z"}, Action: model.Deny, Selector: labels.SelectorFromSet(labels.Set{"tier": "1"}), IsolatesIngress: true, Ingress: []model.Rule{{Name: "0"}}})
	}
	r := compare(before, after)
	for _, f := range r.Flips {
		if !slices.Equal(f.Callees.Workloads, []string{"shop/cart"}) {
			t.Errorf("%s", f.Callees)
		}
	}
}
