package model

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// namespace is what a Grouping knows of one namespace: the same pointer from one Grouping of an Indexer to the next while it says the same.
type namespace struct {
	labels    labels.Set
	services  []Service // those that select pods
	pods      []grouped // in the snapshot's order
	sorted    bool      // that order is by name
	groups    []*group  // sorted by their workloads' keys
	workloads []*Workload
}

// grouped is a pod and whom it belongs to.
type grouped struct {
	pod *Pod
	of  *group
}

// group is a workload, and what its pods share; the same pointer while the workload is.
type group struct {
	*Workload

	signature string
}

// next is the namespace as the next snapshot has it: the same one if that says the same. The old one may be nil.
func (ns *namespace) next(set labels.Set, services []Service, pods []*Pod, named map[string]bool) *namespace {
	if ns == nil {
		return new(namespace).regroup(set, services, pods, named)
	}
	if !ns.sameServices(services) || !ns.has(pods) {
		return ns.regroup(set, services, pods, named)
	}
	if maps.Equal(ns.labels, set) {
		return ns
	}
	again := *ns
	again.labels = set
	return &again
}

func (ns *namespace) regroup(set labels.Set, services []Service, pods []*Pod, named map[string]bool) *namespace {
	r := regrouping{before: ns, services: services, named: named, sameServices: ns.sameServices(services), fresh: map[string]*group{}, touched: map[*group]*members{}}
	return r.group(set, pods)
}

func (ns *namespace) sameServices(services []Service) bool {
	return SameSlice(ns.services, services) || slices.EqualFunc(ns.services, services, func(a, b Service) bool { return sameService(&a, &b) })
}

// has says whether the pods are what they were.
func (ns *namespace) has(pods []*Pod) bool {
	return slices.EqualFunc(ns.pods, pods, func(g grouped, p *Pod) bool { return g.pod == p || SamePod(g.pod, p) })
}

// workloadOf is the workload of a pod; nil where there is no such pod.
func (ns *namespace) workloadOf(pod string) *Workload {
	i, found := 0, false
	if ns.sorted {
		i, found = slices.BinarySearchFunc(ns.pods, pod, func(g grouped, name string) int { return strings.Compare(g.pod.Name, name) })
	} else {
		i = slices.IndexFunc(ns.pods, func(g grouped) bool { return g.pod.Name == pod })
		found = i >= 0
	}
	if !found {
		return nil
	}
	return ns.pods[i].of.Workload
}

// regrouping groups the pods of a namespace again. A pod that says the same as before costs a look, and a workload of the same pods is the same pointer.
type regrouping struct {
	before       *namespace
	services     []Service
	named        map[string]bool
	sameServices bool
	fresh        map[string]*group // that pods came to, by signature
	touched      map[*group]*members
}

// members are the pods of a group that has, or may have, others than before.
type members struct {
	pods []*Pod
	at   []int // where they stand in the namespace
}

func (r *regrouping) group(set labels.Set, pods []*Pod) *namespace {
	out := &namespace{labels: set, services: r.services, pods: r.place(pods), sorted: slices.IsSortedFunc(pods, func(a, b *Pod) int { return strings.Compare(a.Name, b.Name) })}
	for i := range out.pods {
		if m := r.touched[out.pods[i].of]; m != nil {
			m.pods, m.at = append(m.pods, out.pods[i].pod), append(m.at, i)
		}
	}
	var changed []*group
	for old, m := range r.touched {
		if len(m.pods) == 0 {
			continue
		}
		g := old
		if g.Workload == nil || !slices.Equal(g.Pods, m.pods) {
			g = &group{newWorkload(g.signature, m.pods, r.services, r.named), g.signature}
		}
		for _, i := range m.at {
			out.pods[i].of = g
		}
		changed = append(changed, g)
	}
	slices.SortFunc(changed, compareGroups)
	out.groups = make([]*group, 0, len(r.before.groups)+len(changed))
	for _, g := range r.before.groups {
		if r.touched[g] != nil {
			continue
		}
		for len(changed) > 0 && compareGroups(changed[0], g) < 0 {
			out.groups, changed = append(out.groups, changed[0]), changed[1:]
		}
		out.groups = append(out.groups, g)
	}
	out.groups = append(out.groups, changed...)
	out.workloads = make([]*Workload, 0, len(out.groups))
	for _, g := range out.groups {
		out.workloads = append(out.workloads, g.Workload)
	}
	return out
}

func compareGroups(a, b *group) int { return strings.Compare(a.Key, b.Key) }

// place says of each pod which group it belongs to: one of before, or one that has no workload yet. Both lists of pods are sorted. Where one is not, a pod is taken for one
// that went and came.
func (r *regrouping) place(pods []*Pod) []grouped {
	out, old := make([]grouped, 0, len(pods)), r.before.pods
	for _, p := range pods {
		for len(old) > 0 && old[0].pod != p && old[0].pod.Name < p.Name {
			r.touch(old[0].of)
			old = old[1:]
		}
		if len(old) > 0 && old[0].pod.Name == p.Name {
			was := old[0]
			old = old[1:]
			if same := was.pod == p || SamePod(was.pod, p); same && r.sameServices {
				out = append(out, was)
				continue
			} else if same {
				p = was.pod
			}
			r.touch(was.of)
		}
		g := r.groupOf(p)
		r.touch(g)
		out = append(out, grouped{p, g})
	}
	for _, gone := range old {
		r.touch(gone.of)
	}
	return out
}

func (r *regrouping) touch(g *group) {
	if r.touched[g] == nil {
		r.touched[g] = &members{}
	}
}

// groupOf is the group of a pod that came or changed.
func (r *regrouping) groupOf(p *Pod) *group {
	sig := signature(p, sharedLabels(p.Labels, r.named), podPorts(p, r.services))
	if g := r.fresh[sig]; g != nil {
		return g
	}
	g := r.before.groupBy(workloadKey(p, sig), sig)
	if g == nil {
		g = &group{signature: sig}
	}
	r.fresh[sig] = g
	return g
}

// groupBy finds a group by its workload's key and its signature.
func (ns *namespace) groupBy(key, signature string) *group {
	i, _ := slices.BinarySearchFunc(ns.groups, key, func(g *group, key string) int { return strings.Compare(g.Key, key) })
	for ; i < len(ns.groups) && ns.groups[i].Key == key; i++ {
		if ns.groups[i].signature == signature {
			return ns.groups[i]
		}
	}
	return nil
}
