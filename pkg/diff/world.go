package diff

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

const namespaceNameLabel = "kubernetes.io/metadata.name"

// side is one of the two snapshots.
type side string

const (
	sideBefore side = "before"
	sideAfter  side = "after"
)

// world is one snapshot.
type world struct {
	side     side
	ix       *model.Index
	policies map[string][]*model.Policy // by namespace: those that govern ingress
	networks map[string][]*network      // by namespace
	sources  map[int]*sources           // by the id of a list of peers
	points   map[string]bitset          // by peer
}

// comparison compares two snapshots.
type comparison struct {
	scope

	before, after  *world
	entities       []entity
	byNamespace    map[string][]int // entities
	points         []point
	taken          map[netip.Addr]bool
	namespaces     []string // that stand in either snapshot
	added, removed []string
	// moved says that callers, or namespaces' labels, are not the same in both snapshots, so that equal rules may mean different ones.
	moved  bool
	guards map[string]guards // by namespace
	// portsMoved says that some workload's ports are not.
	portsMoved bool
	edited     map[string][]edited // by namespace
	asker      asker
	answers    map[string]*answer // by everything that decides about an entity
	ids        map[string]int     // equal contents have equal ids
	raw        []raw
	frames     map[frameKey]*frame
}

// id is the same number for the same content.
func (c *comparison) id(content string) int {
	if id, known := c.ids[content]; known {
		return id
	}
	c.ids[content] = len(c.ids)
	return len(c.ids) - 1
}

func newComparison(before, after *model.Index, s scope) *comparison {
	c := &comparison{
		scope: s, before: newWorld(sideBefore, before), after: newWorld(sideAfter, after), byNamespace: map[string][]int{}, edited: map[string][]edited{}, answers: map[string]*answer{}, ids: map[string]int{}, frames: map[frameKey]*frame{},
		asker: asker{known: map[string][]outcome{}},
	}
	c.readNetworks()
	c.pair()
	c.place()
	for i := range c.entities {
		ns := c.entities[i].after.Namespace
		c.byNamespace[ns] = append(c.byNamespace[ns], i)
	}
	c.nameNamespaces()
	c.moved = c.callersMoved()
	c.portsMoved = slices.ContainsFunc(c.entities, func(e entity) bool { return !e.samePorts() })
	c.editPolicies()
	c.editNetworks()
	return c
}

func newWorld(s side, ix *model.Index) *world {
	w := &world{side: s, ix: ix, policies: map[string][]*model.Policy{}, networks: map[string][]*network{}, sources: map[int]*sources{}, points: map[string]bitset{}}
	for _, p := range ix.Snapshot.Policies {
		if !p.DryRun && p.IsolatesIngress {
			w.policies[p.Namespace] = append(w.policies[p.Namespace], p)
		}
	}
	return w
}

// readNetworks builds both sides' companions, with one memo, and reads every NetworkPolicy once.
func (c *comparison) readNetworks() {
	var builder netpol.Builder
	read := networkReader{}
	for _, w := range []*world{c.before, c.after} {
		companions, _ := builder.Build(w.ix)
		for i := range companions {
			if k := &companions[i]; !k.DryRun {
				w.addNetwork(read.network(k.Policy.Namespace+"/"+k.Policy.Name, k.NetworkPolicy))
			}
		}
		for _, np := range w.ix.Snapshot.NetworkPolicies {
			w.addNetwork(read.network("NetworkPolicy "+np.Namespace+"/"+np.Name, np))
		}
	}
}

func (w *world) addNetwork(n *network) { w.networks[n.namespace] = append(w.networks[n.namespace], n) }

// nameNamespaces lists the namespaces of both snapshots, with those of which only policies tell.
func (c *comparison) nameNamespaces() {
	all := map[string]bool{}
	for _, w := range []*world{c.before, c.after} {
		for _, ns := range w.ix.Snapshot.Namespaces {
			all[ns.Name] = true
		}
		for ns := range w.policies {
			all[ns] = true
		}
		for ns := range w.networks {
			all[ns] = true
		}
	}
	c.namespaces = slices.Sorted(maps.Keys(all))
}

func (c *comparison) callersMoved() bool {
	return slices.ContainsFunc(c.entities, func(e entity) bool { return e.relabelled() }) || slices.ContainsFunc(c.namespaces, func(ns string) bool {
		return !maps.Equal(c.before.ix.NamespaceLabels(ns), c.after.ix.NamespaceLabels(ns))
	})
}

// edited is something that governs pods, and not alike on both sides.
type edited struct {
	layer Layer
	side  side
	pods  labels.Selector
}

// editPolicies notes the policies that do not govern alike on both sides.
func (c *comparison) editPolicies() {
	name := func(p *model.Policy) string { return p.Namespace + "/" + p.Name }
	note := func(s side, p *model.Policy) {
		c.edited[p.Namespace] = append(c.edited[p.Namespace], edited{L7, s, p.Selector})
	}
	eachEdited(c.before.policies, c.after.policies, name, alike, note)
}

// eachEdited notes, on each side, what stands there and does not stand alike on the other.
func eachEdited[T any](before, after map[string][]T, name func(T) string, alike func(old, now T) bool, note func(side, T)) {
	known := map[string]T{}
	for _, list := range before {
		for _, x := range list {
			known[name(x)] = x
		}
	}
	for _, list := range after {
		for _, x := range list {
			if old, stood := known[name(x)]; stood && alike(old, x) {
				delete(known, name(x))
				continue
			}
			note(sideAfter, x)
		}
	}
	for _, old := range known {
		note(sideBefore, old)
	}
}

// mayDiffer says whether anything that a layer's verdicts about an entity come from is not the same on both sides.
func (c *comparison) mayDiffer(l Layer, e *entity) bool {
	if c.moved || e.relabelled() || !e.samePorts() {
		return true
	}
	return slices.ContainsFunc(c.edited[e.after.Namespace], func(x edited) bool { return x.layer == l && x.pods.Matches(labels.Set(e.on(x.side).Labels)) })
}

func alike(a, b *model.Policy) bool {
	return a.Action == b.Action && reflect.DeepEqual(a.Selector, b.Selector) && reflect.DeepEqual(a.Ingress, b.Ingress)
}

// blocks are the blocks of addresses that anything names.
func (c *comparison) blocks() []netip.Prefix {
	known := map[netip.Prefix]bool{}
	add := func(peers []model.Peer) {
		for _, p := range peers {
			if p.Block == nil {
				continue
			}
			known[p.Block.CIDR] = true
			for _, x := range p.Block.Except {
				known[x] = true
			}
		}
	}
	for _, w := range []*world{c.before, c.after} {
		for _, list := range w.policies {
			for _, p := range list {
				for i := range p.Ingress {
					add(p.Ingress[i].Peers)
				}
			}
		}
		for _, list := range w.networks {
			for _, n := range list {
				for i := range n.entries {
					add(n.entries[i].peers)
				}
			}
		}
	}
	return slices.Collect(maps.Keys(known))
}

// guardsOf are what guarded an entity before.
func (c *comparison) guardsOf(e *entity) []string {
	if c.guards == nil {
		c.readGuards()
	}
	guards := c.guards[e.before.Namespace]
	out := slices.Clone(guards.namespace)
	for _, p := range guards.policies {
		if p.Selector.Matches(labels.Set(e.before.Labels)) {
			out = append(out, v1alpha1.Kind+" "+p.Namespace+"/"+p.Name)
		}
	}
	return out
}

// guards are what guards in one namespace.
type guards struct {
	namespace []string // the namespace itself, if it does
	policies  []*model.Policy
}

func (c *comparison) readGuards() {
	c.guards = map[string]guards{}
	snapshot := c.before.ix.Snapshot
	for _, ns := range snapshot.Namespaces {
		if ns.Guarded {
			c.guards[ns.Name] = guards{namespace: []string{"Namespace " + ns.Name}}
		}
	}
	for _, p := range snapshot.Policies {
		if p.Guarded {
			g := c.guards[p.Namespace]
			g.policies = append(g.policies, p)
			c.guards[p.Namespace] = g
		}
	}
}

// peer is a peer of an object in a namespace.
type peer struct {
	model.Peer

	namespace string
}

// key is an exact encoding. A peer that names namespaces means the same wherever it is written.
func (p *peer) key() string {
	if p.Block != nil {
		var b strings.Builder
		b.WriteString("block " + p.Block.CIDR.String())
		for _, x := range p.Block.Except {
			b.WriteString(" " + x.String())
		}
		return b.String()
	}
	own := p.namespace
	if p.Namespaces != nil {
		own = ""
	}
	out := []string{strconv.Quote(own), selectorKey(p.Namespaces), selectorKey(p.Pods)}
	if p.ServiceAccounts != nil {
		out = append(out, "as")
		for _, a := range p.ServiceAccounts {
			out = append(out, strconv.Quote(a))
		}
	}
	return strings.Join(out, " ")
}

func selectorKey(s labels.Selector) string {
	if s == nil {
		return "nil"
	}
	if _, selectable := s.Requirements(); !selectable {
		return "nothing"
	}
	return strconv.Quote(s.String())
}

// inNamespace says whether a peer of selectors means pods of a namespace at all.
func (p *peer) inNamespace(name string, set labels.Set) bool {
	if p.Namespaces == nil {
		return name == p.namespace
	}
	return p.Namespaces.Matches(set)
}

// inBlock says whether a peer of addresses means one.
func (p *peer) inBlock(a netip.Addr) bool {
	return p.Block.CIDR.Contains(a) && !slices.ContainsFunc(p.Block.Except, func(x netip.Prefix) bool { return x.Contains(a) })
}

// ofPods says whether a peer means pods with these labels, of a namespace that it means. An account is known by the stamped label only.
func (p *peer) ofPods(set labels.Set) bool {
	if p.Pods != nil && !p.Pods.Matches(set) {
		return false
	}
	if p.ServiceAccounts == nil {
		return true
	}
	stamped, ok := set[v1alpha1.LabelServiceAccount]
	return ok && slices.ContainsFunc(p.ServiceAccounts, func(name string) bool { return model.ServiceAccountLabel(name) == stamped })
}

// sources are whom the peers of a rule mean.
type sources struct {
	id       int    // equal for equal peers, on both sides
	peers    []peer // none: anyone
	points   bitset // of those that stand, by their labels or by addresses that are known
	byLabels bitset // of these, by their labels
	among    bitset // when not nil, only these points are meant, and nobody who does not stand
}

// inBlock says whether an address is in one of the blocks.
func (s *sources) inBlock(a netip.Addr) bool {
	return slices.ContainsFunc(s.peers, func(p peer) bool { return p.Block != nil && p.inBlock(a) })
}

// namesBlocks says whether addresses are among the peers.
func (s *sources) namesBlocks() bool {
	return slices.ContainsFunc(s.peers, func(p peer) bool { return p.Block != nil })
}

// sourcesOf are whom a list of peers means; nil: anyone.
func (c *comparison) sourcesOf(w *world, namespace string, list []model.Peer) *sources {
	if list == nil {
		return nil
	}
	s := &sources{}
	keys := make([]string, 0, len(list))
	for i := range list {
		s.peers = append(s.peers, peer{list[i], namespace})
		keys = append(keys, s.peers[i].key())
	}
	s.id = c.id("peers " + strings.Join(keys, "|"))
	if known := w.sources[s.id]; known != nil {
		return known
	}
	s.points, s.byLabels = newBitset(len(c.points)), newBitset(len(c.points))
	for i := range s.peers {
		points := c.pointsOf(w, &s.peers[i], keys[i])
		s.points.addAll(points)
		if s.peers[i].Block == nil {
			s.byLabels.addAll(points)
		}
	}
	w.sources[s.id] = s
	return s
}

func (c *comparison) pointsOf(w *world, p *peer, key string) bitset {
	if known, ok := w.points[key]; ok {
		return known
	}
	out := newBitset(len(c.points))
	w.points[key] = out
	switch {
	case p.Block != nil:
		for i, at := range c.points {
			if !at.floats() && p.inBlock(at.addresses[0]) {
				out.add(i)
			}
		}
	case p.Namespaces == nil:
		c.addPods(out, w, p, c.byNamespace[p.namespace])
	default:
		for ns, entities := range c.byNamespace {
			if p.Namespaces.Matches(w.ix.NamespaceLabels(ns)) {
				c.addPods(out, w, p, entities)
			}
		}
	}
	return out
}

func (c *comparison) addPods(out bitset, w *world, p *peer, entities []int) {
	for _, i := range entities {
		if e := &c.entities[i]; p.ofPods(e.on(w.side).Labels) {
			out.addAll(e.points)
		}
	}
}
