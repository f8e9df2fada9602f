package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
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

// namespace is what a Grouping knows of one namespace: the same pointer from one Grouping of an Indexer to the next while it says the same.
type namespace struct {
	labels    labels.Set
	services  []Service // those that select pods; copies, as an Indexer's pods are, since a pointer would keep its whole snapshot alive
	pods      []grouped // in the snapshot's order
	workloads []*Workload
	byPod     func() map[string]*Workload
	// bySignature are the workloads by what their pods share.
	bySignature map[string]*Workload
}

// grouped is a pod and what it shares with the others of its workload.
type grouped struct {
	pod       *Pod
	signature string
}

// members are the pods of a workload. What they share is one string, and not one of each.
type members struct {
	signature string
	pods      []*Pod
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
	named := namedPerPodLabels(s)
	key := strings.Join(slices.Sorted(maps.Keys(named)), ",")
	var old *Index
	if x.named == key {
		old = x.last
	}
	if old != nil && sameSlice(old.Snapshot.Pods, s.Pods) && sameSlice(old.Snapshot.Services, s.Services) && sameSlice(old.Snapshot.Namespaces, s.Namespaces) {
		x.last = &Index{s, old.Grouping}
		return x.last
	}
	x.last, x.named = &Index{s, newGrouping(s, named, old, copied)}, key
	return x.last
}

func copied(p *Pod) *Pod {
	c := *p
	return &c
}

// newGrouping groups the pods of a snapshot. What is found in old, which may be nil, and says the same is used again; of other pods it has what own makes of them.
func newGrouping(s *Snapshot, named map[string]bool, old *Index, own func(*Pod) *Pod) *Grouping {
	pods := byNamespace(s.Pods, func(p *Pod) string { return p.Namespace })
	services := byNamespace(s.Services, func(o *Service) string { return o.Namespace })
	g := &Grouping{namespaces: make(map[string]*namespace, max(len(pods), len(s.Namespaces)))}
	known := func(name string) *namespace {
		if old == nil {
			return nil
		}
		return old.namespaces[name]
	}
	for i := range s.Namespaces {
		ns := &s.Namespaces[i]
		g.namespaces[ns.Name] = known(ns.Name).next(labels.Set(ns.Labels), services[ns.Name], pods[ns.Name], named, own)
	}
	for name, list := range pods {
		if g.namespaces[name] == nil {
			g.namespaces[name] = known(name).next(ownName(name), services[name], list, named, own)
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

// next is the namespace as the next snapshot has it: the same one if that says the same. The old one may be nil.
func (ns *namespace) next(set labels.Set, services []Service, pods []Pod, named map[string]bool, own func(*Pod) *Pod) *namespace {
	services = slices.DeleteFunc(slices.Clone(services), func(s Service) bool { return len(s.Selector) == 0 })
	if ns == nil {
		return new(namespace).regroup(set, services, pods, named, own)
	}
	sameServices := slices.EqualFunc(ns.services, services, func(a, b Service) bool { return sameService(&a, &b) })
	if !sameServices || !ns.has(pods) {
		if !sameServices {
			ns = ns.withoutSignatures()
		}
		return ns.regroup(set, services, pods, named, own)
	}
	if maps.Equal(ns.labels, set) {
		return ns
	}
	again := *ns
	again.labels = set
	return &again
}

// has says whether the pods are what they were.
func (ns *namespace) has(pods []Pod) bool {
	if len(ns.pods) != len(pods) {
		return false
	}
	for i := range pods {
		if !SamePod(ns.pods[i].pod, &pods[i]) {
			return false
		}
	}
	return true
}

// withoutSignatures forgets what depends on Services.
func (ns *namespace) withoutSignatures() *namespace {
	out := &namespace{pods: slices.Clone(ns.pods), bySignature: ns.bySignature}
	for i := range out.pods {
		out.pods[i].signature = ""
	}
	return out
}

// regroup groups the pods of a namespace. A pod that says the same as before costs a look, and a workload of the same pods is the same pointer.
func (ns *namespace) regroup(set labels.Set, services []Service, pods []Pod, named map[string]bool, own func(*Pod) *Pod) *namespace {
	known := make(map[string]*grouped, len(ns.pods))
	for i := range ns.pods {
		known[ns.pods[i].pod.Name] = &ns.pods[i]
	}
	out := &namespace{labels: set, services: services, pods: make([]grouped, 0, len(pods)), bySignature: make(map[string]*Workload, len(ns.bySignature))}
	of := make(map[string]*members, len(ns.bySignature))
	for i := range pods {
		var g grouped
		if old := known[pods[i].Name]; old != nil && SamePod(old.pod, &pods[i]) {
			g = *old
		} else {
			g.pod = own(&pods[i])
		}
		if g.signature == "" {
			g.signature = signature(g.pod, sharedLabels(g.pod.Labels, named), podPorts(g.pod, services))
		}
		m := of[g.signature]
		if m == nil {
			m = &members{signature: g.signature}
			of[g.signature] = m
		}
		g.signature, m.pods = m.signature, append(m.pods, g.pod)
		out.pods = append(out.pods, g)
	}
	for sig, m := range of {
		w := ns.bySignature[sig]
		if w == nil || !slices.Equal(w.Pods, m.pods) {
			w = newWorkload(sig, m.pods, services, named)
		}
		out.bySignature[sig] = w
	}
	out.workloads = slices.SortedFunc(maps.Values(out.bySignature), func(a, b *Workload) int { return cmp.Compare(a.Key, b.Key) })
	out.byPod = sync.OnceValue(func() map[string]*Workload {
		byPod := make(map[string]*Workload, len(out.pods))
		for _, w := range out.workloads {
			for _, p := range w.Pods {
				byPod[p.Name] = w
			}
		}
		return byPod
	})
	return out
}

// newWorkload makes a workload of pods that share a signature.
func newWorkload(sig string, pods []*Pod, services []Service, named map[string]bool) *Workload {
	first := pods[0]
	w := &Workload{
		Namespace: first.Namespace, Name: displayName(first), ServiceAccount: first.ServiceAccount, Labels: sharedLabels(first.Labels, named),
		Proxy: first.Proxy, HostNetwork: first.HostNetwork, Ports: podPorts(first, services), Pods: pods,
	}
	sum := sha256.Sum256([]byte(sig))
	w.Key = first.Namespace + "/" + w.Name + "/" + hex.EncodeToString(sum[:8])
	for _, p := range pods {
		w.Addresses = append(w.Addresses, p.Addresses...)
	}
	slices.SortFunc(w.Addresses, netip.Addr.Compare)
	w.Addresses = slices.Compact(w.Addresses)
	return w
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
			gone = moved(gone, was, is.bySignature)
		}
	}
	for name, is := range g.namespaces {
		was := old.namespaces[name]
		switch {
		case is == was:
		case was == nil || !maps.Equal(is.labels, was.labels):
			come = moved(come, is, nil)
		default:
			come = moved(come, is, was.bySignature)
		}
	}
	return gone, come
}

// moved adds the workloads of a namespace that are not, as they are, among others.
func moved(to []Moved, ns *namespace, others map[string]*Workload) []Moved {
	for sig, w := range ns.bySignature {
		if others[sig] != w {
			to = append(to, Moved{w, ns.labels})
		}
	}
	return to
}
