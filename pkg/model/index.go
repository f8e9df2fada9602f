package model

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// Index answers, for one snapshot, which workloads there are and whom selectors and peers mean. Read-only after NewIndex; safe for concurrent use.
type Index struct {
	Snapshot    *Snapshot
	Workloads   []*Workload // sorted by key
	byNamespace map[string][]*Workload
	byPod       map[string]*Workload // "namespace/name"
	byAddress   map[netip.Addr]*Pod
	namespaces  map[string]labels.Set
}

// NewIndex is an Indexer's first Index.
func NewIndex(s *Snapshot) *Index { return new(Indexer).Index(s) }

// Indexer indexes one snapshot after another. The zero value is ready. While the lists of pods, services and namespaces are the same slices and
// no selector comes to name another per-pod label, the grouping of the snapshot before is used again: a policy edit does no work per pod.
// Not safe for concurrent use; what it returns is.
type Indexer struct {
	last  *Index
	named string // the per-pod labels that selectors named
}

// Index groups the snapshot's pods and indexes them.
func (x *Indexer) Index(s *Snapshot) *Index {
	named := namedPerPodLabels(s)
	key := strings.Join(slices.Sorted(maps.Keys(named)), ",")
	if x.last != nil && x.named == key && sameSlice(x.last.Snapshot.Pods, s.Pods) && sameSlice(x.last.Snapshot.Services, s.Services) &&
		sameSlice(x.last.Snapshot.Namespaces, s.Namespaces) {
		again := *x.last
		again.Snapshot = s
		x.last = &again
		return &again
	}
	x.last, x.named = newIndex(s, named), key
	return x.last
}

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func newIndex(s *Snapshot, named map[string]bool) *Index {
	ix := &Index{
		Snapshot: s, Workloads: group(s, named), byNamespace: map[string][]*Workload{}, byPod: make(map[string]*Workload, len(s.Pods)),
		byAddress: make(map[netip.Addr]*Pod, len(s.Pods)), namespaces: make(map[string]labels.Set, len(s.Namespaces)),
	}
	for _, ns := range s.Namespaces {
		ix.namespaces[ns.Name] = labels.Set(ns.Labels)
	}
	for _, w := range ix.Workloads {
		ix.byNamespace[w.Namespace] = append(ix.byNamespace[w.Namespace], w)
		for _, p := range w.Pods {
			ix.byPod[p.Namespace+"/"+p.Name] = w
			for _, a := range p.Addresses {
				ix.byAddress[a] = p
			}
		}
	}
	return ix
}

// WorkloadOf returns the workload of a pod, or nil.
func (ix *Index) WorkloadOf(namespace, pod string) *Workload { return ix.byPod[namespace+"/"+pod] }

// PodAt returns the pod that holds an address now, or nil.
func (ix *Index) PodAt(a netip.Addr) *Pod { return ix.byAddress[a] }

// InNamespace returns the workloads of a namespace.
func (ix *Index) InNamespace(namespace string) []*Workload { return ix.byNamespace[namespace] }

// NamespaceLabels returns a namespace's labels; those of one that the snapshot does not list are its name alone, which the API server sets on all.
func (ix *Index) NamespaceLabels(name string) labels.Set {
	if set, ok := ix.namespaces[name]; ok {
		return set
	}
	return labels.Set{"kubernetes.io/metadata.name": name}
}

// Selected returns the workloads that a policy governs.
func (ix *Index) Selected(p *Policy) []*Workload {
	var out []*Workload
	for _, w := range ix.byNamespace[p.Namespace] {
		if p.Selector.Matches(labels.Set(w.Labels)) {
			out = append(out, w)
		}
	}
	return out
}

// PeerWorkloads returns the workloads that a peer of a policy in the given namespace means. Host-network pods are in no set: their address is
// the node's. An address block means no workload.
func (ix *Index) PeerWorkloads(namespace string, p Peer) []*Workload {
	if p.Block != nil {
		return nil
	}
	var out []*Workload
	add := func(ws []*Workload) {
		for _, w := range ws {
			if !w.HostNetwork && p.matchesPod(w.Labels) {
				out = append(out, w)
			}
		}
	}
	if p.Namespaces == nil {
		add(ix.byNamespace[namespace])
		return out
	}
	for ns, ws := range ix.byNamespace {
		if p.Namespaces.Matches(ix.NamespaceLabels(ns)) {
			add(ws)
		}
	}
	slices.SortFunc(out, func(a, b *Workload) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// matchesPod says whether the peer's pod selector and service accounts hold for a pod's labels. An account is known by the stamped label
// only, on both layers: a pod without it matches none.
func (p Peer) matchesPod(set map[string]string) bool {
	if p.Pods != nil && !p.Pods.Matches(labels.Set(set)) {
		return false
	}
	if p.ServiceAccounts == nil {
		return true
	}
	stamped, ok := set[v1alpha1.LabelServiceAccount]
	return ok && slices.ContainsFunc(p.ServiceAccounts, func(name string) bool { return ServiceAccountLabel(name) == stamped })
}

// networkPolicyLabels are the pod label keys that a NetworkPolicy's selectors name.
func networkPolicyLabels(np *networkingv1.NetworkPolicy) map[string]bool {
	keys := map[string]bool{}
	add := func(sel *metav1.LabelSelector) {
		if sel == nil {
			return
		}
		for k := range sel.MatchLabels {
			keys[k] = true
		}
		for _, e := range sel.MatchExpressions {
			keys[e.Key] = true
		}
	}
	add(&np.Spec.PodSelector)
	for _, r := range np.Spec.Ingress {
		for _, p := range r.From {
			add(p.PodSelector)
		}
	}
	for _, r := range np.Spec.Egress {
		for _, p := range r.To {
			add(p.PodSelector)
		}
	}
	return keys
}
