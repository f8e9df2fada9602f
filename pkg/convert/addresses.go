package convert

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// addEndpoints gives addresses to pods that have none: to the pod that an endpoint names, or to the one template that its Service selects.
func (w *World) addEndpoints(bySlice [][]Endpoint) {
	type name struct{ namespace, name string }
	var lacking map[name]int // where they stand
	for i, p := range w.pods {
		// A pod that says its own address knows better than a slice, which may lag.
		if len(p.Addresses) == 0 && !p.HostNetwork && (p.Template || p.Expected) {
			if lacking == nil {
				lacking = map[name]int{}
			}
			lacking[name{p.Namespace, p.Name}] = i
		}
	}
	w.lacking = len(lacking) > 0
	if !w.lacking {
		return
	}
	tell := func(e *Endpoint) {
		to := name{e.Namespace, e.Pod}
		if e.Pod == "" {
			template := w.onlyTemplate(e)
			if template == nil {
				return
			}
			to.name = template.Name
		}
		if i, lacks := lacking[to]; lacks && !slices.Contains(w.pods[i].Addresses, e.Address) {
			told := *w.pods[i]
			told.Addresses = append(slices.Clone(told.Addresses), e.Address)
			w.pods[i] = &told
		}
	}
	for _, endpoints := range bySlice {
		for i := range endpoints {
			tell(&endpoints[i])
		}
	}
}

// onlyTemplate is the template that the endpoint's Service selects, if it is the only one.
func (w *World) onlyTemplate(e *Endpoint) *model.Pod {
	i := slices.IndexFunc(w.services, func(s model.Service) bool { return s.Namespace == e.Namespace && s.Name == e.Service })
	if i < 0 || len(w.services[i].Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(w.services[i].Selector)
	var only *model.Pod
	for _, p := range w.pods {
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
	w.claims.read(w.pods)
	lost := map[*model.Pod][]netip.Addr{}
	for a, list := range w.claims.disputed {
		slices.SortStableFunc(list, comparePods)
		holder := holderOf(list)
		for _, p := range list {
			if p != holder {
				lost[p] = append(lost[p], a)
			}
		}
	}
	if len(lost) == 0 {
		return
	}
	w.pods = slices.Clone(w.pods)
	for i, p := range w.pods {
		taken := lost[p]
		if taken == nil {
			continue
		}
		settled := *p
		settled.Addresses = nil
		for _, a := range p.Addresses {
			if !slices.Contains(taken, a) {
				settled.Addresses = append(settled.Addresses, a)
				continue
			}
			w.diagnostics = append(w.diagnostics, model.Diagnostic{
				Code: "address-taken", Severity: model.SeverityWarning, Object: model.ObjectRef{Kind: "Pod", Namespace: p.Namespace, Name: p.Name},
				Field: "status.podIPs", Consequence: "another live pod holds " + a.String() + ": no rule knows this pod by it",
				Remedy: "wait for one of the two pods to end, or correct the address",
			})
		}
		w.pods[i] = &settled
	}
}

// holderOf is the newest of those that claim an address; nil where that is not one.
func holderOf(claim []*model.Pod) *model.Pod {
	holder := claim[0]
	for _, p := range claim[1:] {
		switch {
		case holder == nil:
		case p.Created.After(holder.Created):
			holder = p
		case p.Created.Equal(holder.Created):
			holder = nil
		}
	}
	return holder
}

// claims are who claims each address. From one list of pods to the next only those are looked at that are not in both.
type claims struct {
	pods     []*model.Pod // that were read, by name
	sole     map[netip.Addr]*model.Pod
	disputed map[netip.Addr][]*model.Pod
}

// follow takes over what another world's claims hold, who reads everybody again if it is asked again.
func (c *claims) follow(before *claims) { *c, *before = *before, claims{} }

// read takes over the next list of pods.
func (c *claims) read(pods []*model.Pod) {
	if c.sole == nil {
		c.sole, c.disputed = make(map[netip.Addr]*model.Pod, len(pods)), map[netip.Addr][]*model.Pod{}
	}
	old, next := c.pods, pods
	for len(old) > 0 || len(next) > 0 {
		order := 0
		switch {
		case len(next) == 0:
			order = -1
		case len(old) == 0:
			order = 1
		case old[0] != next[0]:
			order = comparePods(old[0], next[0])
		default: // the very same
			old, next = old[1:], next[1:]
			continue
		}
		if order <= 0 {
			for _, a := range old[0].Addresses {
				c.leave(a, old[0])
			}
			old = old[1:]
		}
		if order >= 0 {
			for _, a := range next[0].Addresses {
				c.claim(a, next[0])
			}
			next = next[1:]
		}
	}
	c.pods = pods
}

func (c *claims) claim(a netip.Addr, p *model.Pod) {
	if others := c.disputed[a]; others != nil {
		c.disputed[a] = append(others, p)
		return
	}
	other, claimed := c.sole[a]
	if !claimed {
		c.sole[a] = p
		return
	}
	delete(c.sole, a)
	c.disputed[a] = []*model.Pod{other, p}
}

func (c *claims) leave(a netip.Addr, p *model.Pod) {
	others := c.disputed[a]
	if others == nil {
		delete(c.sole, a)
		return
	}
	others = slices.DeleteFunc(others, func(other *model.Pod) bool { return other == p })
	if len(others) > 1 {
		c.disputed[a] = others
		return
	}
	delete(c.disputed, a)
	if len(others) == 1 {
		c.sole[a] = others[0]
	}
}
