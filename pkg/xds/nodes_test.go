package xds

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Whatever happens to nodes and workloads, the cache knows the nodes of the present state, and only those are looked at that are others than before, or whose workload is, or
// has other resources.
func TestOnlyWhatMovedIsLookedAt(t *testing.T) {
	t.Parallel()
	ids, _ := drawn()
	rapid.Check(t, func(t *rapid.T) {
		c := NewCache(Config{})
		before := drawnState{update: Update{Nodes: map[string][]Node{}}, resources: map[string]string{}}
		for range rapid.IntRange(1, 8).Draw(t, "states") {
			next := before.next(t)
			wake := map[string]struct{}{}
			c.replaceWorkloads(next.update.Workloads, wake)
			moved := c.moveNodes(next.update.Nodes, wake)

			was, is := before.nodes(), next.nodes()
			if diff := cmp.Diff(is, c.nodes, cmp.AllowUnexported(node{})); diff != "" {
				t.Fatalf("the nodes, want, got:\n%s", diff)
			}
			wantMoved, wantWoken := map[string]node{}, map[string]struct{}{}
			for _, id := range ids {
				if was[id] != is[id] {
					wantMoved[id], wantWoken[id] = was[id], struct{}{}
				}
				if n := is[id]; n.ID != "" && before.resources[n.workload] != next.resources[n.workload] {
					wantWoken[id] = struct{}{}
				}
			}
			if diff := cmp.Diff(wantMoved, moved, cmp.AllowUnexported(node{})); diff != "" {
				t.Fatalf("what nodes were that moved, want, got:\n%s", diff)
			}
			if diff := cmp.Diff(slices.Sorted(maps.Keys(wantWoken)), slices.Sorted(maps.Keys(wake))); diff != "" {
				t.Fatalf("who is woken, want, got:\n%s", diff)
			}
			before = next
		}
	})
}

// drawn are the nodes and the workloads that there may be.
func drawn() (ids, keys []string) {
	return []string{"shop/a", "shop/b", "shop/c", "shop/d"}, []string{"v", "w"}
}

// drawnState is a state, and what stands for the resources of each workload in it: nothing where it has none.
type drawnState struct {
	update    Update
	resources map[string]string
}

// next draws another state, which shares what did not change.
func (s *drawnState) next(t *rapid.T) drawnState {
	ids, keys := drawn()
	out := drawnState{update: Update{Workloads: map[string][]*Resource{}, Nodes: maps.Clone(s.update.Nodes)}, resources: map[string]string{}}
	for _, key := range keys {
		version := s.resources[key]
		if rapid.IntRange(0, 3).Draw(t, "edited") == 0 {
			version = rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "version")
		}
		if version != "" {
			out.update.Workloads[key] = []*Resource{{Type: ClusterType, Name: "c", Version: version, encoding: &encoding{kind: clusters}}}
			out.resources[key] = version
		}
	}
	if rapid.Bool().Draw(t, "same pods") {
		return out
	}
	at := s.nodes()
	for range rapid.IntRange(1, 2).Draw(t, "events") {
		id := rapid.SampledFrom(ids).Draw(t, "node")
		at[id] = node{Node{ID: id, UID: fmt.Sprint(rapid.IntRange(1, 2).Draw(t, "uid")), Unaddressed: rapid.Bool().Draw(t, "unaddressed")}, rapid.SampledFrom(keys).Draw(t, "of")}
		if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
			delete(at, id)
		}
	}
	lists := map[string][]Node{}
	for _, id := range ids {
		if n, stands := at[id]; stands {
			lists[n.workload] = append(lists[n.workload], n.Node)
		}
	}
	for _, key := range keys {
		switch list := lists[key]; {
		case len(list) == 0:
			delete(out.update.Nodes, key)
		case !slices.Equal(list, out.update.Nodes[key]) || rapid.IntRange(0, 3).Draw(t, "anew") == 0: // the same, and another list
			out.update.Nodes[key] = list
		}
	}
	return out
}

// nodes are the nodes by ID.
func (s *drawnState) nodes() map[string]node {
	out := map[string]node{}
	for key, list := range s.update.Nodes {
		for _, n := range list {
			out[n.ID] = node{n, key}
		}
	}
	return out
}
