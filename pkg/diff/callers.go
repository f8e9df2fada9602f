package diff

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	k8sselection "k8s.io/apimachinery/pkg/selection"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// class are parties that the rules of both frames cannot tell apart.
type class struct {
	matches   bitset         // rules: those before, then those after
	points    bitset         // of workloads that stand
	floating  map[int][]span // points whose addresses are not known, by where they can be
	outside   []span         // addresses that no pod holds
	strangers []stranger
}

// stranger are pods that nobody has made yet. The labels are those of one of them.
type stranger struct {
	namespaces      []string   // in any of which it can be; none: one that might be made
	namespace       string     // a name for that one
	named           bool       // which it has to have
	namespaceLabels labels.Set // of that one
	labels          labels.Set
	spans           []span // where it can be
}

// Bounds on what is asked about pods that nobody has made yet.
const (
	maxStrangers  = 4096
	strangerSteps = 1 << 18
)

// census divides all parties by the rules of two frames.
type census struct {
	*comparison

	before, after *frame
	classes       []*class
	byMatches     map[string]*class
	slots         []slot
	alike         bool // the frames differ in rules at most
	found, steps  int
	complete      bool
}

// slot is a peer of selectors in a rule.
type slot struct {
	rule       int
	peer       *peer
	selections []selection // of its pods
	key        string      // of that
}

func (c *comparison) census(before, after *frame) *census {
	n := &census{
		comparison: c, before: before, after: after, byMatches: map[string]*class{}, steps: strangerSteps, complete: true,
		alike: before.governed == after.governed && before.isolated == after.isolated && slices.Equal(before.speaks, after.speaks),
	}
	n.countStanding()
	for i := range n.size() {
		if s := n.rule(i).sources; s != nil && s.among == nil {
			for j := range s.peers {
				if p := &s.peers[j]; p.Block == nil {
					selections := ofItsPods(p)
					n.slots = append(n.slots, slot{i, p, selections, keyOf(selections)})
				}
			}
		}
	}
	realms := n.realms()
	for _, a := range n.areas() {
		n.countOutside(a)
		n.countFloating(a)
		for _, r := range realms {
			n.countStrangers(a, r)
		}
	}
	n.complete = n.complete && n.steps >= 0
	return n
}

func (n *census) size() int { return len(n.before.rules) + len(n.after.rules) }

func (n *census) rule(i int) *rule {
	if b := len(n.before.rules); i >= b {
		return &n.after.rules[i-b]
	}
	return &n.before.rules[i]
}

// world is the one that a rule is of.
func (n *census) world(rule int) *world {
	if rule < len(n.before.rules) {
		return n.comparison.before
	}
	return n.comparison.after
}

func (n *census) class(matches bitset) *class {
	key := matches.key()
	k := n.byMatches[key]
	if k == nil {
		k = &class{matches: matches, points: newBitset(len(n.points))}
		n.byMatches[key] = k
		n.classes = append(n.classes, k)
	}
	return k
}

// countStanding counts the workloads that stand at addresses that are known.
func (n *census) countStanding() {
	for i := range n.points {
		if !n.points[i].floats() {
			n.class(n.matching(i)).points.add(i)
		}
	}
}

// matching are the rules that mean a point: by its labels alone, where its addresses are not known.
func (n *census) matching(point int) bitset {
	out := newBitset(n.size())
	for r := range n.size() {
		if s := n.rule(r).sources; s == nil || s.points.has(point) {
			out.add(r)
		}
	}
	return out
}

// countFloating counts the workloads that stand at addresses that are not known: they can be at any.
func (n *census) countFloating(a *area) {
	for i := range n.points {
		if !n.points[i].floats() {
			continue
		}
		matches := n.matching(i)
		matches.addAll(a.matches)
		a.among.each(func(r int) {
			if n.rule(r).sources.among.has(i) {
				matches.add(r)
			}
		})
		k := n.class(matches)
		if k.floating == nil {
			k.floating = map[int][]span{}
		}
		k.floating[i] = append(k.floating[i], a.spans...)
	}
}

// area are addresses that the blocks of the rules cannot tell apart.
type area struct {
	matches bitset // rules that match whoever is there
	among   bitset // rules that match those who are there among some
	spans   []span
}

func (n *census) areas() []*area {
	var blocks []netip.Prefix
	for r := range n.size() {
		if s := n.rule(r).sources; s != nil {
			for i := range s.peers {
				if b := s.peers[i].Block; b != nil {
					blocks = append(append(blocks, b.CIDR), b.Except...)
				}
			}
		}
	}
	var out []*area
	known := map[string]*area{}
	for _, s := range stretches(blocks) {
		here := &area{matches: newBitset(n.size()), among: newBitset(n.size())}
		for r := range n.size() {
			switch from := n.rule(r).sources; {
			case from == nil, from.among == nil && from.inBlock(s.first):
				here.matches.add(r)
			case from.among != nil && from.inBlock(s.first):
				here.among.add(r)
			}
		}
		key := here.matches.key() + here.among.key()
		a := known[key]
		if a == nil {
			a = here
			known[key] = a
			out = append(out, a)
		}
		a.spans = append(a.spans, s)
	}
	return out
}

func (n *census) countOutside(a *area) {
	for _, s := range a.spans {
		if _, ok := n.free(s); ok {
			k := n.class(a.matches)
			k.outside = append(k.outside, s)
		}
	}
}

// ofItsPods is what a peer's pods satisfy, apart from their namespace.
func ofItsPods(p *peer) []selection {
	var out []selection
	if p.Pods != nil {
		out = append(out, selection{ofPod, p.Pods})
	}
	if p.ServiceAccounts != nil {
		values := make([]string, 0, len(p.ServiceAccounts))
		for _, name := range p.ServiceAccounts {
			values = append(values, model.ServiceAccountLabel(name))
		}
		account := labels.Nothing()
		if r, err := labels.NewRequirement(v1alpha1.LabelServiceAccount, k8sselection.In, values); err == nil {
			account = labels.NewSelector().Add(*r)
		}
		out = append(out, selection{ofPod, account})
	}
	return out
}

func keyOf(list []selection) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(string(s.owner) + " " + selectorKey(s.selector) + ";")
	}
	return b.String()
}

// realm are namespaces that the slots cannot tell apart, or those that might be made.
type realm struct {
	namespaces []string // none: those that might be made
	within     bitset   // slots that mean them
}

func (n *census) realms() []*realm {
	var out []*realm
	known := map[string]*realm{}
	for _, ns := range n.namespaces {
		within := newBitset(len(n.slots))
		for i, s := range n.slots {
			if s.peer.inNamespace(ns, n.world(s.rule).ix.NamespaceLabels(ns)) {
				within.add(i)
			}
		}
		s := known[within.key()]
		if s == nil {
			s = &realm{within: within}
			known[within.key()] = s
			out = append(out, s)
		}
		s.namespaces = append(s.namespaces, ns)
	}
	toCome := &realm{within: newBitset(len(n.slots))}
	for i, s := range n.slots {
		if s.peer.Namespaces != nil {
			toCome.within.add(i)
		}
	}
	return append(out, toCome)
}

// enumeration finds the classes of pods in some namespaces at some addresses.
type enumeration struct {
	*census

	area  *area
	realm *realm
	names []string // for a namespace that might be made: first one of no meaning
	space *labelSpace
	order []condition
	must  int // how many of these come first, of which one must match; 0: none must
}

// condition is when a rule matches a stranger.
type condition struct {
	rule   int
	always bool
	any    []conjunction
}

func (n *census) countStrangers(a *area, r *realm) {
	slotsOf := map[int][]slot{}
	for i, s := range n.slots {
		if r.within.has(i) && !a.matches.has(s.rule) {
			if len(r.namespaces) == 0 {
				s.selections = append(slices.Clone(s.selections), selection{ofNamespace, s.peer.Namespaces})
				s.key = keyOf(s.selections)
			}
			slotsOf[s.rule] = append(slotsOf[s.rule], s)
		}
	}
	differing := n.differing(a, slotsOf)
	if n.alike && len(differing) == 0 {
		return
	}
	var selections []selection
	for _, slots := range slotsOf {
		for _, s := range slots {
			selections = append(selections, s.selections...)
		}
	}
	names := n.namesToCome(selections)
	e := &enumeration{census: n, area: a, realm: r, names: names, space: newLabelSpace(selections, names, &n.steps)}
	add := func(i int) {
		c := condition{rule: i, always: a.matches.has(i)}
		for _, s := range slotsOf[i] {
			c.any = append(c.any, e.space.conjunction(s.selections))
		}
		if c.always || len(c.any) > 0 {
			e.order = append(e.order, c)
		}
	}
	for i := range n.size() {
		if differing[i] {
			add(i)
		}
	}
	if n.alike {
		e.must = len(e.order)
	}
	for i := range n.size() {
		if !differing[i] {
			add(i)
		}
	}
	e.visit(0, newBitset(n.size()), e.space.whole())
}

// differing are the rules that one side has and the other lacks, as far as these strangers go.
func (n *census) differing(a *area, slotsOf map[int][]slot) map[int]bool {
	meaning := func(i int) string {
		r := n.rule(i)
		if a.matches.has(i) {
			return fmt.Sprintf("%t %d %v always", r.deny, r.content, r.ports)
		}
		var keys []string
		for _, s := range slotsOf[i] {
			keys = append(keys, s.key)
		}
		slices.Sort(keys)
		return fmt.Sprintf("%t %d %v %q", r.deny, r.content, r.ports, slices.Compact(keys))
	}
	sides := [2]map[string]bool{{}, {}}
	at := func(i int) int {
		if i < len(n.before.rules) {
			return 0
		}
		return 1
	}
	meanings := make([]string, n.size())
	for i := range n.size() {
		meanings[i] = meaning(i)
		sides[at(i)][meanings[i]] = true
	}
	out := map[int]bool{}
	for i := range n.size() {
		matchable := a.matches.has(i) || len(slotsOf[i]) > 0
		if matchable && !sides[1-at(i)][meanings[i]] {
			out[i] = true
		}
	}
	return out
}

// namesToCome are names for a namespace that might be made: one of no meaning, and those that selectors name and that no namespace has.
func (n *census) namesToCome(selections []selection) []string {
	stand := map[string]bool{}
	for _, ns := range n.namespaces {
		stand[ns] = true
	}
	named := map[string]bool{}
	for _, s := range selections {
		if s.owner != ofNamespace {
			continue
		}
		requirements, _ := s.selector.Requirements()
		for _, r := range requirements {
			for v := range r.Values() {
				if r.Key() == namespaceNameLabel && !stand[v] {
					named[v] = true
				}
			}
		}
	}
	maps.Copy(stand, named)
	return append([]string{fresh("another-namespace", stand)}, slices.Sorted(maps.Keys(named))...)
}

// visit goes through the rules: one that matches a stranger by none of its peers, or by one and by none of those before it.
func (e *enumeration) visit(i int, matches bitset, r region) {
	if e.found >= maxStrangers || e.steps < 0 || e.stop() {
		e.complete = false
		return
	}
	if e.must > 0 && i == e.must && matches.empty() {
		return
	}
	if i == len(e.order) {
		e.note(matches, r)
		return
	}
	c := &e.order[i]
	if c.always {
		e.visit(i+1, matches.with(c.rule), r)
		return
	}
	for _, q := range c.any {
		if inside, ok := e.space.within(r, q); ok {
			e.visit(i+1, matches.with(c.rule), inside)
		}
		var ok bool
		if r, ok = e.space.outside(r, q); !ok {
			return
		}
	}
	e.visit(i+1, matches, r)
}

func (e *enumeration) note(matches bitset, r region) {
	e.found++
	s := stranger{namespaces: e.realm.namespaces, spans: e.area.spans}
	s.labels, s.namespaceLabels = e.space.show(r)
	if len(s.namespaces) == 0 {
		s.namespace = e.names[0]
		if name, told := s.namespaceLabels[namespaceNameLabel]; told {
			s.namespace, s.named = name, name != e.names[0]
		}
		delete(s.namespaceLabels, namespaceNameLabel)
	}
	k := e.class(matches)
	k.strangers = append(k.strangers, s)
}
