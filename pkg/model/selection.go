package model

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// Selection is a policy and the workloads that it selects.
type Selection struct {
	*Policy // the same pointer while the policy is the same

	Workloads []*Workload
}

// Selections finds whom the policies of one snapshot after another select. Of a policy that did not change, and selects the same workloads as before, the Selection is the
// same pointer. The zero value is ready. Not safe for concurrent use; what it returns is.
type Selections struct {
	grouping *Grouping
	last     []*Selection
}

// FewMoved bounds how many workloads are looked at one by one when it is asked whom a change concerns. Beyond, it is taken to concern everybody.
const FewMoved = 64

// Of returns the selections of the snapshot's policies, in its order.
func (x *Selections) Of(ix *Index) []*Selection {
	var moves []Moved
	known := x.last
	if x.grouping != nil && x.grouping != ix.Grouping {
		gone, come := ix.Since(x.grouping)
		moves = slices.Concat(gone, come)
	}
	anew := len(moves) > FewMoved
	out := make([]*Selection, 0, len(ix.Snapshot.Policies))
	for _, p := range ix.Snapshot.Policies {
		// Both lists are sorted. Where one is not, a policy is taken for a new one.
		for len(known) > 0 && known[0].Compare(&p.PolicyRef) < 0 {
			known = known[1:]
		}
		var old *Selection
		if len(known) > 0 && SamePolicy(known[0].Policy, p) {
			old, known = known[0], known[1:]
		}
		out = append(out, next(ix, p, old, moves, anew))
	}
	x.grouping, x.last = ix.Grouping, out
	return out
}

// next is a policy's selection. The old one, if there is one, was of the same policy.
func next(ix *Index, p *Policy, old *Selection, moves []Moved, anew bool) *Selection {
	if old == nil {
		return &Selection{p, ix.Selected(p)}
	}
	if !anew && !slices.ContainsFunc(moves, func(m Moved) bool { return m.Namespace == p.Namespace && p.Selector.Matches(labels.Set(m.Labels)) }) {
		return old
	}
	selected := ix.Selected(p)
	if slices.Equal(old.Workloads, selected) {
		return old
	}
	return &Selection{old.Policy, selected}
}
