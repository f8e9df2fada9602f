package diff

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// entity is a workload that stands in both snapshots: the pods that are of one workload before, and of one after.
type entity struct {
	id            int
	name          string // NAMESPACE/NAME, and the labels that tell it from others of that name
	before, after *model.Workload
	addresses     []netip.Addr
	points        bitset // of callers; none for a pod on its node's network, which no policy knows
}

func (e *entity) on(s side) *model.Workload {
	if s == sideBefore {
		return e.before
	}
	return e.after
}

func (e *entity) hostNetwork() bool { return e.before.HostNetwork || e.after.HostNetwork }

// relabelled says whether the snapshots' policies may know the entity's pods as different ones, apart from their namespace's labels.
func (e *entity) relabelled() bool {
	return e.before != e.after && !maps.Equal(e.before.Labels, e.after.Labels)
}

// samePorts says whether the ports mean the same in both snapshots.
func (e *entity) samePorts() bool {
	return e.before == e.after || reflect.DeepEqual(e.before.Ports, e.after.Ports) && slices.Equal(containerPorts(e.before), containerPorts(e.after))
}

func containerPorts(w *model.Workload) []model.ContainerPort {
	var out []model.ContainerPort
	for _, p := range w.Pods {
		out = append(out, p.Ports...)
	}
	slices.SortFunc(out, func(a, b model.ContainerPort) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), strings.Compare(string(a.Protocol), string(b.Protocol)), strings.Compare(a.Name, b.Name))
	})
	return slices.Compact(out)
}

// point is an entity at some of its addresses that no block of any policy tells apart.
type point struct {
	entity    int
	addresses []netip.Addr // none: not known
}

// floats says whether the addresses are not known, so that it can be at any.
func (p *point) floats() bool { return len(p.addresses) == 0 }

// pairing is a workload before and a workload after, with their pods' addresses.
type pairing struct{ before, after *model.Workload }

// pair finds the entities: workloads that share a pod, else those of the same name, where that is one on each side.
func (c *comparison) pair() {
	before, after := c.before.ix, c.after.ix
	addresses := map[pairing][]netip.Addr{}
	paired := map[*model.Workload]bool{}
	add := func(p pairing, list ...netip.Addr) {
		addresses[p] = append(addresses[p], list...)
		paired[p.before], paired[p.after] = true, true
	}
	shared := map[string]bool{}
	for _, w := range before.Workloads {
		for _, pod := range w.Pods {
			if other := after.WorkloadOf(pod.Namespace, pod.Name); other != nil {
				shared[pod.Namespace+"/"+pod.Name] = true
				add(pairing{w, other}, pod.Addresses...)
			}
		}
	}
	unpaired := func(ix *model.Index) map[string][]*model.Workload {
		out := map[string][]*model.Workload{}
		for _, w := range ix.Workloads {
			if !paired[w] {
				out[workloadName(w)] = append(out[workloadName(w)], w)
			}
		}
		return out
	}
	gone, come := unpaired(before), unpaired(after)
	for _, name := range slices.Sorted(maps.Keys(gone)) {
		if len(gone[name]) == 1 && len(come[name]) == 1 {
			add(pairing{gone[name][0], come[name][0]})
		}
	}
	c.removed, c.added = slices.Sorted(maps.Keys(unpaired(before))), slices.Sorted(maps.Keys(unpaired(after)))
	c.addEntities(addresses, shared)
}

// addEntities makes entities of pairings. An address of a pod that stands on one side only is one of every entity of its workload.
func (c *comparison) addEntities(addresses map[pairing][]netip.Addr, shared map[string]bool) {
	for p, list := range addresses {
		for _, w := range []*model.Workload{p.before, p.after} {
			for _, pod := range w.Pods {
				key := pod.Namespace + "/" + pod.Name
				if !shared[key] || w == p.after && c.before.ix.WorkloadOf(pod.Namespace, pod.Name) == p.before {
					list = append(list, pod.Addresses...)
				}
			}
		}
		slices.SortFunc(list, netip.Addr.Compare)
		c.entities = append(c.entities, entity{name: workloadName(p.after), before: p.before, after: p.after, addresses: slices.Compact(list)})
	}
	slices.SortFunc(c.entities, func(a, b entity) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.before.Key, b.before.Key), strings.Compare(a.after.Key, b.after.Key))
	})
	for first := 0; first < len(c.entities); {
		end := first + 1
		for end < len(c.entities) && c.entities[end].name == c.entities[first].name {
			end++
		}
		if end-first > 1 {
			tellApart(c.entities[first:end])
		}
		first = end
	}
	for i := range c.entities {
		c.entities[i].id = i
	}
}

func workloadName(w *model.Workload) string { return w.Namespace + "/" + w.Name }

// tellApart adds to the names of entities of one name the labels in which they differ.
func tellApart(same []entity) {
	values := map[string]map[string]bool{}
	for i := range same {
		for k, v := range same[i].after.Labels {
			if values[k] == nil {
				values[k] = map[string]bool{}
			}
			values[k][v] = true
		}
	}
	for i := range same {
		telling := labels.Set{}
		for k, v := range same[i].after.Labels {
			everywhere := !slices.ContainsFunc(same, func(e entity) bool { _, has := e.after.Labels[k]; return !has })
			if len(values[k]) > 1 || !everywhere {
				telling[k] = v
			}
		}
		if len(telling) > 0 {
			same[i].name += "{" + telling.String() + "}"
		}
	}
}

// place gives every entity its points, and notes which addresses are taken.
func (c *comparison) place() {
	c.taken = map[netip.Addr]bool{}
	spans := stretches(c.blocks())
	for i := range c.entities {
		e := &c.entities[i]
		if e.hostNetwork() {
			continue
		}
		if len(e.addresses) == 0 {
			c.points = append(c.points, point{entity: i})
			continue
		}
		last := -1
		for _, a := range e.addresses { // ascending, as the stretches are
			at, found := slices.BinarySearchFunc(spans, a, func(s span, a netip.Addr) int { return s.first.Compare(a) })
			if !found {
				at--
			}
			if at != last {
				c.points = append(c.points, point{entity: i})
				last = at
			}
			p := &c.points[len(c.points)-1]
			p.addresses = append(p.addresses, a)
		}
	}
	for _, w := range []*world{c.before, c.after} {
		for _, o := range w.ix.Workloads {
			for _, a := range o.Addresses {
				c.taken[a] = true
			}
		}
	}
	for i := range c.entities {
		c.entities[i].points = newBitset(len(c.points))
	}
	for i, p := range c.points {
		c.entities[p.entity].points.add(i)
	}
}

// span is an inclusive range of addresses.
type span struct{ first, last netip.Addr }

// stretches divides both families' addresses where blocks begin and end.
func stretches(blocks []netip.Prefix) []span {
	starts := []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	for _, b := range blocks {
		starts = append(starts, b.Masked().Addr())
		if after := lastOf(b).Next(); after.IsValid() {
			starts = append(starts, after)
		}
	}
	slices.SortFunc(starts, netip.Addr.Compare)
	starts = slices.Compact(starts)
	out := make([]span, 0, len(starts))
	for i, s := range starts {
		last := lastOf(netip.PrefixFrom(s, 0))
		if i+1 < len(starts) && starts[i+1].BitLen() == s.BitLen() {
			last = starts[i+1].Prev()
		}
		out = append(out, span{s, last})
	}
	return out
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// free is an address of a span that no pod holds.
func (c *comparison) free(s span) (netip.Addr, bool) {
	a := s.first
	for c.taken[a] && a != s.last {
		a = a.Next()
	}
	return a, !c.taken[a]
}
