// Package translate turns a snapshot into what the two fences run: per workload the Envoy resources of its sidecar, per policy the companion
// NetworkPolicies. Pure. Input: a model.Index. Output: an Output. One entry point: Translator.Translate (Translate without a memo).
package translate

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// Output is everything that a snapshot asks of proxies and kernels.
type Output struct {
	Workloads   []WorkloadOutput // sorted by workload key
	Companions  []netpol.Companion
	Selections  []*model.Selection // all policies, and whom each selects; sorted by namespace and name
	Diagnostics []model.Diagnostic // those of the snapshot included; each once, sorted
}

// WorkloadOutput is the configuration of the sidecars of one workload.
type WorkloadOutput struct {
	Workload *model.Workload
	// Resources are clusters, listeners and slots. Slots stand in the order in which they must reach a proxy: a workload that becomes governed
	// first waits for its callers' bytes and then refuses, one that becomes free is opened first and then connects at once.
	Resources []Resource
}

// Resource is one xDS message: a listenerv3.Listener, a clusterv3.Cluster or a corev3.TypedExtensionConfig. An unchanged resource is the same
// message (pointer) from one Translate of a Translator to the next, so that it is marshalled once. Workloads share messages, too.
type Resource struct {
	Message  proto.Message
	Policies []model.PolicyRef // the policies whose generation it was built from; slots only
}

// Translate is a Translator's first Translate.
func Translate(ix *model.Index) *Output { return new(Translator).Translate(ix) }

// Translator remembers what it built, by the exact argument it built it from, and which workloads nothing changed for, so that those cost a look. The zero value is ready.
// Not safe for concurrent use.
type Translator struct {
	compiler  rbac.Compiler
	slots     memo[digest, rbac.Slots]
	listeners memo[digest, resources]
	connects  memo[connectInput, *corev3.TypedExtensionConfig]
	netpol    netpol.Builder

	selections model.Selections
	grouping   *model.Grouping // of the snapshot before
	policies   map[*model.Policy]*policyState
	workloads  map[*model.Workload]*workloadState
	scrapers   scrapers
	reported   reported
	round      uint64
}

// Translate builds the output of a snapshot.
func (t *Translator) Translate(ix *model.Index) *Output {
	t.round++
	r := &run{translator: t, ix: ix, parts: make([]findings, 0, len(t.reported.parts)+1)}
	selections := t.selections.Of(ix)
	r.readPolicies(selections)
	r.readers = r.metrics()
	out := &Output{Workloads: make([]WorkloadOutput, 0, len(ix.Workloads)), Selections: selections}
	for _, w := range ix.Workloads {
		out.Workloads = append(out.Workloads, r.output(w))
	}
	companions, found := t.netpol.BuildFor(ix, selections)
	out.Companions = companions
	out.Diagnostics = t.reported.sorted(slices.Concat(ix.Snapshot.Diagnostics, found), r.parts)
	t.grouping = ix.Grouping
	t.sweep(len(selections), len(ix.Workloads))
	return out
}

// resources are messages that were built together.
type resources []proto.Message

// run is one Translate.
type run struct {
	translator *Translator
	ix         *model.Index
	findings   findings   // of the policy or workload that is looked at
	parts      []findings // of all that have any
	readers    *corev3.TypedExtensionConfig
	// Scratch, kept from one workload to the next.
	inbound      inbound
	key, slotKey encoder
	meant        []meant
	lowered      []*rbac.Lowered
}

// build makes the resources of a workload.
func (r *run) build(s *workloadState, w *model.Workload) []Resource {
	policies := s.governing
	r.inbound.describe(w, s.http)
	r.reportPorts(w, policies)
	listeners := r.listeners(s)
	slots, refs := r.slots(s, w), refsOf(policies)
	r.findings.add(slots.Diagnostics...)

	out := make([]Resource, 0, len(listeners)+max(1, len(r.inbound.Bound))+2)
	for _, m := range listeners {
		out = append(out, Resource{Message: m})
	}
	s.connects = s.connects[:0]
	if isGoverned(policies) {
		out = r.appendConnects(out, s, connectOnFirstByte, refs)
		out = r.appendRBAC(out, slots, refs)
	} else {
		out = r.appendRBAC(out, slots, refs)
		out = r.appendConnects(out, s, connectAtOnce, refs)
	}
	if s.readers != nil {
		out = append(out, Resource{Message: s.readers})
	}
	return out
}

// appendRBAC adds the slots that a chain holds. No proxy would ask for another, and its enforcement would be waited for without end.
func (r *run) appendRBAC(out []Resource, slots rbac.Slots, refs []model.PolicyRef) []Resource {
	if r.inbound.has(chainHTTP) {
		out = append(out, Resource{slots.HTTP, refs})
	}
	if r.inbound.has(chainTCP, chainServerFirst) {
		out = append(out, Resource{slots.TCP, refs})
	}
	return out
}

// isGoverned says whether any policy decides about the workload's connections: one that is only tried out does not.
func isGoverned(policies []*resolvedPolicy) bool {
	return slices.ContainsFunc(policies, func(p *resolvedPolicy) bool { return !p.policy.DryRun })
}

func (r *run) listeners(s *workloadState) resources {
	r.key = r.key[:0]
	r.key.inbound(&r.inbound)
	s.listeners = r.key.digest()
	built, found := r.translator.listeners.lookup(s.listeners)
	if !found {
		built = r.inbound.build()
		r.translator.listeners.store(s.listeners, built)
	}
	return built
}

func (r *run) appendConnects(out []Resource, s *workloadState, mode connectMode, refs []model.PolicyRef) []Resource {
	for name, cluster := range r.inbound.connectSlots() {
		key := connectInput{slot: name, cluster: cluster, mode: mode}
		s.connects = append(s.connects, key)
		built, found := r.translator.connects.lookup(key)
		if !found {
			built = connectSlot(key)
			r.translator.connects.store(key, built)
		}
		out = append(out, Resource{built, refs})
	}
	return out
}
