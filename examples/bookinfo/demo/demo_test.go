package main

import (
	"bytes"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// written is the world's YAML with its pods, without a process.
func written(t *testing.T) (*world, *model.Index) {
	t.Helper()
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(w.dir); err == nil {
			t.Errorf("%s is left behind", w.dir)
		}
	})
	loaded, err := filesource.Load([]string{filepath.Join(w.dir, "yaml")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range append(loaded.Problems, loaded.Notices...) {
		t.Errorf("finding: %s", d)
	}
	return w, model.NewIndex(loaded.Snapshot)
}

// The table says what bookinfo needs; the policies must say the same, by the plain reading of what they mean.
func TestPoliciesMeanWhatTheTableExpects(t *testing.T) {
	t.Parallel()
	w, ix := written(t)
	table := graph.Requests()
	edges := 0
	for _, callee := range w.workloads {
		target := ix.WorkloadOf(namespace, callee.name)
		if target == nil {
			t.Fatalf("no workload for pod %s", callee.name)
		}
		for i := range table {
			r := &table[i]
			if r.App != callee.app {
				continue
			}
			for _, caller := range w.callers() {
				want := r.Expected(caller)
				got := eval.Ingress(ix, target, modelRequest(r, w.addressOf(caller)))
				if got.Allowed != want.Allowed || want.Decider != "" && got.Decider != want.Decider {
					t.Errorf("%s from %s to %s: %s by %q, want %s by %q", r, caller, callee.name, graph.Verdict{Allowed: got.Allowed}, got.Decider, want, want.Decider)
				}
				if want.Allowed && !r.TCP && caller != outsider && r.Callers[0] != graph.Anybody {
					edges++
				}
			}
		}
	}
	// ingress to productpage (two requests), productpage to details, three reviews and ratings, two reviews to ratings.
	if want := 9; edges != want {
		t.Errorf("%d edges, want %d: the table lost some", edges, want)
	}
}

// The fence outside the pods lets pass what the graph needs, and nothing else.
func TestCompanionsMeanWhatTheGraphNeeds(t *testing.T) {
	t.Parallel()
	w, ix := written(t)
	found, diagnostics := new(netpol.Builder).Build(ix)
	for _, d := range diagnostics {
		t.Errorf("finding: %s", d)
	}
	var companions []networkingv1.NetworkPolicy
	for _, c := range found {
		companions = append(companions, *c.NetworkPolicy)
	}
	var text bytes.Buffer
	if !w.compareLayers(companions, &output{w: &text}) {
		t.Error(text.String())
	}
}

// modelRequest is a request as a sidecar sees it: with the path normalized.
func modelRequest(r *graph.Request, source netip.Addr) model.Request {
	out := model.Request{Source: source, Port: r.Port}
	if r.TCP {
		return out
	}
	out.HTTP = &model.HTTPRequest{Method: r.Method, Host: "demo", Path: strings.Replace(r.Path, "/reviews/%2e%2e", "", 1)}
	for name, values := range r.Header {
		for _, v := range values {
			out.HTTP.Headers = append(out.HTTP.Headers, model.Header{Name: strings.ToLower(name), Value: v})
		}
	}
	return out
}

// Every workload has an address of its own, and every socket of its own.
func TestSocketsAreApart(t *testing.T) {
	t.Parallel()
	w, _ := written(t)
	seen := map[netip.AddrPort]string{}
	for _, each := range w.workloads {
		for _, p := range each.ports() {
			for _, a := range []netip.AddrPort{each.listen(p), each.application(p)} {
				if other := seen[a]; other != "" {
					t.Errorf("%s is for %s and for %s", a, other, each.name)
				}
				seen[a] = each.name
				if a.Port() < 1024 || !a.Addr().IsLoopback() {
					t.Errorf("%s of %s needs root or is not on loopback", a, each.name)
				}
			}
		}
	}
}

func TestDecider(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]entry{
		"bookinfo/a/b": {Rule: "bookinfo/a/b", Details: "via_upstream"},
		"default-deny": {Rule: nil, Details: "rbac_access_denied_matched_policy[default-deny]"},
		"":             {Rule: "-", Details: "-"},
	} {
		if got := e.decider(); got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}

// A verdict or a rule that is not the expected one must never pass for good.
func TestGood(t *testing.T) {
	t.Parallel()
	plain, unread := &graph.Request{Method: http.MethodGet}, &graph.Request{TCP: true}
	for name, c := range map[string]struct {
		sent sent
		want bool
	}{
		"as expected":             {sent{request: plain, got: graph.Verdict{Allowed: true, Decider: "a"}, expected: graph.Verdict{Allowed: true, Decider: "a"}}, true},
		"other verdict":           {sent{request: plain, got: graph.Verdict{Allowed: false, Decider: "a"}, expected: graph.Verdict{Allowed: true, Decider: "a"}}, false},
		"other rule":              {sent{request: plain, got: graph.Verdict{Allowed: true, Decider: "b"}, expected: graph.Verdict{Allowed: true, Decider: "a"}}, false},
		"no rule":                 {sent{request: plain, got: graph.Verdict{Allowed: true, Decider: ""}, expected: graph.Verdict{Allowed: true, Decider: "a"}}, false},
		"allowed connection":      {sent{request: unread, got: graph.Verdict{Allowed: true, Decider: ""}, expected: graph.Verdict{Allowed: true, Decider: "a"}}, true},
		"denied without a reason": {sent{request: unread, got: graph.Verdict{Allowed: false, Decider: ""}, expected: graph.Verdict{Allowed: false, Decider: "a"}}, false},
	} {
		if got := c.sent.good(); got != c.want {
			t.Errorf("%s: good is %t, want %t", name, got, c.want)
		}
	}
}
