package model

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
)

// Grouping is how pods are grouped into workloads. Read-only; safe for concurrent use.
type Grouping struct {
	Workloads []*Workload // sorted by key
	// namespaces are those that are listed, and those that pods are in.
	namespaces map[string]*namespace
	byAddress  func() map[netip.Addr]*Pod
}

// Indexer indexes one snapshot after another. The zero value is ready. While the lists of pods, services and namespaces are the same slices and
// no selector comes to name another per-pod label, the grouping of the snapshot before is used again: a policy edit does no work per pod. Where they are not, a workload
// whose pods say the same as before is the same pointer. Not safe for concurrent use; what it returns is.
type Indexer struct {
	last  *Index
	named string // the per-pod labels that selectors named
}

// Index groups the snapshot's pods and indexes them.
func (x *Indexer) Index(s *Snapshot) *Index {
	named := x.namedLabels(s)
	key := strings.Join(slices.Sorted(maps.Keys(named)), ",")
	var old *Index
	if x.named == key {
		old = x.last
	}
	if old != nil && SameSlice(old.Snapshot.Pods, s.Pods) && SameSlice(old.Snapshot.Services, s.Services) && SameSlice(old.Snapshot.Namespaces, s.Namespaces) {
		x.last = &Index{s, old.Grouping}
		return x.last
	}
	x.last, x.named = &Index{s, newGrouping(s, named, old)}, key
	return x.last
}

// namedLabels are the per-pod labels that a snapshot's selectors name. While none does, only policies and Services that are new are asked.
func (x *Indexer) namedLabels(s *Snapshot) map[string]bool {
	if x.last == nil || x.named != "" {
		return namedPerPodLabels(s)
	}
	before, news := x.last.Snapshot, *s
	if SameSlice(before.Services, s.Services) {
		news.Services = nil
	}
	news.Policies = nil
	known := before.Policies
	for _, p := range s.Policies {
		for len(known) > 0 && known[0] != p && known[0].Compare(&p.PolicyRef) < 0 {
			known = known[1:]
		}
		if len(known) == 0 || known[0] != p {
			news.Policies = append(news.Policies, p)
		}
	}
	return namedPerPodLabels(&news)
}

// newGrouping groups the pods of a snapshot. What is found in old, which may be nil, and says the same is used again.
func newGrouping(s *Snapshot, named map[string]bool, old *Index) *Grouping {
	pods := byNamespace(s.Pods, func(p **Pod) string { return (*p).Namespace })
	services := sync.OnceValue(func() map[string][]Service {
		return byNamespace(s.Services, func(o *Service) string { return o.Namespace })
	})
	g := &Grouping{namespaces: make(map[string]*namespace, max(len(pods), len(s.Namespaces)))}
	add := func(name string, set labels.Set) {
		var known *namespace
		if old != nil {
			known = old.namespaces[name]
		}
		if known != nil && SameSlice(old.Snapshot.Services, s.Services) {
			g.namespaces[name] = known.next(set, known.services, pods[name], named)
			return
		}
		// Copies, since a part of the list would keep all of it alive.
		selecting := slices.DeleteFunc(slices.Clone(services()[name]), func(s Service) bool { return len(s.Selector) == 0 })
		g.namespaces[name] = known.next(set, selecting, pods[name], named)
	}
	for i := range s.Namespaces {
		add(s.Namespaces[i].Name, s.Namespaces[i].Labels)
	}
	for name := range pods {
		if g.namespaces[name] == nil {
			add(name, ownName(name))
		}
	}
	g.join()
	return g
}

// byNamespace divides a list. Of one that is sorted by namespace nothing is copied.
func byNamespace[T any](list []T, of func(*T) string) map[string][]T {
	out := map[string][]T{}
	for len(list) > 0 {
		name, n := of(&list[0]), 1
		for n < len(list) && of(&list[n]) == name {
			n++
		}
		if known := out[name]; known != nil {
			out[name] = append(known, list[:n]...)
		} else {
			out[name] = list[:n:n]
		}
		list = list[n:]
	}
	return out
}

// join lists the workloads of all namespaces by key. Keys begin with the namespace, so those of one namespace follow each other.
func (g *Grouping) join() {
	var inhabited []*namespace
	n := 0
	for _, ns := range g.namespaces {
		if len(ns.workloads) > 0 {
			inhabited, n = append(inhabited, ns), n+len(ns.workloads)
		}
	}
	slices.SortFunc(inhabited, func(a, b *namespace) int { return strings.Compare(a.workloads[0].Key, b.workloads[0].Key) })
	g.Workloads = make([]*Workload, 0, n)
	for _, ns := range inhabited {
		g.Workloads = append(g.Workloads, ns.workloads...)
	}
	g.byAddress = sync.OnceValue(func() map[netip.Addr]*Pod {
		out := map[netip.Addr]*Pod{}
		for _, w := range g.Workloads {
			for _, p := range w.Pods {
				for _, a := range p.Addresses {
					out[a] = p
				}
			}
		}
		return out
	})
}

// Moved is a workload that came or went, with the labels that its namespace had then.
type Moved struct {
	*Workload

	NamespaceLabels labels.Set
}

// Since lists the workloads by which a grouping differs from another one of the same Indexer: what is in neither list is the same pointer, in a namespace with the same
// labels, in both. A workload that changed is in both lists.
func (g *Grouping) Since(old *Grouping) (gone, come []Moved) {
	if g == old {
		return nil, nil
	}
	for name, was := range old.namespaces {
		is := g.namespaces[name]
		switch {
		case is == was:
		case is == nil || !maps.Equal(is.labels, was.labels):
			gone = moved(gone, was, nil)
		default:
			gone = moved(gone, was, is.workloads)
		}
	}
	for name, is := range g.namespaces {
		was := old.namespaces[name]
		switch {
		case is == was:
		case was == nil || !maps.Equal(is.labels, was.labels):
			come = moved(come, is, nil)
		default:
			come = moved(come, is, was.workloads)
		}
	}
	return gone, come
}

// moved adds the workloads of a namespace that are not, as they are, among others, which are sorted by key as well.
func moved(to []Moved, ns *namespace, others []*Workload) []Moved {
	for _, w := range ns.workloads {
		for len(others) > 0 && others[0] != w && others[0].Key <= w.Key {
			others = others[1:]
		}
		if len(others) == 0 || others[0] != w {
			to = append(to, Moved{w, ns.labels})
		}
	}
	return to
}
