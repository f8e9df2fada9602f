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
	Policies    []model.PolicyRef   // all that there are; sorted by namespace and name
	Selected    [][]*model.Workload // whom each of them selects, in the same order
	Diagnostics []model.Diagnostic  // those of the snapshot included; each once, sorted
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

// Translator remembers what it built, by the exact argument it built it from. The zero value is ready. Not safe for concurrent use.
type Translator struct {
	slots     memo[digest, rbac.Slots]
	listeners memo[digest, resources]
	connects  memo[connectInput, *corev3.TypedExtensionConfig]
	netpol    netpol.Builder
}

// Translate builds the output of a snapshot.
func (t *Translator) Translate(ix *model.Index) *Output {
	r := &run{translator: t, ix: ix, findings: model.Findings{}}
	governing, selected := r.governing()
	out := &Output{Selected: selected, Workloads: make([]WorkloadOutput, 0, len(ix.Workloads))}
	for _, w := range ix.Workloads {
		out.Workloads = append(out.Workloads, WorkloadOutput{Workload: w, Resources: r.workload(w, governing[w])})
	}
	t.slots.sweep()
	t.listeners.sweep()
	t.connects.sweep()
	companions, found := t.netpol.Build(ix)
	out.Companions = companions
	out.Policies = make([]model.PolicyRef, 0, len(ix.Snapshot.Policies))
	for i := range ix.Snapshot.Policies {
		out.Policies = append(out.Policies, ix.Snapshot.Policies[i].PolicyRef)
	}
	r.findings.Add(ix.Snapshot.Diagnostics...)
	r.findings.Add(found...)
	out.Diagnostics = r.findings.Sorted()
	return out
}

// resources are messages that were built together.
type resources []proto.Message

// run is one Translate.
type run struct {
	translator *Translator
	ix         *model.Index
	findings   model.Findings
	// Scratch, kept from one workload to the next: a workload that did not change then costs its key and little more.
	inbound      inbound
	key, slotKey encoder
}

// workload returns the resources of one workload, which the given policies govern.
func (r *run) workload(w *model.Workload, policies []*resolvedPolicy) []Resource {
	r.inbound.describe(w, r.ix.Snapshot.Mesh.HTTP)
	r.reportPorts(w, policies)
	listeners := r.listeners()
	slots, refs := r.slots(policies, w), refsOf(policies)
	r.findings.Add(slots.Diagnostics...)

	out := make([]Resource, 0, len(listeners)+max(1, len(r.inbound.Bound))+2)
	for _, m := range listeners {
		out = append(out, Resource{Message: m})
	}
	if isGoverned(policies) {
		out = r.appendConnects(out, connectOnFirstByte, refs)
		return r.appendRBAC(out, slots, refs)
	}
	out = r.appendRBAC(out, slots, refs)
	return r.appendConnects(out, connectAtOnce, refs)
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

func (r *run) listeners() resources {
	r.key = r.key[:0]
	r.key.inbound(&r.inbound)
	key := r.key.digest()
	built, found := r.translator.listeners.lookup(key)
	if !found {
		built = r.inbound.build()
		r.translator.listeners.store(key, built)
	}
	return built
}

func (r *run) appendConnects(out []Resource, mode connectMode, refs []model.PolicyRef) []Resource {
	for name, cluster := range r.inbound.connectSlots() {
		key := connectInput{slot: name, cluster: cluster, mode: mode}
		built, found := r.translator.connects.lookup(key)
		if !found {
			built = connectSlot(key)
			r.translator.connects.store(key, built)
		}
		out = append(out, Resource{built, refs})
	}
	return out
}
