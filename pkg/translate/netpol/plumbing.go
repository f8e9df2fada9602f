package netpol

import (
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// plumbing is what an isolated pod needs to live at all: names and the control plane to call, and whoever may read its metrics. No Deny takes it away.
func (b *builder) plumbing(d model.Direction, pods conj) []entry {
	var out []entry
	for _, e := range b.opened.entries[d] {
		out = append(out, entry{pods, e.peer, e.ports})
	}
	return out
}

// plumbing is what is opened, for no pods in particular, and what that was made from; the same pointer while it opens the same.
type plumbing struct {
	mesh     model.Mesh
	services []model.Service
	grouping *model.Grouping
	entries  map[model.Direction][]entry
}

func plumbingOf(ix *model.Index, old *plumbing) *plumbing {
	s := ix.Snapshot
	if old != nil && old.grouping == ix.Grouping && sameMesh(&old.mesh, &s.Mesh) && model.SameSlice(old.services, s.Services) {
		return old
	}
	made := plumbing{s.Mesh, s.Services, ix.Grouping, map[model.Direction][]entry{model.Ingress: plumbingIn(ix), model.Egress: plumbingOut(ix)}}
	if old != nil && reflect.DeepEqual(old.entries, made.entries) {
		*old = made
		return old
	}
	return &made
}

func plumbingIn(ix *model.Index) []entry {
	mesh := &ix.Snapshot.Mesh
	var out []entry
	for _, q := range plumbed(mesh.Metrics) {
		for _, n := range mesh.MetricsPorts {
			out = append(out, entry{peer: q, ports: ports{model.TCP, n, n}})
		}
	}
	return out
}

func plumbingOut(ix *model.Index) []entry {
	const dns = 53
	mesh := &ix.Snapshot.Mesh
	var out []entry
	add := func(peers []model.Peer, protocol model.Protocol, port uint16) {
		for _, n := range arriving(ix, peers, protocol, port) {
			for _, q := range plumbed(peers) {
				out = append(out, entry{peer: q, ports: ports{protocol, n, n}})
			}
		}
	}
	add(mesh.DNS, model.UDP, dns)
	add(mesh.DNS, model.TCP, dns)
	add(mesh.ControlPlane, model.TCP, mesh.ControlPlanePort)
	return out
}

// plumbed are peers of the mesh: those that name no namespace mean nobody, and nobody written means nobody.
func plumbed(peers []model.Peer) []peer {
	if len(peers) == 0 {
		return nil
	}
	return peersOf("", peers)
}

// arriving are the ports at which calls to a port of a peer arrive: that port, and those of the pods behind Services that have it. What a NetworkPolicy sees of a call to a
// Service is a pod's address and port; DNS servers that do not run as root listen on 5353, say.
func arriving(ix *model.Index, peers []model.Peer, protocol model.Protocol, port uint16) []uint16 {
	out := []uint16{port}
	means := map[*model.Workload]bool{}
	for _, p := range peers {
		for _, w := range ix.PeerWorkloads("", p) {
			means[w] = true
		}
	}
	for i := range ix.Snapshot.Services {
		s := &ix.Snapshot.Services[i]
		if len(s.Selector) == 0 {
			continue
		}
		for _, q := range s.Ports {
			if q.Port != port || q.Protocol != protocol {
				continue
			}
			selector := labels.SelectorFromSet(s.Selector)
			for _, w := range ix.InNamespace(s.Namespace) {
				if means[w] && selector.Matches(labels.Set(w.Labels)) {
					out = append(out, targets(w, q)...)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// targets are the numbers of a Service's port in a workload.
func targets(w *model.Workload, q model.ServicePort) []uint16 {
	if q.TargetName == "" {
		if q.TargetPort == 0 {
			return nil // the Service's own
		}
		return []uint16{q.TargetPort}
	}
	var out []uint16
	for _, p := range w.Pods {
		for _, c := range p.Ports {
			if c.Name == q.TargetName && c.Protocol == q.Protocol {
				out = append(out, c.Number)
			}
		}
	}
	return out
}
