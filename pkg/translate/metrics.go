package translate

import (
	"reflect"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// scrapers are who may read the sidecars' metrics, and what that was found from.
type scrapers struct {
	peers    []model.Peer
	grouping *model.Grouping
	sources  *rbac.Sources
	slot     *corev3.TypedExtensionConfig // nil: nobody may
}

// metrics is the slot of the sidecars' metrics: the same message while it lets in the same callers. The companions open the port to the same peers where a pod is
// isolated; the sidecar asks who it is in every pod, since one that is open to its callers does not thereby show its statistics to them. Nil where nobody may: the
// place in the bootstrap then lets nobody in.
func (r *run) metrics() *corev3.TypedExtensionConfig {
	mesh, last := &r.ix.Snapshot.Mesh, &r.translator.scrapers
	if len(mesh.Metrics) == 0 || !slices.Contains(mesh.MetricsPorts, model.MetricsPort) {
		*last = scrapers{}
		return nil
	}
	if last.grouping == r.ix.Grouping && reflect.DeepEqual(last.peers, mesh.Metrics) {
		return last.slot
	}
	sources, somebody := r.sources("", mesh.Metrics)
	switch {
	case !somebody:
		sources, last.slot = nil, nil
	case last.slot == nil || !reflect.DeepEqual(last.sources, sources):
		last.slot = r.translator.compiler.Metrics(sources)
	}
	last.peers, last.grouping, last.sources = mesh.Metrics, r.ix.Grouping, sources
	return last.slot
}
