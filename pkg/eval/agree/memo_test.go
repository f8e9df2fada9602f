package agree_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// follows is a checker that follows a cluster from edit to edit.
type follows struct {
	t       *rapid.T
	checker agree.Checker
	indexer model.Indexer
	builder netpol.Builder
}

// check compares what the checker finds with what one without a memory does. lacks says which companions do not stand.
func (f *follows) check(s *model.Snapshot, lacks func(policy string) bool) {
	ix := f.indexer.Index(s)
	var companions []agree.Companion
	built, _ := f.builder.Build(ix)
	for _, c := range built {
		if !c.DryRun && !lacks(c.Policy.Name) {
			companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
		}
	}
	got, want := f.checker.Check(ix, companions), new(agree.Checker).Check(model.NewIndex(s), companions)
	if diff := cmp.Diff(want.Workloads, got.Workloads, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreUnexported(agree.Workload{})); diff != "" {
		f.t.Fatalf("workloads (-without a memory +with):\n%s", diff)
	}
	for i := range s.Policies {
		ref := s.Policies[i].PolicyRef
		if diff := cmp.Diff(want.Verdict(ref), got.Verdict(ref), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			f.t.Fatalf("policy %s (-without a memory +with):\n%s", ref.Name, diff)
		}
	}
}

// A checker that remembers finds what one without a memory finds, whatever was edited since.
func TestACheckerForgetsNothingThatDecides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := &follows{t: t}
		s := netpoltest.Cluster(t)
		for range rapid.IntRange(2, 8).Draw(t, "edits") {
			f.check(s, func(string) bool { return rapid.IntRange(0, 9).Draw(t, "missing") == 0 })
			s = netpoltest.EditCluster(t, s)
		}
	})
}

// So it does where edits change the words of requests and little else, be they such as no request satisfies, and whatever denies stand beside.
func TestACheckerNoticesTheWordsThatDecide(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := &follows{t: t}
		s := netpoltest.Cluster(t)
		lacks := rapid.SampledFrom([]string{"", "", "p0", "p1"}).Draw(t, "missing")
		for range rapid.IntRange(2, 8).Draw(t, "edits") {
			f.check(s, func(policy string) bool { return policy == lacks })
			if len(s.Policies) == 0 || rapid.IntRange(0, 5).Draw(t, "other") == 0 {
				s = netpoltest.EditCluster(t, s)
				continue
			}
			s = rephrased(t, s)
		}
	})
}

// rephrased has a policy say something else of requests, or, now and then, of one thing more.
func rephrased(t *rapid.T, s *model.Snapshot) *model.Snapshot {
	next := *s
	next.Policies = slices.Clone(s.Policies)
	at := rapid.IntRange(0, len(s.Policies)-1).Draw(t, "rephrased")
	p := *next.Policies[at]
	next.Policies[at] = &p
	p.Generation++
	p.Ingress = slices.Clone(p.Ingress)
	for i := range p.Ingress {
		r := &p.Ingress[i]
		if r.HTTP != nil {
			r.HTTP = rapid.SliceOfN(rapid.Custom(match), 1, 2).Draw(t, "matches")
		}
		switch rapid.IntRange(0, 30).Draw(t, "more") {
		case 0:
			r.Ports = []model.PortRange{{Protocol: model.TCP, From: 80, To: 80}}
		case 1:
			r.Peers = []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("10.244.0.0/24")}}}
		case 2:
			r.Peers = nil
		case 3:
			r.HTTP = nil
		case 4:
			r.HTTP = []model.HTTPMatch{{}}
		case 5:
			p.Action = map[model.Action]model.Action{model.Allow: model.Deny, model.Deny: model.Allow}[p.Action]
		case 6:
			p.DryRun = !p.DryRun
		case 7:
			p.Selector = labels.Everything()
		}
	}
	return &next
}

// match is one that requests in its own words may well not satisfy, or that none does.
func match(t *rapid.T) model.HTTPMatch {
	m := netpoltest.HTTPMatch(t)
	switch rapid.IntRange(0, 5).Draw(t, "hard") {
	case 0:
		m.Paths = []model.PathMatch{{Type: model.Regex, Value: "/[^/]+/x"}}
	case 1:
		m.Headers = []model.HeaderMatch{{Name: "x-a", Type: model.Present}, {Name: "x-a", Type: model.Absent}}
	case 2:
		m.Paths = []model.PathMatch{{Type: model.Exact, Value: "/a%252e"}}
	}
	return m
}

// An edit of the words of requests costs a look at each callee: what was found stays the very same.
func TestAnEditOfTheWordsOfRequestsFindsNothingAnew(t *testing.T) {
	t.Parallel()
	s := crowd()
	var r rig
	var checker agree.Checker
	before := checker.Check(r.inputs(s))
	next := *s
	next.Policies = slices.Clone(s.Policies)
	p := *next.Policies[0] // which selects everybody
	next.Policies[0] = &p
	p.Generation++
	p.Ingress = slices.Clone(p.Ingress)
	p.Ingress[0].HTTP = []model.HTTPMatch{{Methods: []string{"PUT"}}}
	after := checker.Check(r.inputs(&next))
	for i, w := range after.Workloads {
		if was := before.Workloads[i]; !model.SameSlice(was.Access, w.Access) || len(w.Access) == 0 {
			t.Errorf("%s was looked at", w.Key)
		}
		if w.Policies[0] != p.PolicyRef {
			t.Errorf("%s speaks of %+v, want %+v", w.Key, w.Policies[0], p.PolicyRef)
		}
	}
}
