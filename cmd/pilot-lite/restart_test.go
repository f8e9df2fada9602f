package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A pod is to be created again where it would be given something else now, or will soon trust the control plane no more.
func TestRestartReason(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	given := kube.Images{Capture: "pilot-lite:2", Proxy: "envoy:1.40.0"}
	const old = "it was created more than 640 days ago, and a sidecar trusts the control plane for 730"
	for _, c := range []struct {
		runs, given kube.Images
		age         time.Duration
		want        string
	}{
		{given, given, day, ""},
		{given, given, 640 * day, ""},
		{given, given, 641 * day, old},
		{given, kube.Images{}, day, ""}, // it does not inject
		{kube.Images{Capture: "pilot-lite:2", Proxy: "envoy:1.39.1"}, given, day, "the sidecar is envoy:1.39.1, and new pods get envoy:1.40.0"},
		{kube.Images{Capture: "pilot-lite:1", Proxy: "envoy:1.40.0"}, given, day, "the capture is pilot-lite:1, and new pods get pilot-lite:2"},
		{
			kube.Images{Capture: "pilot-lite:1", Proxy: "envoy:1.39.1"},
			given,
			800 * day,
			"the sidecar is envoy:1.39.1, and new pods get envoy:1.40.0; the capture is pilot-lite:1, and new pods get pilot-lite:2; " + old,
		},
	} {
		if got := restartReason(c.runs, c.given, c.age); got != c.want {
			t.Errorf("%v, %v, %s: got %q, want %q", c.runs, c.given, c.age, got, c.want)
		}
	}
}

// Whom to restart is told by workload and reason, and not at all where there is nobody.
func TestRestartsAreTold(t *testing.T) {
	t.Parallel()
	proxies := []xds.ProxyStatus{
		{Node: "shop/web-1", Workload: "shop/web", Restart: "old"},
		{Node: "shop/cart-1", Workload: "shop/cart"},
		{Node: "shop/web-2", Workload: "shop/web", Restart: "old"},
		{Node: "shop/web-3", Workload: "shop/web", Restart: "older"},
		{Node: "shop/lost", Restart: "old\n"},
	}
	var out bytes.Buffer
	printRestarts(&out, proxies)
	if diff := cmp.Diff("\nRESTART\tPROXIES\tWHY\nshop/lost\t1\told\nshop/web\t2\told\nshop/web\t1\tolder\n", out.String()); diff != "" {
		t.Error("(-want +got)", diff)
	}
	out.Reset()
	printRestarts(&out, proxies[1:2])
	if out.Len() > 0 {
		t.Errorf("nobody: %q", &out)
	}
}
