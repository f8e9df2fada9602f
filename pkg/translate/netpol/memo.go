package netpol

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Builder builds the companions of one snapshot after another, and keeps those of a policy while everything that they were built from is the same: an edit of what
// requests may say keeps them all. The zero value is ready. Not safe for concurrent use; what it returns is.
type Builder struct {
	selections model.Selections // where nobody else finds them
	views      []view           // of the round before
	namespaces map[string]*namespace
	opened     *plumbing
	kept       map[*model.Policy]*kept
	round      uint64
	companions []Companion // all of them, sorted
	owners     []*kept     // whose they are
}

// from is what a policy's companions are built from. It is compared by identity: what is the same pointer says the same.
type from struct {
	selection *model.Selection
	enforced  *[]*model.Policy    // the policies of its namespace, where they decide with it
	denies    *[]*model.Selection // the Denies among those, and whom they select
	opened    *plumbing
}

// kept is what was built, and from what.
type kept struct {
	from

	grouping   *model.Grouping // nil where other workloads decide nothing
	companions []Companion
	found      []model.Diagnostic
	round      uint64
	dropped    bool
}

// namespace is the enforced policies of a namespace. Each list is the same pointer while it lists the same.
type namespace struct {
	enforced *[]*model.Policy
	denies   *[]*model.Selection
	// of the round that is being read
	policies   []*model.Policy
	selections []*model.Selection
	round      uint64
}

// sameMesh compares what plumbing is made of.
func sameMesh(a, b *model.Mesh) bool {
	return model.SameSlice(a.DNS, b.DNS) && model.SameSlice(a.ControlPlane, b.ControlPlane) && a.ControlPlanePort == b.ControlPlanePort && model.SameSlice(a.Metrics, b.Metrics) &&
		slices.Equal(a.MetricsPorts, b.MetricsPorts)
}

// Build returns the companions of every policy, sorted by namespace and name.
func (x *Builder) Build(ix *model.Index) ([]Companion, []model.Diagnostic) {
	return x.BuildFor(ix, x.selections.Of(ix))
}

// BuildFor is Build where it is known whom the policies select.
func (x *Builder) BuildFor(ix *model.Index, selections []*model.Selection) ([]Companion, []model.Diagnostic) {
	x.round++
	selections = x.viewed(selections)
	x.readNamespaces(selections)
	x.opened = plumbingOf(ix, x.opened)
	if x.kept == nil {
		x.kept = map[*model.Policy]*kept{}
	}
	var fresh []*kept
	var found []model.Diagnostic
	for _, s := range selections {
		k, isFresh := x.build(ix, s)
		if isFresh {
			fresh = append(fresh, k)
		}
		k.round = x.round
		found = append(found, k.found...)
	}
	gone := len(x.kept) > len(selections)
	if gone {
		for p, k := range x.kept {
			if k.round != x.round {
				k.dropped = true
				delete(x.kept, p)
			}
		}
	}
	if gone || len(fresh) > 0 {
		x.merge(fresh)
	}
	return x.companions, found
}

// readNamespaces lists the enforced policies of each namespace.
func (x *Builder) readNamespaces(selections []*model.Selection) {
	if x.namespaces == nil {
		x.namespaces = map[string]*namespace{}
	}
	var ns *namespace
	for i, s := range selections {
		if i == 0 || selections[i-1].Namespace != s.Namespace {
			ns = x.namespace(s.Namespace)
		}
		if s.DryRun {
			continue
		}
		ns.policies = append(ns.policies, s.Policy)
		if s.Action == model.Deny {
			ns.selections = append(ns.selections, s)
		}
	}
	for name, ns := range x.namespaces {
		if ns.round != x.round {
			delete(x.namespaces, name)
			continue
		}
		if ns.enforced == nil || !slices.Equal(*ns.enforced, ns.policies) {
			list := slices.Clone(ns.policies)
			ns.enforced = &list
		}
		if ns.denies == nil || !slices.Equal(*ns.denies, ns.selections) {
			list := slices.Clone(ns.selections)
			ns.denies = &list
		}
	}
}

func (x *Builder) namespace(name string) *namespace {
	ns := x.namespaces[name]
	if ns == nil {
		ns = &namespace{}
		x.namespaces[name] = ns
	}
	if ns.round != x.round {
		ns.round, ns.policies, ns.selections = x.round, ns.policies[:0], ns.selections[:0]
	}
	return ns
}

// build returns the companions of one policy, kept or new.
func (x *Builder) build(ix *model.Index, s *model.Selection) (k *kept, fresh bool) {
	ns := x.namespaces[s.Namespace]
	with := from{selection: s, denies: ns.denies, opened: x.opened}
	if s.Action == model.Deny {
		// An Allow's companions leave out what the Denies refuse; a Deny's leave alone the pods that an Allow isolates, too.
		with.enforced = ns.enforced
	}
	old := x.kept[s.Policy]
	if old != nil && old.from == with && (old.grouping == nil || old.grouping == ix.Grouping) {
		return old, false
	}
	b := &builder{from: with, ix: ix}
	b.policy(s.Policy)
	k = &kept{from: with, companions: b.companions, found: b.found}
	if b.everybody {
		k.grouping = ix.Grouping
	}
	if old != nil && reflect.DeepEqual(old.companions, k.companions) {
		k.companions = old.companions // the same, and not only equal
		*old = *k
		return old, false
	}
	if old != nil {
		old.dropped = true
	}
	x.kept[s.Policy] = k
	return k, true
}

// merge puts what is fresh among what was there and is not dropped: after an edit nothing is sorted that was.
func (x *Builder) merge(fresh []*kept) {
	type owned struct {
		*Companion
		by *kept
	}
	var added []owned
	for _, k := range fresh {
		for i := range k.companions {
			added = append(added, owned{&k.companions[i], k})
		}
	}
	slices.SortStableFunc(added, func(a, b owned) int { return compare(a.Companion, b.Companion) })
	n := len(added)
	for _, owner := range x.owners {
		if !owner.dropped {
			n++
		}
	}
	var companions []Companion
	var owners []*kept
	if n > 0 {
		companions, owners = make([]Companion, 0, n), make([]*kept, 0, n)
	}
	for i, owner := range x.owners {
		if owner.dropped {
			continue
		}
		for len(added) > 0 && compare(added[0].Companion, &x.companions[i]) < 0 {
			companions, owners, added = append(companions, *added[0].Companion), append(owners, added[0].by), added[1:]
		}
		companions, owners = append(companions, x.companions[i]), append(owners, owner)
	}
	for _, a := range added {
		companions, owners = append(companions, *a.Companion), append(owners, a.by)
	}
	x.companions, x.owners = companions, owners
}

// compare orders companions by namespace and name, and those of policies whose hashes are the same by policy.
func compare(a, b *Companion) int {
	return cmp.Or(strings.Compare(a.NetworkPolicy.Namespace, b.NetworkPolicy.Namespace), strings.Compare(a.NetworkPolicy.Name, b.NetworkPolicy.Name),
		strings.Compare(a.Policy.Name, b.Policy.Name))
}
