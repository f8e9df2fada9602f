// Package xds serves configuration to proxies over ADS, delta and state of the world, and knows what each of them runs. Input: an Update, which is
// the complete state, and requests from proxies. Output: responses, and a status per proxy. Entry points: NewCache, Cache.Set and NewServer.
package xds

import (
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/status"
)

// Node is a proxy that the snapshot knows.
type Node struct {
	ID  string // "NAMESPACE/POD"
	UID string
	// Unaddressed says that the pod's address is not known yet: nobody can know the pod by it.
	Unaddressed bool
}

// Update is the complete state: what is not in it is gone. It is not changed after it is set.
type Update struct {
	Workloads map[string][]*Resource // in the order in which slots must reach a proxy
	// Nodes are the proxies of each workload. A list that did not change is best the very same: it costs one look.
	Nodes map[string][]Node
}

// Config holds what a Cache needs.
type Config struct {
	Salter Salter
	// Shut are slots that deny everything, for proxies whose pod is gone.
	Shut    []*Resource
	Logger  *slog.Logger
	Metrics *Metrics
	Now     func() time.Time // time.Now where nil
	// HoldTime is how long a new proxy waits at most for others to learn its pod's address; 5 s where 0.
	HoldTime time.Duration
}

// Cache holds the state and the streams that want parts of it. It keeps no queue: what is pending for a stream is the difference between the state
// and what the stream was told, so that a slow reader gets the latest state and costs nobody else anything. Safe for concurrent use.
type Cache struct {
	logger  *slog.Logger
	metrics *Metrics
	now     func() time.Time
	salting salting
	shut    *resourceSet

	mu        sync.Mutex
	complete  bool
	workloads map[string]*workload
	given     map[string][]*Resource // that those were made from
	nodes     map[string]node
	lists     map[string][]Node // that those were taken from
	streams   map[*stream]struct{}
	byNode    map[string][]*stream
	departed  map[string]departed
	// turnedAway says why a known node's proxy was refused as it came last.
	turnedAway map[string]string
	refusals   refusals
	holds      map[string]*hold // by node
	holdTime   time.Duration
	followers  map[*Follower]struct{}
	order      int64 // of the newest stream
}

// node is a proxy, and the key of its workload.
type node struct {
	Node

	workload string
}

// workload is a workload's resources by kind.
type workload struct {
	source []*Resource
	sets   [kinds]*resourceSet
	ruled  []*Resource // those that policies are in, by type and name
	// standing is how policies stand at a proxy that runs all of those; nil until somebody asks.
	standing []status.Standing
}

// resourceSet is the resources of one kind, in order.
type resourceSet struct {
	list   []*Resource
	byName map[string]*Resource
}

// NewCache returns a cache that holds every stream until the first Set.
func NewCache(c Config) *Cache {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HoldTime == 0 {
		c.HoldTime = holdTime
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Cache{
		shut: newWorkload(c.Shut, nil).sets[slots], logger: c.Logger, metrics: c.Metrics, now: c.Now, salting: newSalting(c.Salter), workloads: map[string]*workload{}, nodes: map[string]node{},
		streams: map[*stream]struct{}{}, byNode: map[string][]*stream{}, departed: map[string]departed{}, turnedAway: map[string]string{},
		refusals: newRefusals(), holds: map[string]*hold{}, holdTime: c.HoldTime, followers: map[*Follower]struct{}{},
	}
}

// Complete says whether a first complete state was set.
func (c *Cache) Complete() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.complete
}

// Set replaces the state. Streams are woken only where a workload's resources, or a node's workload, are others than before.
func (c *Cache) Set(u Update) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wake := map[string]struct{}{}
	c.replaceWorkloads(u.Workloads, wake)
	moved := c.moveNodes(u.Nodes, wake)
	c.holdNew(moved, wake)
	c.forgetDeparted()
	if !c.complete {
		c.complete = true
		for id := range c.byNode {
			wake[id] = struct{}{}
		}
	}
	for id := range wake {
		for _, s := range c.byNode[id] {
			c.wake(s)
		}
		if _, isMoved := moved[id]; isMoved || !c.answers(id) {
			c.touch(id)
		}
	}
}

// answers says whether a node's proxy is to answer soon, which is told of then: a response and its answer are one change of its status. One that takes long over it
// the patrol tells of.
func (c *Cache) answers(id string) bool {
	for _, s := range c.byNode[id] {
		for _, sub := range s.subs {
			if sub != nil && sub.flying != nil && !sub.flying.late {
				return true
			}
		}
	}
	return false
}

// replaceWorkloads takes over the workloads, and notes the nodes of those that are others than before. What stayed costs one look.
func (c *Cache) replaceWorkloads(workloads map[string][]*Resource, wake map[string]struct{}) {
	if c.complete && reflect.ValueOf(workloads).Pointer() == reflect.ValueOf(c.given).Pointer() {
		return // the very same
	}
	changed := func(key string) {
		for i := range c.lists[key] {
			wake[c.lists[key][i].ID] = struct{}{}
		}
	}
	c.given = workloads
	for key, resources := range workloads {
		old := c.workloads[key]
		if old != nil && sameResources(old.source, resources) {
			continue
		}
		c.workloads[key] = newWorkload(resources, old)
		changed(key)
	}
	if len(c.workloads) == len(workloads) {
		return
	}
	for key := range c.workloads {
		if _, stays := workloads[key]; !stays {
			delete(c.workloads, key)
			changed(key)
		}
	}
}

// wake serves a stream after a change. What one stream's resources make panic keeps nobody else from theirs; it is tried again with the next change.
func (c *Cache) wake(s *stream) {
	defer func() {
		if p := recover(); p != nil {
			c.metrics.panicked()
			c.logger.Error("serving a proxy panicked", "node", s.node, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	c.serve(s)
}

// moveNodes takes over the nodes, and notes those that are others than before, or whose workload is another. It returns what they were, which is nothing for one that was not
// known. A workload with the same list of nodes costs one look.
func (c *Cache) moveNodes(lists map[string][]Node, wake map[string]struct{}) (moved map[string]node) {
	moved = map[string]node{}
	if reflect.ValueOf(lists).Pointer() == reflect.ValueOf(c.lists).Pointer() {
		return moved // the very same
	}
	for key, list := range c.lists {
		if sameList(list, lists[key]) {
			continue
		}
		for _, n := range list {
			moved[n.ID] = c.nodes[n.ID]
			delete(c.nodes, n.ID)
		}
	}
	for key, list := range lists {
		if sameList(list, c.lists[key]) {
			continue
		}
		for _, n := range list {
			is := node{n, key}
			c.nodes[n.ID] = is
			if was := moved[n.ID]; was == is {
				delete(moved, n.ID)
			} else {
				moved[n.ID] = was
			}
		}
	}
	for id := range moved {
		wake[id] = struct{}{}
		if _, stays := c.nodes[id]; !stays {
			delete(c.turnedAway, id)
			delete(c.departed, id)
		}
	}
	c.lists = lists
	return moved
}

func sameList(a, b []Node) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func sameResources(a, b []*Resource) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) > 0 && &a[0] == &b[0] {
		return true // the very same
	}
	for i := range a {
		if a[i] != b[i] && (a[i].Type != b[i].Type || a[i].Name != b[i].Name || a[i].Version != b[i].Version || !slices.Equal(a[i].Policies, b[i].Policies)) {
			return false
		}
	}
	return true
}

// newWorkload divides resources by kind. What is the same of a kind as in old, which may be nil, is the very same.
func newWorkload(resources []*Resource, old *workload) *workload {
	w := &workload{source: resources}
	for k := range w.sets {
		w.sets[k] = &resourceSet{}
	}
	for _, r := range resources {
		set := w.sets[r.kind]
		if set.byName[r.Name] != nil {
			continue // of two that claim one name the first counts: they would replace each other for ever
		}
		if set.byName == nil {
			set.byName = map[string]*Resource{}
		}
		set.list = append(set.list, r)
		set.byName[r.Name] = r
		if len(r.Policies) > 0 {
			w.ruled = append(w.ruled, r)
		}
	}
	slices.SortStableFunc(w.ruled, func(a, b *Resource) int { return byTypeAndName(a.Type, a.Name, b.Type, b.Name) })
	if old == nil {
		return w
	}
	for k, set := range w.sets {
		if was := old.sets[k]; slices.Equal(was.list, set.list) {
			w.sets[k] = was
		}
	}
	return w
}

// desired is what a stream should run of a kind; nil where nothing is to be said. A proxy whose pod is gone from a complete snapshot is shut: its slots deny
// everything from then on. Its listeners and clusters stay, so that nothing is drained, and a proxy that was never told anything is told nothing.
func (c *Cache) desired(s *stream, sub *subscription) *resourceSet {
	if !c.complete || c.withheld(s) {
		return nil
	}
	n, _ := c.nodeOf(s)
	if w := c.workloads[n.workload]; w != nil {
		return w.sets[sub.kind]
	}
	if sub.kind == slots && (len(sub.held) > 0 || sub.claim != "") {
		return c.shut
	}
	return nil
}
