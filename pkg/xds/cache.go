// Package xds serves configuration to proxies over ADS, delta and state of the world, and knows what each of them runs. Input: an Update, which is
// the complete state, and requests from proxies. Output: responses, and a status per proxy. Entry points: NewCache, Cache.Set and NewServer.
package xds

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Node is a proxy that the snapshot knows.
type Node struct {
	ID       string // "NAMESPACE/POD"
	UID      string
	Workload string // key into Update.Workloads
	// Unaddressed says that the pod's address is not known yet: nobody can know the pod by it.
	Unaddressed bool
}

// Update is the complete state: what is not in it is gone. It is not changed after it is set.
type Update struct {
	Workloads map[string][]*Resource // in the order in which slots must reach a proxy
	Nodes     map[string]Node        // by ID
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
	nodes     map[string]Node
	streams   map[*stream]struct{}
	byNode    map[string]map[*stream]struct{}
	departed  map[string]departed
	// turnedAway says why a known node's proxy was refused as it came last.
	turnedAway map[string]string
	refusals   refusals
	holds      map[string]*hold // by node
	holdTime   time.Duration
	followers  map[*Follower]struct{}
	order      int64 // of the newest stream
}

// workload is a workload's resources by type, and the nodes that run them.
type workload struct {
	source []*Resource
	byType map[string]*resourceSet
	nodes  map[string]struct{}
}

// resourceSet is the resources of one type, in order.
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
	shut := newWorkload(c.Shut).byType[ExtensionConfigType]
	if shut == nil {
		shut = &resourceSet{}
	}
	return &Cache{
		shut: shut, logger: c.Logger, metrics: c.Metrics, now: c.Now, salting: newSalting(c.Salter), workloads: map[string]*workload{}, nodes: map[string]Node{},
		streams: map[*stream]struct{}{}, byNode: map[string]map[*stream]struct{}{}, departed: map[string]departed{}, turnedAway: map[string]string{},
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
	fresh := c.replaceWorkloads(u.Workloads, wake)
	before := c.nodes
	c.moveNodes(u.Nodes, fresh, wake)
	c.holdNew(before, wake)
	c.forgetDeparted()
	if !c.complete {
		c.complete = true
		for id := range c.byNode {
			wake[id] = struct{}{}
		}
	}
	for id := range wake {
		for s := range c.byNode[id] {
			c.wake(s)
		}
		c.touch(id)
	}
}

// replaceWorkloads takes over the workloads, notes the nodes of those that are others than before, and returns the keys that were not there before. What stayed costs one look.
func (c *Cache) replaceWorkloads(workloads map[string][]*Resource, wake map[string]struct{}) (fresh map[string]struct{}) {
	fresh = map[string]struct{}{}
	if c.complete && reflect.ValueOf(workloads).Pointer() == reflect.ValueOf(c.given).Pointer() {
		return fresh // the very same
	}
	c.given = workloads
	for key, resources := range workloads {
		old := c.workloads[key]
		if old != nil && sameResources(old.source, resources) {
			continue
		}
		w := newWorkload(resources)
		if old == nil {
			fresh[key] = struct{}{}
		} else {
			w.nodes = old.nodes
			maps.Copy(wake, old.nodes)
		}
		c.workloads[key] = w
	}
	if len(c.workloads) == len(workloads) {
		return fresh
	}
	for key, old := range c.workloads {
		if _, stays := workloads[key]; !stays {
			maps.Copy(wake, old.nodes)
			delete(c.workloads, key)
		}
	}
	return fresh
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

// moveNodes takes over the nodes, and notes those whose workload is another than before. What stayed costs one look.
func (c *Cache) moveNodes(nodes map[string]Node, fresh, wake map[string]struct{}) {
	if len(fresh) == 0 && reflect.ValueOf(nodes).Pointer() == reflect.ValueOf(c.nodes).Pointer() {
		return // the very same list
	}
	stayed := 0
	for id, n := range nodes {
		old, known := c.nodes[id]
		if known {
			stayed++
		}
		if _, isFresh := fresh[n.Workload]; known && old == n && !isFresh {
			continue
		}
		wake[id] = struct{}{}
		if w := c.workloads[old.Workload]; w != nil {
			delete(w.nodes, id)
		}
		if w := c.workloads[n.Workload]; w != nil {
			w.nodes[id] = struct{}{}
		}
	}
	if stayed < len(c.nodes) {
		for id, old := range c.nodes {
			if _, stays := nodes[id]; stays {
				continue
			}
			wake[id] = struct{}{}
			delete(c.turnedAway, id)
			delete(c.departed, id)
			if w := c.workloads[old.Workload]; w != nil {
				delete(w.nodes, id)
			}
		}
	}
	c.nodes = nodes
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

func newWorkload(resources []*Resource) *workload {
	w := &workload{source: resources, byType: map[string]*resourceSet{}, nodes: map[string]struct{}{}}
	for _, r := range resources {
		set := w.byType[r.Type]
		if set == nil {
			set = &resourceSet{byName: map[string]*Resource{}}
			w.byType[r.Type] = set
		}
		if set.byName[r.Name] != nil {
			continue // of two that claim one name the first counts: they would replace each other for ever
		}
		set.list = append(set.list, r)
		set.byName[r.Name] = r
	}
	return w
}

// desired is what a stream should run of a type; nil where nothing is to be said. A proxy whose pod is gone from a complete snapshot is shut: its slots deny
// everything from then on. Its listeners and clusters stay, so that nothing is drained, and a proxy that was never told anything is told nothing.
func (c *Cache) desired(s *stream, sub *subscription) *resourceSet {
	if !c.complete || !slices.Contains(servedTypes(), sub.typeURL) || c.withheld(s) {
		return nil
	}
	n, _ := c.nodeOf(s)
	if w := c.workloads[n.Workload]; w != nil {
		if set := w.byType[sub.typeURL]; set != nil {
			return set
		}
		return &resourceSet{}
	}
	if sub.typeURL == ExtensionConfigType && (len(sub.held) > 0 || sub.claim != "") {
		return c.shut
	}
	return nil
}
