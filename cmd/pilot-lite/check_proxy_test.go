package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/check"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

func slotAt(state xds.State, policy string) xds.ResourceStatus {
	return xds.ResourceStatus{
		Type: xds.ExtensionConfigType, Name: "l7policy/http", State: state, Desired: "new", Enforced: "old", Refused: "new", Text: "in its\nown words",
		Policies: []model.PolicyRef{{Namespace: "shop", Name: policy, Generation: 3}},
	}
}

// The worst of what a sidecar runs is what is said of it. Nothing but everything acknowledged is enforced.
func TestProxyStates(t *testing.T) {
	t.Parallel()
	enforced := slotAt(xds.StateEnforced, "cart")
	proxies := []xds.ProxyStatus{
		{Node: "shop/fine", Connected: true, Resources: []xds.ResourceStatus{enforced}},
		{Node: "shop/pending", Connected: true, Resources: []xds.ResourceStatus{enforced, slotAt(xds.StatePending, "web")}},
		{Node: "shop/refused", Connected: true, Resources: []xds.ResourceStatus{slotAt(xds.StatePending, "web"), slotAt(xds.StateRefused, "cart")}},
		{Node: "shop/gone", Resources: []xds.ResourceStatus{enforced}},
		{Node: "shop/turned-away", Problem: "too old", Resources: []xds.ResourceStatus{enforced}},
		{Node: "shop/stranger", Connected: true},
	}
	same := map[resourceKey]string{{"slot", "l7policy/http"}: "new"}
	for _, c := range []struct {
		node   string
		source map[resourceKey]string
		want   string
	}{
		{"shop/fine", nil, "enforced"},
		{"shop/fine", same, "enforced"},
		{"shop/fine", map[resourceKey]string{{"slot", "l7policy/http"}: "newer"}, "stale"},
		{"shop/fine", map[resourceKey]string{}, "stale"},
		{"shop/pending", nil, "pending"},
		{"shop/refused", nil, "refused"},
		{"shop/gone", nil, "pending"},
		{"shop/turned-away", nil, "turned away"},
		{"shop/stranger", nil, "shut"},
		{"shop/nobody", nil, "unknown"},
	} {
		if got := reportProxy(c.node, proxies, c.source); got.State != c.want {
			t.Errorf("%s: %s, want %s", c.node, got.State, c.want)
		}
	}
	refused := reportProxy("shop/refused", proxies, nil)
	if diff := cmp.Diff([]proxyPolicy{{"shop/cart", 3, xds.StateRefused}, {"shop/web", 3, xds.StatePending}}, refused.Policies); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	var out bytes.Buffer
	if err := printProxy(&out, refused); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shop/refused: refused: it refused content, and runs what it accepted last", "in its own words", "shop/cart  3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("want %q in\n%s", want, out.String())
		}
	}
}

// A disagreement of the oracles is told loudly, has an exit code of its own, and hides behind no other verdict.
func TestDisagreementIsLoud(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	calls := []call{{answer: check.Answer{}}, {answer: check.Answer{Verdict: model.Verdict{Allowed: true}, Disagreement: "one says so, the other not"}}}
	err := new(checkOptions).outcome(streams{err: &told}, calls)
	if got := exitCode(err, "pilot-lite check", io.Discard); got != exitDisagreement {
		t.Errorf("exit code %d, want %d", got, exitDisagreement)
	}
	if text := told.String(); !strings.Contains(text, "THE ORACLES DIFFER") || !strings.Contains(text, "one says so, the other not") || !strings.Contains(text, "please report it") {
		t.Errorf("told: %s", text)
	}
	if got := exitCode(new(checkOptions).outcome(streams{err: &told}, calls[:1]), "pilot-lite check", io.Discard); got != exitFinding {
		t.Errorf("a denied call is exit code %d, want %d", got, exitFinding)
	}
}
