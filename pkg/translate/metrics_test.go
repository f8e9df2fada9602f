package translate_test

import (
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// scraped is a world in which pods labelled so may read metrics.
func scraped(reader string, ports ...uint16) *model.Snapshot {
	pod := func(name, address string, injected bool) *model.Pod {
		return &model.Pod{
			Namespace: "shop", Name: name, Labels: map[string]string{"app": name}, Addresses: []netip.Addr{netip.MustParseAddr(address)},
			Proxy: model.ProxySettings{Injected: injected},
		}
	}
	return &model.Snapshot{
		Namespaces: []model.Namespace{{Name: "shop"}},
		Pods:       []*model.Pod{pod("cart", "10.0.0.1", true), pod("prometheus", "10.0.0.2", false)},
		Mesh: model.Mesh{
			Metrics: []model.Peer{{Namespaces: labels.Everything(), Pods: labels.SelectorFromSet(labels.Set{"app": reader})}}, MetricsPorts: ports,
		},
	}
}

// metricsSlots are the slots of the metrics, by workload.
func metricsSlots(o *translate.Output) map[string]*corev3.TypedExtensionConfig {
	out := map[string]*corev3.TypedExtensionConfig{}
	for _, w := range o.Workloads {
		for _, r := range w.Resources {
			if slot, is := r.Message.(*corev3.TypedExtensionConfig); is && slot.GetName() == model.MetricsSlot {
				out[w.Workload.Name] = slot
			}
		}
	}
	return out
}

// Sidecars are told who may read their metrics; where nobody may, they are told nothing, and let nobody in.
func TestMetricsSlot(t *testing.T) {
	t.Parallel()
	readers := new(rbac.Compiler).Metrics(&rbac.Sources{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}})
	nobody := scraped("prometheus", model.MetricsPort)
	nobody.Mesh.Metrics = nil
	for name, c := range map[string]struct {
		world *model.Snapshot
		want  map[string]*corev3.TypedExtensionConfig
	}{
		"scrapers":                       {scraped("prometheus", model.MetricsPort), map[string]*corev3.TypedExtensionConfig{"cart": readers}},
		"no scrapers":                    {nobody, nil},
		"scrapers that do not run":       {scraped("grafana", model.MetricsPort), nil},
		"scrapers of applications alone": {scraped("prometheus", 9090), nil},
	} {
		want := c.want
		if want == nil {
			want = map[string]*corev3.TypedExtensionConfig{}
		}
		if diff := cmp.Diff(want, metricsSlots(translate.Translate(model.NewIndex(c.world))), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The slot is the same message until the scrapers are others.
func TestMetricsSlotFollowsTheScrapers(t *testing.T) {
	t.Parallel()
	var indexer model.Indexer
	var translator translate.Translator
	slot := func(s *model.Snapshot) *corev3.TypedExtensionConfig {
		return metricsSlots(translator.Translate(indexer.Index(s)))["cart"]
	}
	first := slot(scraped("prometheus", model.MetricsPort))
	if first == nil {
		t.Fatal("no slot")
	}
	more := scraped("prometheus", model.MetricsPort)
	more.Pods = append(more.Pods, &model.Pod{Namespace: "shop", Name: "web", Labels: map[string]string{"app": "web"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}})
	if slot(more) != first {
		t.Error("another message, though the scrapers are the same")
	}
	moved := scraped("prometheus", model.MetricsPort)
	moved.Pods[1].Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.4")}
	second := slot(moved)
	want := new(rbac.Compiler).Metrics(&rbac.Sources{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.4")}})
	if diff := cmp.Diff(want, second, protocmp.Transform()); diff != "" {
		t.Errorf("the scraper has another address (-want +got):\n%s", diff)
	}
	gone := scraped("prometheus", model.MetricsPort)
	gone.Pods = gone.Pods[:1]
	if got := slot(gone); got != nil {
		t.Errorf("the scraper is gone: %v", got)
	}
	if diff := cmp.Diff(want, slot(moved), protocmp.Transform()); diff != "" {
		t.Errorf("the scraper is back (-want +got):\n%s", diff)
	}
}
