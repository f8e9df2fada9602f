package check_test

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo"
	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/check"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

func bookinfoIndex(t *testing.T) *model.Index {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, bookinfo.Files); err != nil {
		t.Fatal(err)
	}
	loaded, err := filesource.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return model.NewIndex(convert.AsAdmitted(loaded.Snapshot))
}

func bookinfoWorld(t *testing.T) *check.World {
	t.Helper()
	return worldOf(t, bookinfoIndex(t))
}

func worldOf(t testing.TB, ix *model.Index) *check.World {
	t.Helper()
	w, found := check.New(ix, translate.Translate(ix))
	if len(found) > 0 {
		t.Fatal(found)
	}
	return w
}

// ask asks one question about single pods.
func ask(t *testing.T, w *check.World, from, to string, r *model.HTTPRequest) check.Answer {
	t.Helper()
	callers, err := w.Callers(from, "bookinfo")
	if err != nil || len(callers) != 1 {
		t.Fatalf("%s: %v, %v", from, callers, err)
	}
	callees, _, err := w.Callees(to, "bookinfo")
	if err != nil || len(callees) != 1 {
		t.Fatalf("%s: %v, %v", to, callees, err)
	}
	return w.Ask(callers[0], callees[0], r)
}

// Every request of bookinfo's graph, from everybody, gets its verdict with the rule that decides it.
func TestBookinfo(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	names := map[string]string{graph.Outsider: "ip/192.0.2.7"}
	workloads := []string{"ingress", "productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1"}
	for _, name := range workloads {
		names[name] = "deploy/" + name
	}
	connections := graph.Connections()
	for _, q := range graph.Requests() {
		var r *model.HTTPRequest
		if !q.TCP {
			r = &model.HTTPRequest{Method: q.Method, Host: q.App, Path: q.Path}
			for name, values := range q.Header {
				r.Headers = append(r.Headers, model.Header{Name: strings.ToLower(name), Value: values[0]})
			}
		}
		for _, callee := range workloads {
			if !strings.HasPrefix(callee, q.App) {
				continue
			}
			for caller, name := range names {
				if caller == callee {
					continue // it reaches itself
				}
				a := ask(t, w, name, "deploy/"+callee+":"+portText(q.Port), r)
				if a.Disagreement != "" {
					t.Errorf("%s to %s, %s: %s", caller, callee, q.String(), a.Disagreement)
				}
				connects := connections[graph.Connection{From: caller, To: callee, Port: q.Port}]
				want := q.Expected(caller)
				if l7 := a.Trace.Step(eval.StepL7).Verdict; l7.Allowed != want.Allowed || l7.Decider != want.Decider {
					t.Errorf("%s to %s, %s: the sidecar says %+v, want %+v", caller, callee, q.String(), l7, want)
				}
				if a.Verdict.Allowed != (want.Allowed && connects) {
					t.Errorf("%s to %s, %s: %+v, want %+v and to connect: %t", caller, callee, q.String(), a.Verdict, want, connects)
				}
			}
		}
	}
}

// The nearest miss and its first failing term are what the issue of a denied request is answered with.
func TestNearestMiss(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	a := ask(t, w, "deploy/productpage-v1", "deploy/reviews-v1:9080", &model.HTTPRequest{Method: "POST", Host: "reviews:9080", Path: "/reviews/0"})
	if got, want := a.Trace.Step(eval.StepL7).Nearest[0].String(), "rule bookinfo/reviews/productpage-reads: method POST is not in [GET]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Policies look at the x-forwarded-proto that the caller sent and the application sees, not at the one that the sidecar writes over it for itself.
func TestForwardedProto(t *testing.T) {
	t.Parallel()
	ix := bookinfoIndex(t)
	s := *ix.Snapshot
	s.Policies = []*model.Policy{{
		PolicyRef: model.PolicyRef{Namespace: "bookinfo", Name: "https"}, Action: model.Allow, Accepted: true, IsolatesIngress: true, Selector: labels.Everything(),
		Ingress: []model.Rule{{Name: "only", HTTP: []model.HTTPMatch{{Headers: []model.HeaderMatch{{Name: "x-forwarded-proto", Type: model.Exact, Value: "https"}}}}}},
	}}
	w := worldOf(t, model.NewIndex(&s))
	for value, want := range map[string]bool{"https": true, "http": false, "": false} {
		r := &model.HTTPRequest{Method: "GET", Host: "reviews", Path: "/"}
		if value != "" {
			r.Headers = []model.Header{{Name: "x-forwarded-proto", Value: value}}
		}
		a := ask(t, w, "deploy/productpage-v1", "deploy/reviews-v1:9080", r)
		if l7 := a.Trace.Step(eval.StepL7).Verdict; l7.Allowed != want || a.Disagreement != "" {
			t.Errorf("%q: %+v, want %t: %s", value, l7, want, a.Disagreement)
		}
	}
}

// Policies look at the path that the sidecar makes of the one that was sent, and not at all at what it refuses itself.
func TestRequestAsTheSidecarSeesIt(t *testing.T) {
	t.Parallel()
	w := bookinfoWorld(t)
	a := ask(t, w, "deploy/productpage-v1", "deploy/reviews-v1:9080", &model.HTTPRequest{Method: "GET", Host: "reviews", Path: "/x/..//reviews/./0"})
	if !a.Verdict.Allowed || a.Sidecar.Seen.Path != "/reviews/0" {
		t.Errorf("%+v as %+v", a.Verdict, a.Sidecar.Seen)
	}
	a = ask(t, w, "deploy/productpage-v1", "deploy/reviews-v1:9080", &model.HTTPRequest{Method: "GET", Host: "reviews", Path: "/reviews%2f0"})
	if a.Verdict.Allowed || a.Verdict.Decider != check.OutcomeRefused || a.Sidecar.Refusal == nil {
		t.Errorf("%+v, %+v", a.Verdict, a.Sidecar)
	}
	// L3/4 comes first.
	a = ask(t, w, "deploy/details-v1", "deploy/reviews-v1:9080", &model.HTTPRequest{Method: "GET", Host: "reviews", Path: "/reviews%2f0"})
	if a.Verdict.Allowed || a.Verdict.Decider != model.OutcomeDefaultDeny {
		t.Errorf("%+v", a.Verdict)
	}
}

// A configuration that is not what the policies mean is told of, whichever way it errs, and one that cannot be read, too.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	ix := bookinfoIndex(t)
	output := translate.Translate(ix)
	outputOf := func(name string) *translate.WorkloadOutput {
		i := slices.IndexFunc(output.Workloads, func(o translate.WorkloadOutput) bool { return o.Workload.Name == name })
		return &output.Workloads[i]
	}
	details, reviews, ratings := outputOf("details-v1"), outputOf("reviews-v1"), outputOf("ratings-v1")
	details.Resources, reviews.Resources = reviews.Resources, details.Resources
	ratings.Resources = slices.DeleteFunc(slices.Clone(ratings.Resources), func(r translate.Resource) bool { return r.Policies != nil })
	w, _ := check.New(ix, output)
	get := func(path string) *model.HTTPRequest { return &model.HTTPRequest{Method: "GET", Host: "x", Path: path} }
	for name, c := range map[string]struct {
		from, to string
		request  *model.HTTPRequest
		want     string // in the disagreement; "": none
	}{
		"too narrow": {"productpage-v1", "reviews-v1:9080", get("/reviews/0"), "the policies say allow (bookinfo/reviews/productpage-reads), and the generated configuration deny (default-deny)"},
		"too wide":   {"productpage-v1", "reviews-v1:9080", get("/details/0"), "the policies say deny (default-deny), and the generated configuration allow (bookinfo/details/productpage-reads)"},
		"the same":   {"productpage-v1", "reviews-v1:9080", get("/"), ""},
		"no slots":   {"reviews-v2", "ratings-v1:9080", get("/ratings/0"), "the policies say allow"},
	} {
		a := ask(t, w, c.from, c.to, c.request)
		if !strings.Contains(a.Disagreement, c.want) || (a.Disagreement == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, a.Disagreement, c.want)
		}
	}
}

// Over random worlds the oracles agree, and every cell of the matrix is what single questions answer.
func TestOraclesAgreeAndTheMatrixIsExact(t *testing.T) {
	t.Parallel()
	requests := netpoltest.Requests()
	rapid.Check(t, func(t *rapid.T) {
		ix := model.NewIndex(netpoltest.Cluster(t))
		w, _ := check.New(ix, translate.Translate(ix))
		m := w.Matrix()
		byName := map[string][]*model.Workload{}
		for _, each := range ix.Workloads {
			byName[each.Namespace+"/"+each.Name] = append(byName[each.Namespace+"/"+each.Name], each)
		}
		for _, row := range m.Rows {
			if len(byName[row.Callee]) != 1 {
				continue
			}
			callee := byName[row.Callee][0]
			to := check.Callee{Party: eval.WorkloadParty(ix, callee), Port: row.Port, Protocol: model.TCP}
			i := rapid.IntRange(0, len(row.Cells)-1).Draw(t, "caller")
			from, known := callerOf(ix, byName, m.Callers[i].Name)
			if !known || from.Workload == callee || len(callee.Pods) > 1 || from.Workload != nil && len(from.Workload.Pods) > 1 {
				continue // pods of one workload can differ in their addresses
			}
			got := summary(t, w, from, to, rapid.SliceOfN(rapid.SampledFrom(requests), 12, 12).Draw(t, "requests"))
			if !got.fits(row.Cells[i]) {
				t.Fatalf("%s from %s: %s, and single questions say %+v", row.Callee, m.Callers[i].Name, row.Cells[i], got)
			}
		}
	})
}

func callerOf(ix *model.Index, byName map[string][]*model.Workload, name string) (eval.Party, bool) {
	if name == check.Anybody {
		return eval.PartyAt(ix, netip.MustParseAddr("192.0.2.1")), true
	}
	if list := byName[name]; len(list) == 1 {
		return eval.WorkloadParty(ix, list[0]), true
	}
	return eval.Party{}, false
}

// answers sums up single questions about one caller and port.
type answers struct{ l4, seen, some, all bool }

func summary(t *rapid.T, w *check.World, from eval.Party, to check.Callee, requests []*model.HTTPRequest) answers {
	out := answers{all: true}
	if !to.SpeaksHTTP() {
		requests = []*model.HTTPRequest{nil}
	}
	for _, r := range requests {
		a := w.Ask(from, to, r)
		if a.Disagreement != "" {
			t.Fatalf("%s to %s port %d, %+v: %s", from, to.Party, to.Port, r, a.Disagreement)
		}
		out.l4 = a.Trace.Step(eval.StepEgress).Verdict.Allowed && a.Trace.Step(eval.StepIngress).Verdict.Allowed
		out.seen = a.Trace.Step(eval.StepCapture).Applies
		allowed := a.Trace.Step(eval.StepL7).Verdict.Allowed
		out.some, out.all = out.some || allowed, out.all && allowed
	}
	return out
}

func (a answers) fits(cell check.Access) bool {
	switch cell {
	case check.Shut:
		return !a.l4 && (!a.seen || !a.some)
	case check.Open:
		return a.l4 && a.seen && a.all
	case check.Requests:
		return a.l4 && a.seen
	case check.OnlyL4:
		return a.l4 && a.seen && !a.some
	case check.OnlyL7:
		return !a.l4 && a.seen
	case check.NoL7:
		return a.l4 && !a.seen
	}
	return false
}

// The matrix of the example, as it is printed by --all, is what its README draws.
func TestMatrixOfBookinfo(t *testing.T) {
	t.Parallel()
	m := bookinfoWorld(t).Matrix()
	got := map[string][]string{}
	for _, row := range m.Rows {
		for i, access := range row.Cells {
			if access == check.Requests || access == check.Open {
				key := strings.TrimPrefix(row.Callee, "bookinfo/") + ":" + portText(row.Port)
				got[key] = append(got[key], strings.TrimPrefix(m.Callers[i].Name, "bookinfo/"))
			}
		}
	}
	page := []string{"productpage-v1"}
	want := map[string][]string{
		"ingress:80": {check.Anybody}, "ingress:443": {check.Anybody}, "productpage-v1:9080": {"ingress"}, "details-v1:9080": page,
		"reviews-v1:9080": page, "reviews-v2:9080": page, "reviews-v3:9080": page, "ratings-v1:9080": {"productpage-v1", "reviews-v2", "reviews-v3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
