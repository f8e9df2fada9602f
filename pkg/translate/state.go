package translate

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// policyState is what a policy meant last.
type policyState struct {
	selection *model.Selection
	resolved  *resolvedPolicy  // nil where it does not govern anybody's ingress
	workloads []*workloadState // those that it governs
	found     findings
	round     uint64
}

// workloadState is what was built for a workload last, and from what. The workload is its key: one that changed is another pointer.
type workloadState struct {
	governing []*resolvedPolicy
	http      model.HTTPDefaults
	readers   *corev3.TypedExtensionConfig // the slot of its metrics; nil where it has none
	output    WorkloadOutput               // no resources: not built yet
	found     findings
	// The keys of what was built.
	listeners, slots digest
	connects         []connectInput

	next  []*resolvedPolicy // those that govern it in the present round
	round uint64
}

// readPolicies finds what each policy means, and lists for each workload those that govern it, in the snapshot's order. A policy means what it meant before unless it is
// another, selects others, or names a workload that came, went or changed.
func (r *run) readPolicies(selections []*model.Selection) {
	t := r.translator
	if t.policies == nil {
		t.policies, t.workloads = map[*model.Policy]*policyState{}, map[*model.Workload]*workloadState{}
	}
	var moves []model.Moved
	if t.grouping != nil {
		gone, come := r.ix.Since(t.grouping)
		moves = slices.Concat(gone, come)
	}
	for _, s := range selections {
		state := t.policies[s.Policy]
		if state == nil {
			state = &policyState{}
			t.policies[s.Policy] = state
		}
		if state.selection != s || names(s.Policy, moves) {
			r.readPolicy(state, s)
		}
		state.round = t.round
		r.part(state.found)
		for _, w := range state.workloads {
			w.begin(t.round)
			w.next = append(w.next, state.resolved)
		}
	}
}

// names says whether a policy's ingress rules name a workload that moved.
func names(p *model.Policy, moves []model.Moved) bool {
	if len(moves) > model.FewMoved {
		return true
	}
	return len(moves) > 0 && slices.ContainsFunc(p.Ingress, func(rule model.Rule) bool {
		return slices.ContainsFunc(rule.Peers, func(peer model.Peer) bool {
			return slices.ContainsFunc(moves, func(m model.Moved) bool { return peer.Means(p.Namespace, m) })
		})
	})
}

// readPolicy finds what a policy means now.
func (r *run) readPolicy(state *policyState, s *model.Selection) {
	before := state.resolved
	*state = policyState{selection: s}
	if len(s.Workloads) == 0 {
		d := s.Finding("policy-selects-nothing", model.SeverityNotice, "spec.podSelector")
		d.Consequence = "no pod is selected: the policy has no effect now"
		r.findings.add(d)
	} else if s.IsolatesIngress {
		state.resolved = r.resolve(s.Policy)
		switch {
		case before == nil:
		case before.same != nil && state.resolved.same != nil && before.key == state.resolved.key:
			state.resolved = before
		default:
			state.resolved.lowered, state.resolved.loweredKey = before.lowered, before.loweredKey
		}
		for _, w := range s.Workloads {
			state.workloads = append(state.workloads, r.translator.state(w))
		}
	}
	state.found = r.take()
}

// state is a workload's; a new one where it is not known.
func (t *Translator) state(w *model.Workload) *workloadState {
	s := t.workloads[w]
	if s == nil {
		s = &workloadState{}
		t.workloads[w] = s
	}
	return s
}

// begin forgets the round before.
func (s *workloadState) begin(round uint64) {
	if s.round != round {
		s.round, s.next = round, s.next[:0]
	}
}

// output is a workload's configuration: that of the round before, if the same policies mean the same.
func (r *run) output(w *model.Workload) WorkloadOutput {
	s, mesh, readers := r.translator.state(w), r.ix.Snapshot.Mesh.HTTP, r.readers
	if !w.Proxy.Injected {
		readers = nil // no proxy would ask for it
	}
	s.begin(r.translator.round)
	if s.output.Workload == nil || s.http != mesh || s.readers != readers || !slices.Equal(s.governing, s.next) {
		s.http, s.readers, s.governing = mesh, readers, slices.Clone(s.next)
		s.output = WorkloadOutput{Workload: w, Resources: r.build(s, w)}
		s.found = r.take()
	}
	r.part(s.found)
	return s.output
}

// sweep forgets what is not of the present round.
func (t *Translator) sweep(policies, workloads int) {
	if len(t.policies) > policies {
		for p, s := range t.policies {
			if s.round != t.round {
				delete(t.policies, p)
			}
		}
	}
	if len(t.workloads) > workloads {
		for w, s := range t.workloads {
			if s.round != t.round {
				delete(t.workloads, w)
			}
		}
	}
	t.slots.sweep(func(yield func(digest)) {
		for _, s := range t.workloads {
			yield(s.slots)
		}
	})
	t.listeners.sweep(func(yield func(digest)) {
		for _, s := range t.workloads {
			yield(s.listeners)
		}
	})
	t.connects.sweep(func(yield func(connectInput)) {
		for _, s := range t.workloads {
			for _, key := range s.connects {
				yield(key)
			}
		}
	})
}
