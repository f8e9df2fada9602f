package convert

import (
	"cmp"
	"maps"
	"net/netip"
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
	Pods        []model.Pod
	Templates   []Template
	Endpoints   []Endpoint
	Diagnostics []model.Diagnostic
}

// World is everything of a snapshot but its policies: it stays the same, and the same slices, while only policies change.
type World struct {
	namespaces  []model.Namespace
	services    []model.Service
	pods        []model.Pod
	diagnostics []model.Diagnostic
	hosts       func() *hosts
	// resolved are the ingress rules of the snapshot before with their hosts' spellings, by the first of them as converted, which is not changed after that.
	resolved map[*model.Rule][]model.Rule
}

// NewWorld joins parts: templates stand for pods that are not listed, slices give addresses to pods that lack one, and an address that two live
// pods claim belongs to the newer.
func NewWorld(p Parts) *World {
	w := &World{services: slices.Clone(p.Services), pods: slices.Clone(p.Pods), diagnostics: slices.Clone(p.Diagnostics)}
	w.addTemplates(p.Templates)
	w.addEndpoints(p.Endpoints)
	byName := func(aNamespace, aName, bNamespace, bName string) int {
		return cmp.Or(strings.Compare(aNamespace, bNamespace), strings.Compare(aName, bName))
	}
	slices.SortStableFunc(w.services, func(a, b model.Service) int { return byName(a.Namespace, a.Name, b.Namespace, b.Name) })
	slices.SortStableFunc(w.pods, func(a, b model.Pod) int { return byName(a.Namespace, a.Name, b.Namespace, b.Name) })
	w.settleAddresses()
	w.addNamespaces(p.Namespaces)
	w.hosts = sync.OnceValue(func() *hosts { return newHosts(w.services, ClusterDomain) })
	return w
}

// addTemplates adds a template as a pod while no listed pod belongs to it: by its owner, or by the labels that the workload selects.
func (w *World) addTemplates(templates []Template) {
	listed := w.pods
	taken := map[string]bool{}
	for i := range listed {
		taken[listed[i].Namespace+"/"+listed[i].Name] = true
	}
	for _, t := range templates {
		stands := !slices.ContainsFunc(listed, func(p model.Pod) bool {
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
			w.pods = append(w.pods, t.Pod)
		}
	}
}

// addEndpoints gives addresses to pods that have none: to the pod that an endpoint names, or to the one template that its Service selects.
func (w *World) addEndpoints(endpoints []Endpoint) {
	pods := map[string]*model.Pod{}
	for i := range w.pods {
		p := &w.pods[i]
		// A pod that says its own address knows better than a slice, which may lag.
		if len(p.Addresses) == 0 && !p.HostNetwork && (p.Template || p.Expected) {
			pods[p.Namespace+"/"+p.Name] = p
		}
	}
	for _, e := range endpoints {
		p := pods[e.Namespace+"/"+e.Pod]
		if e.Pod == "" {
			p = w.onlyTemplate(e)
		}
		if p != nil && pods[p.Namespace+"/"+p.Name] == p && !slices.Contains(p.Addresses, e.Address) {
			p.Addresses = append(slices.Clone(p.Addresses), e.Address)
		}
	}
}

// onlyTemplate is the template that the endpoint's Service selects, if it is the only one.
func (w *World) onlyTemplate(e Endpoint) *model.Pod {
	i := slices.IndexFunc(w.services, func(s model.Service) bool { return s.Namespace == e.Namespace && s.Name == e.Service })
	if i < 0 || len(w.services[i].Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(w.services[i].Selector)
	var only *model.Pod
	for j := range w.pods {
		p := &w.pods[j]
		if p.Namespace != e.Namespace || !p.Template || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		if only != nil {
			return nil
		}
		only = p
	}
	return only
}

// settleAddresses leaves each address to one pod. Of two that claim it, the newer holds it: the address of a pod that is gone is given out again
// before everybody has heard that it is gone. Where neither is newer nobody holds it, since a rule for one must not let the other in.
func (w *World) settleAddresses() {
	holders := map[netip.Addr]int{}
	const nobody = -1
	disputed := map[netip.Addr]bool{}
	for i := range w.pods {
		for _, a := range w.pods[i].Addresses {
			other, claimed := holders[a]
			switch {
			case !claimed:
				holders[a] = i
				continue
			case other == nobody:
			case w.pods[i].Created.After(w.pods[other].Created):
				holders[a] = i
			case w.pods[i].Created.Equal(w.pods[other].Created):
				holders[a] = nobody
			}
			disputed[a] = true
		}
	}
	if len(disputed) == 0 {
		return
	}
	for i := range w.pods {
		p := &w.pods[i]
		p.Addresses = slices.DeleteFunc(slices.Clone(p.Addresses), func(a netip.Addr) bool {
			if !disputed[a] || holders[a] == i {
				return false
			}
			w.diagnostics = append(w.diagnostics, model.Diagnostic{
				Code: "address-taken", Severity: model.SeverityWarning, Object: model.ObjectRef{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
				Field: "status.podIPs", Consequence: "another live pod holds " + a.String() + ": no rule knows this pod by it",
				Remedy: "wait for one of the two pods to end, or correct the address",
			})
			return true
		})
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
		occurs(w.pods[i].Namespace)
	}
	for i := range w.services {
		occurs(w.services[i].Namespace)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		w.namespaces = append(w.namespaces, all[name])
	}
}

// Snapshot joins a world with policies: their hosts learn the spellings of the Services that they name. Not safe for concurrent use.
func (w *World) Snapshot(policies []model.Policy, foreign []*networkingv1.NetworkPolicy, mesh model.Mesh, found []model.Diagnostic) *model.Snapshot {
	s := &model.Snapshot{
		Mesh: mesh, Namespaces: w.namespaces, Services: w.services, Pods: w.pods, NetworkPolicies: slices.Clone(foreign),
		Policies: make([]model.Policy, 0, len(policies)), Diagnostics: slices.Concat(w.diagnostics, found),
	}
	resolved := make(map[*model.Rule][]model.Rule, len(policies))
	for _, p := range policies {
		s.Policies = append(s.Policies, w.resolve(p, resolved))
	}
	w.resolved = resolved
	sortPolicies(s)
	return s
}

func sortPolicies(s *model.Snapshot) {
	slices.SortStableFunc(s.Policies, func(a, b model.Policy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	slices.SortStableFunc(s.NetworkPolicies, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// resolve gives a policy's hosts their spellings, as it did for the snapshot before if the policy is the same.
func (w *World) resolve(p model.Policy, resolved map[*model.Rule][]model.Rule) model.Policy {
	if len(p.Ingress) == 0 {
		return p
	}
	first := &p.Ingress[0]
	rules, known := w.resolved[first]
	if !known {
		rules = ResolveHosts(p, w.hosts().aliases(p.Namespace)).Ingress
	}
	resolved[first], p.Ingress = rules, rules
	return p
}

// Equal says whether two worlds say the same.
func (w *World) Equal(o *World) bool {
	return reflect.DeepEqual(w.pods, o.pods) && reflect.DeepEqual(w.services, o.services) && reflect.DeepEqual(w.namespaces, o.namespaces) &&
		slices.Equal(w.diagnostics, o.diagnostics)
}
