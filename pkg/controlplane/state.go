package controlplane

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// state is the complete state that was made last. What does not change from one to the next is the same map, slice or resource: an edit costs what it touches.
type state struct {
	resources map[proto.Message]*xds.Resource
	kept      int                             // how many of those there were when they were last looked through
	sources   map[string][]translate.Resource // by workload, that its resources were made from
	workloads map[string][]*xds.Resource      // is not changed after it was handed out
	grouping  *model.Grouping                 // that the nodes were listed from
	nodes     map[string][]xds.Node           // by workload; is not changed either
}

// update makes the complete state of an output.
func (s *state) update(grouping *model.Grouping, output *translate.Output) (xds.Update, error) {
	if err := s.readWorkloads(output.Workloads); err != nil {
		return xds.Update{}, err
	}
	s.sweep()
	s.readNodes(grouping)
	return xds.Update{Workloads: s.workloads, Nodes: s.nodes}, nil
}

// readWorkloads makes resources of messages, for those workloads that have others than before.
func (s *state) readWorkloads(workloads []translate.WorkloadOutput) error {
	changed := map[string][]translate.Resource{}
	known := 0
	for i := range workloads {
		w := &workloads[i]
		old, is := s.sources[w.Workload.Key]
		if is {
			known++
		}
		switch {
		case is && model.SameSlice(old, w.Resources):
		case is && slices.EqualFunc(old, w.Resources, sameResource): // it has a pod more, say
			s.sources[w.Workload.Key] = w.Resources
		default:
			changed[w.Workload.Key] = w.Resources
		}
	}
	if len(changed) == 0 && known == len(s.sources) && s.workloads != nil {
		return nil
	}
	next := maps.Clone(s.workloads)
	if next == nil {
		next, s.sources = make(map[string][]*xds.Resource, len(workloads)), make(map[string][]translate.Resource, len(workloads))
	}
	for key, source := range changed {
		made, err := s.make(source)
		if err != nil {
			return fmt.Errorf("workload %s: %w", key, err)
		}
		next[key] = made
	}
	maps.Copy(s.sources, changed)
	if len(next) > len(workloads) {
		stand := make(map[string]bool, len(workloads))
		for i := range workloads {
			stand[workloads[i].Workload.Key] = true
		}
		maps.DeleteFunc(next, func(key string, _ []*xds.Resource) bool { return !stand[key] })
		maps.DeleteFunc(s.sources, func(key string, _ []translate.Resource) bool { return !stand[key] })
	}
	s.workloads = next
	return nil
}

func sameResource(a, b translate.Resource) bool {
	return a.Message == b.Message && slices.Equal(a.Policies, b.Policies)
}

// make makes resources of messages. One that was there before is marshalled already.
func (s *state) make(source []translate.Resource) ([]*xds.Resource, error) {
	out := make([]*xds.Resource, 0, len(source))
	for _, r := range source {
		resource := s.resources[r.Message]
		if resource == nil {
			var err error
			if resource, err = xds.NewResource(r.Message, r.Policies); err != nil {
				return nil, err
			}
		}
		// Workloads share messages, whose policies may differ; the marshalled form is the message's.
		resource = resource.WithPolicies(r.Policies)
		if s.resources == nil {
			s.resources = map[proto.Message]*xds.Resource{}
		}
		s.resources[r.Message] = resource
		out = append(out, resource)
	}
	return out, nil
}

// sweep forgets the resources that are not used any more, when they may be half of all.
func (s *state) sweep() {
	const few = 256
	if len(s.resources) <= 2*s.kept+few {
		return
	}
	used := make(map[proto.Message]*xds.Resource, len(s.resources)/2)
	for _, source := range s.sources {
		for _, r := range source {
			used[r.Message] = s.resources[r.Message]
		}
	}
	s.resources, s.kept = used, len(used)
}

// readNodes lists the proxies of workloads. While the pods stay as they are grouped, it is the same map, and for a workload that stays the same list: an edit does no work
// per pod.
func (s *state) readNodes(grouping *model.Grouping) {
	if s.nodes != nil && s.grouping == grouping {
		return
	}
	var gone, come []model.Moved
	if s.nodes == nil {
		s.nodes = map[string][]xds.Node{}
		for _, w := range grouping.Workloads {
			come = append(come, model.Moved{Workload: w})
		}
	} else {
		gone, come = grouping.Since(s.grouping)
	}
	s.grouping = grouping
	if len(gone)+len(come) == 0 {
		return
	}
	next := maps.Clone(s.nodes)
	for _, w := range gone {
		delete(next, w.Key)
	}
	for _, w := range come {
		next[w.Key] = nodesOf(w.Workload)
	}
	s.nodes = next
}

// nodesOf are the proxies of a workload.
func nodesOf(w *model.Workload) []xds.Node {
	out := make([]xds.Node, 0, len(w.Pods))
	for _, p := range w.Pods {
		out = append(out, xds.Node{ID: p.Namespace + "/" + p.Name, UID: p.UID, Unaddressed: p.AwaitsAddress})
	}
	return out
}
