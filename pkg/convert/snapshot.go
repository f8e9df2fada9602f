package convert

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// ClusterDomain is the DNS domain of Services.
const ClusterDomain = "cluster.local"

// Parts are converted objects, in any order.
type Parts struct {
	Namespaces  []model.Namespace
	Services    []model.Service
	Pods        []*model.Pod // are not changed: who is told another address is copied
	Templates   []Template
	Endpoints   [][]Endpoint // by slice
	Diagnostics []model.Diagnostic
}

// World is everything of a snapshot but its policies: it stays the same, and the same slices, while only policies change.
type World struct {
	namespaces  []model.Namespace
	services    []model.Service
	pods        []*model.Pod
	diagnostics []model.Diagnostic
	lacking     bool // some pod said no address of its own
	claims      claims
	hosts       func() *hosts
	// resolved are the policies of the snapshot before with their hosts' spellings, by the policy as it was converted. Those in outdated were resolved with other Services.
	resolved, outdated map[*model.Policy]*model.Policy
}

// NewWorld joins parts, whose lists it takes over: templates stand for pods that are not listed, slices give addresses to pods that lack one, and an address that two
// live pods claim belongs to the newer.
func NewWorld(p Parts) *World { return (*World)(nil).Next(p) }

// Next is NewWorld after another world, which may be nil: what did not change is the same slice in both, and the same pod.
func (w *World) Next(p Parts) *World {
	next := &World{services: p.Services, pods: p.Pods, diagnostics: slices.Clone(p.Diagnostics)}
	next.addTemplates(p.Templates)
	sortStable(next.services, func(a, b *model.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	sortStable(next.pods, func(a, b **model.Pod) int { return comparePods(*a, *b) })
	next.addEndpoints(p.Endpoints)
	if w != nil {
		next.claims.follow(&w.claims)
	}
	next.settleAddresses()
	next.addNamespaces(p.Namespaces)
	if w != nil {
		next.inherit(w)
	}
	if next.hosts == nil {
		next.hosts = sync.OnceValue(func() *hosts { return newHosts(next.services, ClusterDomain) })
	}
	return next
}

func comparePods(a, b *model.Pod) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// inherit takes over what is the same as it was.
func (w *World) inherit(before *World) {
	if slices.EqualFunc(w.namespaces, before.namespaces, func(a, b model.Namespace) bool {
		return a.Name == b.Name && a.Guarded == b.Guarded && maps.Equal(a.Labels, b.Labels)
	}) {
		w.namespaces = before.namespaces
	}
	if slices.EqualFunc(w.pods, before.pods, func(a, b *model.Pod) bool { return a == b || model.SamePod(a, b) }) {
		w.pods = before.pods
	}
	if model.SameSlice(w.services, before.services) {
		w.hosts, w.resolved, w.outdated = before.hosts, before.resolved, before.outdated
	} else {
		w.outdated = before.resolved
	}
}

// LacksAddresses says whether any pod needs to be told its address by a slice.
func (w *World) LacksAddresses() bool { return w.lacking }

// sortStable sorts what is mostly sorted already.
func sortStable[T any](list []T, compare func(a, b *T) int) {
	for i := 1; i < len(list); i++ {
		if compare(&list[i-1], &list[i]) > 0 {
			slices.SortStableFunc(list, func(a, b T) int { return compare(&a, &b) })
			return
		}
	}
}

// addTemplates adds a template as a pod while no listed pod belongs to it: by its owner, or by the labels that the workload selects.
func (w *World) addTemplates(templates []Template) {
	if len(templates) == 0 {
		return
	}
	listed := w.pods
	taken := map[string]bool{}
	for _, p := range listed {
		taken[p.Namespace+"/"+p.Name] = true
	}
	for i := range templates {
		t := &templates[i]
		stands := !slices.ContainsFunc(listed, func(p *model.Pod) bool {
			return p.Namespace == t.Pod.Namespace && (p.Owner == t.Pod.Name || p.Owner == "" && t.Selector.Matches(labels.Set(p.Labels)))
		})
		key := t.Pod.Namespace + "/" + t.Pod.Name
		if stands && taken[key] {
			w.diagnostics = append(w.diagnostics, model.Diagnostic{
				Code: "name-taken", Severity: model.SeverityWarning, Object: model.ObjectRef{Kind: t.Kind, Namespace: t.Pod.Namespace, Name: t.Pod.Name},
				Consequence: "another workload or pod of that name stands already: this template is left out", Remedy: "list its pods, or rename it",
			})
			continue
		}
		if stands {
			taken[key] = true
			w.pods = append(w.pods, &t.Pod)
		}
	}
}

// addNamespaces takes over the namespaces, and makes those that only occur as the namespace of an object.
func (w *World) addNamespaces(listed []model.Namespace) {
	all := map[string]model.Namespace{}
	occurs := func(name string) {
		if _, known := all[name]; !known {
			all[name] = model.Namespace{Name: name, Labels: map[string]string{nameLabel: name}}
		}
	}
	for _, ns := range listed {
		all[ns.Name] = ns
	}
	for i := range w.pods {
		if i == 0 || w.pods[i].Namespace != w.pods[i-1].Namespace {
			occurs(w.pods[i].Namespace)
		}
	}
	for i := range w.services {
		occurs(w.services[i].Namespace)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w.namespaces = append(w.namespaces, all[name])
	}
}

// Resolve sorts policies, whose list it takes over, and gives their hosts the spellings of the Services that they name: for snapshots of this world, and of those after it
// while they have the same Services. Not safe for concurrent use.
func (w *World) Resolve(policies []*model.Policy) []*model.Policy {
	if len(w.resolved) > 2*len(policies) {
		w.forget(policies)
	}
	for i, p := range policies {
		policies[i] = w.resolve(p)
	}
	w.outdated = nil
	sortPolicies(policies)
	return policies
}

func sortPolicies(list []*model.Policy) {
	sortStable(list, func(a, b **model.Policy) int { return (*a).Compare(&(*b).PolicyRef) })
}

// Snapshot joins a world with policies that were resolved.
func (w *World) Snapshot(policies []*model.Policy, foreign []*networkingv1.NetworkPolicy, mesh model.Mesh, found []model.Diagnostic) *model.Snapshot {
	s := &model.Snapshot{
		Mesh: mesh, Namespaces: w.namespaces, Services: w.services, Pods: w.pods, NetworkPolicies: slices.Clone(foreign), Policies: policies,
		Diagnostics: slices.Concat(w.diagnostics, found),
	}
	sortNetworkPolicies(s.NetworkPolicies)
	return s
}

func sortNetworkPolicies(list []*networkingv1.NetworkPolicy) {
	sortStable(list, func(a, b **networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare((*a).Namespace, (*b).Namespace), strings.Compare((*a).Name, (*b).Name))
	})
}

// resolve gives a policy's hosts their spellings: those that it got for the snapshot before, if neither it nor the Services changed.
func (w *World) resolve(p *model.Policy) *model.Policy {
	if !namesHosts(p) {
		return p
	}
	resolved, known := w.resolved[p]
	if !known {
		made := resolveHosts(*p, w.hosts().aliases(p.Namespace))
		resolved = &made
		if before := w.outdated[p]; before != nil && reflect.DeepEqual(before.Ingress, made.Ingress) {
			resolved = before // the same, and not only equal
		}
		if w.resolved == nil {
			w.resolved = map[*model.Policy]*model.Policy{}
		}
		w.resolved[p] = resolved
	}
	return resolved
}

func namesHosts(p *model.Policy) bool {
	for i := range p.Ingress {
		for j := range p.Ingress[i].HTTP {
			if len(p.Ingress[i].HTTP[j].Hosts) > 0 {
				return true
			}
		}
	}
	return false
}

// forget keeps what was resolved for the policies that there are.
func (w *World) forget(policies []*model.Policy) {
	kept := make(map[*model.Policy]*model.Policy, len(policies))
	for _, p := range policies {
		if resolved, known := w.resolved[p]; known {
			kept[p] = resolved
		}
	}
	w.resolved = kept
}
