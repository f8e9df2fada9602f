package model

import (
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
	Snapshot *Snapshot
	*Grouping
}

// NewIndex is an Indexer's first Index, where there is no other.
func NewIndex(s *Snapshot) *Index {
	return &Index{s, newGrouping(s, namedPerPodLabels(s), nil)}
}

// WorkloadOf returns the workload of a pod, or nil.
func (g *Grouping) WorkloadOf(namespace, pod string) *Workload {
	if ns := g.namespaces[namespace]; ns != nil {
		return ns.workloadOf(pod)
	}
	return nil
}

// PodAt returns the pod that holds an address now, or nil.
func (g *Grouping) PodAt(a netip.Addr) *Pod { return g.byAddress()[a] }

// InNamespace returns the workloads of a namespace.
func (g *Grouping) InNamespace(namespace string) []*Workload {
	if ns := g.namespaces[namespace]; ns != nil {
		return ns.workloads
	}
	return nil
}

// NamespaceLabels returns a namespace's labels; those of one that the snapshot does not list are its name alone, which the API server sets on all.
func (g *Grouping) NamespaceLabels(name string) labels.Set {
	if ns := g.namespaces[name]; ns != nil {
		return ns.labels
	}
	return ownName(name)
}

func ownName(namespace string) labels.Set {
	return labels.Set{"kubernetes.io/metadata.name": namespace}
}

// Selected returns the workloads that a policy governs.
func (g *Grouping) Selected(p *Policy) []*Workload {
	var out []*Workload
	for _, w := range g.InNamespace(p.Namespace) {
		if p.Selector.Matches(labels.Set(w.Labels)) {
			out = append(out, w)
		}
	}
	return out
}

// PeerWorkloads returns the workloads that a peer of a policy in the given namespace means. Host-network pods are in no set: their address is
// the node's. An address block means no workload.
func (g *Grouping) PeerWorkloads(namespace string, p Peer) []*Workload {
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
		add(g.InNamespace(namespace))
		return out
	}
	for _, ns := range g.namespaces {
		if len(ns.workloads) > 0 && p.Namespaces.Matches(ns.labels) {
			add(ns.workloads)
		}
	}
	slices.SortFunc(out, func(a, b *Workload) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Means says whether a peer of a policy in the given namespace means a workload that moved.
func (p Peer) Means(namespace string, m Moved) bool {
	if p.Block != nil || m.HostNetwork {
		return false
	}
	if p.Namespaces == nil && m.Namespace != namespace || p.Namespaces != nil && !p.Namespaces.Matches(m.NamespaceLabels) {
		return false
	}
	return p.matchesPod(m.Labels)
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
