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
	lacking     bool // some pod said no address of its own
	hosts       func() *hosts
	// resolved are the ingress rules of the snapshot before with their hosts' spellings, by the first of them as converted, which is not changed after that. Those in
	// outdated were resolved with other Services.
	resolved, outdated map[*model.Rule][]model.Rule
}

// NewWorld joins parts, whose lists it takes over: templates stand for pods that are not listed, slices give addresses to pods that lack one, and an address that two
// live pods claim belongs to the newer.
func NewWorld(p Parts) *World { return (*World)(nil).Next(p) }

// Next is NewWorld after another world, which may be nil: what did not change is the same slice in both.
func (w *World) Next(p Parts) *World {
	next := &World{services: p.Services, pods: p.Pods, diagnostics: slices.Clone(p.Diagnostics)}
	next.addTemplates(p.Templates)
	next.addEndpoints(p.Endpoints)
	byName := func(aNamespace, aName, bNamespace, bName string) int {
		return cmp.Or(strings.Compare(aNamespace, bNamespace), strings.Compare(aName, bName))
	}
	sortStable(next.services, func(a, b *model.Service) int { return byName(a.Namespace, a.Name, b.Namespace, b.Name) })
	sortStable(next.pods, func(a, b *model.Pod) int { return byName(a.Namespace, a.Name, b.Namespace, b.Name) })
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

// inherit takes over what is the same as it was.
func (w *World) inherit(before *World) {
	if slices.EqualFunc(w.namespaces, before.namespaces, func(a, b model.Namespace) bool {
		return a.Name == b.Name && a.Guarded == b.Guarded && maps.Equal(a.Labels, b.Labels)
	}) {
		w.namespaces = before.namespaces
	}
	if sameSlice(w.services, before.services) {
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

func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// addTemplates adds a template as a pod while no listed pod belongs to it: by its owner, or by the labels that the workload selects.
func (w *World) addTemplates(templates []Template) {
	if len(templates) == 0 {
		return
	}
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
	w.lacking = len(pods) > 0
	if !w.lacking {
		return
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
	holders := make(map[netip.Addr]int, len(w.pods))
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

// Snapshot joins a world with policies, whose list it takes over: their hosts learn the spellings of the Services that they name. Not safe for concurrent use.
func (w *World) Snapshot(policies []model.Policy, foreign []*networkingv1.NetworkPolicy, mesh model.Mesh, found []model.Diagnostic) *model.Snapshot {
	s := &model.Snapshot{
		Mesh: mesh, Namespaces: w.namespaces, Services: w.services, Pods: w.pods, NetworkPolicies: slices.Clone(foreign), Policies: policies,
		Diagnostics: slices.Concat(w.diagnostics, found),
	}
	if len(w.resolved) > 2*len(policies) {
		w.forget(policies)
	}
	for i := range s.Policies {
		w.resolve(&s.Policies[i])
	}
	w.outdated = nil
	sortPolicies(s)
	return s
}

func sortPolicies(s *model.Snapshot) {
	sortStable(s.Policies, func(a, b *model.Policy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	sortStable(s.NetworkPolicies, func(a, b **networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare((*a).Namespace, (*b).Namespace), strings.Compare((*a).Name, (*b).Name))
	})
}

// resolve gives a policy's hosts their spellings: those that it got for the snapshot before, if neither it nor the Services changed.
func (w *World) resolve(p *model.Policy) {
	if !namesHosts(p) {
		return
	}
	first := &p.Ingress[0]
	rules, known := w.resolved[first]
	if !known {
		rules = ResolveHosts(*p, w.hosts().aliases(p.Namespace)).Ingress
		if before := w.outdated[first]; reflect.DeepEqual(before, rules) {
			rules = before // the same, and not only equal
		}
		if w.resolved == nil {
			w.resolved = map[*model.Rule][]model.Rule{}
		}
		w.resolved[first] = rules
	}
	p.Ingress = rules
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
func (w *World) forget(policies []model.Policy) {
	kept := make(map[*model.Rule][]model.Rule, len(policies))
	for i := range policies {
		if p := &policies[i]; len(p.Ingress) > 0 {
			if rules, known := w.resolved[&p.Ingress[0]]; known {
				kept[&p.Ingress[0]] = rules
			}
		}
	}
	w.resolved = kept
}

// Equal says whether two worlds say the same.
func (w *World) Equal(o *World) bool {
	return slices.EqualFunc(w.pods, o.pods, func(a, b model.Pod) bool { return model.SamePod(&a, &b) }) && reflect.DeepEqual(w.services, o.services) && reflect.DeepEqual(w.namespaces, o.namespaces) &&
		slices.Equal(w.diagnostics, o.diagnostics)
}
