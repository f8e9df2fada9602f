package netpol

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Builder builds the companions of one snapshot after another, and keeps those of a policy while everything that they were built from is the same. The zero
// value is ready. Not safe for concurrent use; what it returns is.
type Builder struct{ kept map[string]*kept }

// kept is what a policy's companions were built from, and what came out.
type kept struct {
	policy     model.Policy
	others     []model.Policy // the policies of its namespace that decide with it; copies, since a pointer would keep its whole snapshot alive
	mesh       model.Mesh
	grouping   []*model.Workload
	companions []Companion
	found      []model.Diagnostic
}

// same compares by identity, not by content: snapshots share what did not change, and nothing in them is changed after they are built.
func (k *kept) same(o *kept) bool {
	return samePolicy(&k.policy, &o.policy) && slices.EqualFunc(k.others, o.others, func(a, b model.Policy) bool { return samePolicy(&a, &b) }) && sameMesh(&k.mesh, &o.mesh) && sameSlice(k.grouping, o.grouping)
}

func samePolicy(a, b *model.Policy) bool {
	return a.PolicyRef == b.PolicyRef && a.Action == b.Action && a.DryRun == b.DryRun && a.IsolatesIngress == b.IsolatesIngress &&
		a.IsolatesEgress == b.IsolatesEgress && sameSlice(a.Ingress, b.Ingress) && sameSlice(a.Egress, b.Egress) && sameSelector(a.Selector, b.Selector)
}

// sameMesh compares what plumbing is made of.
func sameMesh(a, b *model.Mesh) bool {
	return sameSlice(a.DNS, b.DNS) && sameSlice(a.ControlPlane, b.ControlPlane) && a.ControlPlanePort == b.ControlPlanePort && sameSlice(a.Metrics, b.Metrics) &&
		slices.Equal(a.MetricsPorts, b.MetricsPorts)
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sameSelector: a parsed selector is a list of requirements; any other is compared by its words.
func sameSelector(a, b labels.Selector) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() == reflect.Slice && y.Kind() == reflect.Slice {
		return x.Len() == y.Len() && (x.Len() == 0 || x.Pointer() == y.Pointer())
	}
	return x.Type() == y.Type() && a.String() == b.String()
}

// build returns the companions of one policy, kept or new.
func (x *Builder) build(b *builder, p *model.Policy) *kept {
	k := &kept{policy: *p, mesh: b.ix.Snapshot.Mesh, grouping: b.ix.Workloads}
	for _, o := range b.byNamespace[p.Namespace] {
		// An Allow's companions leave out what the Denies refuse; a Deny's leave alone the pods that an Allow isolates.
		if o.Action == model.Deny || p.Action == model.Deny {
			k.others = append(k.others, *o)
		}
	}
	if old := x.kept[p.Namespace+"/"+p.Name]; old != nil && old.same(k) {
		return old
	}
	b.companions, b.found = nil, nil
	b.policy(p)
	k.companions, k.found = b.companions, b.found
	return k
}
