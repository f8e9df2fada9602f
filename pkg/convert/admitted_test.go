package convert_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Pods that do not run yet are as the injector will make them, where it injects; what runs, or ran, is as it is.
func TestAsAdmitted(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("10.0.0.1")
	in := &model.Snapshot{
		Mesh: model.Mesh{OptOutNamespaces: []string{"legacy"}},
		Namespaces: []model.Namespace{
			{Name: "shop", Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled}},
			{Name: "plain"},
			{Name: "legacy", Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled}},
		},
		Pods: []*model.Pod{
			{Namespace: "shop", Name: "template", Template: true, ServiceAccount: "cart", Labels: map[string]string{"app": "cart"}},
			{Namespace: "shop", Name: "bare", Template: true, ServiceAccount: "default"},
			{Namespace: "shop", Name: "placed", Template: true, ServiceAccount: "default", Addresses: []netip.Addr{address}},
			{Namespace: "shop", Name: "running", Expected: true, ServiceAccount: "cart"},
			{Namespace: "shop", Name: "ended", Ended: true, ServiceAccount: "cart"},
			{Namespace: "shop", Name: "host", Template: true, HostNetwork: true, ServiceAccount: "cart"},
			{Namespace: "shop", Name: "opts-out", Template: true, Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectDisabled}},
			{Namespace: "legacy", Name: "opts-out", Template: true, Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectDisabled}},
			{Namespace: "plain", Name: "template", Template: true, ServiceAccount: "cart"},
		},
	}
	type outcome struct {
		Injected  bool
		Account   string
		Addresses int
		StandsIn  bool
	}
	got := map[string]outcome{}
	for _, p := range convert.AsAdmitted(in).Pods {
		o := outcome{p.Proxy.Injected, p.Labels[v1alpha1.LabelServiceAccount], len(p.Addresses), len(p.Addresses) > 0 && convert.StandsIn(p.Addresses[0])}
		if o.Injected != (p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected) {
			t.Errorf("%s: the label and the setting differ", p.Name)
		}
		got[p.Namespace+"/"+p.Name] = o
	}
	want := map[string]outcome{
		"shop/template": {true, "cart", 1, true}, "shop/bare": {true, "default", 1, true}, "shop/placed": {true, "default", 1, false},
		"shop/running": {}, "shop/ended": {}, "shop/host": {}, "plain/template": {false, "", 1, true}, "legacy/opts-out": {false, "", 1, true},
		"shop/opts-out": {true, "", 1, true}, // the injector refuses to leave it out
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if in.Pods[0].Proxy.Injected || len(in.Pods[0].Labels) > 1 || len(in.Pods[0].Addresses) > 0 {
		t.Errorf("the snapshot that was given changed: %+v", in.Pods[0])
	}
}
