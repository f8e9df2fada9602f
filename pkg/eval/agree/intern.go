package agree

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// caller is a workload, the same one from one snapshot to the next while its key is.
type caller struct {
	ref       Caller
	workload  *model.Workload // of the present snapshot, as are the lists
	round     uint64
	addresses *addresses
	faces     *[]model.ContainerPort // its pods' ports that its key does not tell of; the same pointer while they are the same
	// What governs it: policies in the snapshot's order, and NetworkPolicies that isolate it.
	policies   []*meaning
	egress     []*model.Policy
	objects    []*object
	objectsOut []*kernel.Policy
	// What was found about it as a callee, and from what.
	from  inputs
	found *Workload
}

// addresses are those of a workload's pods, the same pointer while they are the same.
type addresses struct {
	known   []netip.Addr
	unknown bool // some pod's is not known
}

// policy is an L7Policy with the workloads that it governs.
type policy struct {
	*meaning
	selected []*caller
	round    uint64
}

// meaning is what an L7Policy says, the same pointer while it says the same of the same workloads.
type meaning struct {
	source *model.Policy // the same while the policy is
	sets   []*set        // of its ingress peers
	picks  []*set        // those of peers that name pods by label or account
	blocks []Block       // of its ingress peers
	// refuses says that it is a Deny that looks at requests; rephrased is what it said in the check before, in other words of requests: nil where it is another.
	refuses   bool
	rephrased *meaning
}

// object is a NetworkPolicy, the same pointer while it says the same of the same workloads.
type object struct {
	source   *networkingv1.NetworkPolicy
	parsed   *kernel.Policy // the same while the object is
	ours     bool           // a companion
	sets     []*set         // of its ingress peers
	blocks   []Block        // of its ingress peers
	selected []*caller      // of the present grouping
	round    uint64
	check    uint64 // when it stood
}

// regroup follows the grouping of pods into workloads. Without a change of pods, namespaces and Services it is the same list.
func (x *Checker) regroup(ix *model.Index) {
	same := x.ix != nil && model.SameSlice(x.ix.Workloads, ix.Workloads)
	before := x.ix
	x.ix = ix
	if same {
		return
	}
	x.round++
	x.move(before)
	if x.callers == nil {
		x.callers = make(map[string]*caller, len(ix.Workloads))
	}
	was := x.order
	x.order = was[:0] // what stands at a place is read before it is written
	moved := len(was) != len(ix.Workloads)
	for i, w := range ix.Workloads {
		var c *caller
		if i < len(was) && was[i].ref.Key == w.Key { // most often
			c = was[i]
		} else {
			c, moved = x.callers[w.Key], true
		}
		if c == nil {
			c = &caller{ref: Caller{w.Key, w.Namespace, w.Name}}
			x.callers[w.Key] = c
		}
		c.round = x.round
		x.order = append(x.order, c)
		if c.workload == w {
			continue
		}
		c.workload = w
		a := addresses{known: w.Addresses, unknown: slices.ContainsFunc(w.Pods, func(p *model.Pod) bool { return len(p.Addresses) == 0 })}
		if c.addresses == nil || c.addresses.unknown != a.unknown || !slices.Equal(c.addresses.known, a.known) {
			c.addresses = &a
		}
		if faces := otherPorts(w); c.faces == nil || !slices.Equal(*c.faces, faces) {
			c.faces = &faces
		}
	}
	if moved {
		x.place()
	}
	if len(x.callers) > len(x.order) {
		maps.DeleteFunc(x.callers, func(_ string, c *caller) bool { return c.round != x.round })
	}
}

// place finds where in a report each workload stands.
func (x *Checker) place() {
	x.places = make(map[string]int, len(x.order)) // reports keep it
	for _, c := range x.order {
		if !c.workload.HostNetwork {
			x.places[c.ref.Key] = len(x.places)
		}
	}
}

// move finds whom the present grouping of pods concerns, where few workloads came, went or changed. Who is not concerned has the answers of the grouping before.
func (x *Checker) move(before *model.Index) {
	x.moves, x.few = nil, false
	if before == nil {
		return
	}
	gone, come := x.ix.Since(before.Grouping)
	if len(gone)+len(come) > model.FewMoved {
		return
	}
	x.moves, x.few = slices.Concat(gone, come), true
	for _, s := range x.sets {
		if s.round == x.round-1 && !slices.ContainsFunc(x.moves, s.asked.meant) {
			s.round = x.round
		}
	}
}

// stands says whether what was read in a round still holds: what selects pods of a namespace, and names sets of callers.
func (x *Checker) stands(round uint64, namespace string, selects func(labels.Set) bool, named []*set) bool {
	if round == x.round {
		return true
	}
	if !x.few || round != x.round-1 || slices.ContainsFunc(named, func(s *set) bool { return s.round != x.round }) {
		return false
	}
	return !slices.ContainsFunc(x.moves, func(m model.Moved) bool { return m.Namespace == namespace && selects(m.Labels) })
}

// sweep forgets the sets that nothing asks for any more, when they may be half of all.
func (x *Checker) sweep() {
	const few = 1024
	if len(x.sets) < 2*x.swept+few {
		return
	}
	used := map[*set]bool{}
	for _, p := range x.policies {
		for _, s := range p.sets {
			used[s] = true
		}
	}
	for _, o := range x.objects {
		for _, s := range o.sets {
			used[s] = true
		}
	}
	for _, s := range x.metrics.sets {
		used[s] = true
	}
	maps.DeleteFunc(x.sets, func(_ string, s *set) bool { return !used[s] })
	x.swept = len(x.sets)
}

// readPolicies lists the policies, and for each workload those that are enforced and govern it.
func (x *Checker) readPolicies() {
	for _, c := range x.order {
		c.policies, c.egress, c.objects, c.objectsOut = c.policies[:0], c.egress[:0], c.objects[:0], c.objectsOut[:0]
	}
	was := x.policies
	x.policies = make([]*policy, 0, len(x.ix.Snapshot.Policies)) // reports keep the list
	renamed := len(was) != len(x.ix.Snapshot.Policies)
	for i, source := range x.ix.Snapshot.Policies {
		p := x.known(was, i, source)
		if p == nil || !model.SamePolicy(p.source, source) || !x.stands(p.round, source.Namespace, matches(source.Selector), p.sets) {
			p = x.readPolicy(source, p)
		}
		p.round = x.round
		renamed = renamed || !was[i].called(source)
		x.policies = append(x.policies, p)
		if source.DryRun {
			continue
		}
		for _, c := range p.selected {
			if source.IsolatesIngress {
				c.policies = append(c.policies, p.meaning)
			}
			if source.IsolatesEgress {
				c.egress = append(c.egress, p.source)
			}
		}
	}
	if !renamed {
		return
	}
	x.named = make(map[name]int, len(x.policies)) // nor does it change
	for i, p := range x.policies {
		x.named[name{p.source.Namespace, p.source.Name}] = i
	}
}

// known is what was read of a policy before, most often in the same place; nil where it is new.
func (x *Checker) known(was []*policy, i int, source *model.Policy) *policy {
	if i < len(was) && was[i].called(source) {
		return was[i]
	}
	if i, known := x.named[name{source.Namespace, source.Name}]; known {
		return was[i]
	}
	return nil
}

func (p *policy) called(source *model.Policy) bool {
	return p.source.Namespace == source.Namespace && p.source.Name == source.Name
}

func matches(s labels.Selector) func(labels.Set) bool {
	return func(set labels.Set) bool { return s.Matches(set) }
}

// readPolicy finds the workloads that a policy means.
func (x *Checker) readPolicy(source *model.Policy, old *policy) *policy {
	p := &policy{meaning: &meaning{}, round: x.round}
	if old != nil && model.SamePolicy(old.source, source) {
		p.source = old.source
	} else {
		p.source = source
	}
	for _, w := range x.ix.Selected(source) {
		p.selected = append(p.selected, x.callers[w.Key])
	}
	for i := range source.Ingress {
		x.readPeers(p.meaning, source.Namespace, source.Ingress[i].Peers)
	}
	p.refuses = refuses(p.source)
	switch {
	case old == nil:
	case old.source == p.source && slices.Equal(old.sets, p.sets):
		p.meaning = old.meaning
	case p.rephrases(old.meaning):
		p.rephrased, old.rephrased = old.meaning, nil // no more than one is kept
	}
	return p
}

// readPeers adds whom peers of a policy in a namespace mean.
func (x *Checker) readPeers(m *meaning, namespace string, peers []model.Peer) {
	for _, q := range peers {
		if q.Block != nil {
			m.blocks = append(m.blocks, Block{q.Block.CIDR.Masked(), masked(q.Block.Except)})
			continue
		}
		asked := question{namespaces: q.Namespaces, pods: q.Pods, accounts: q.ServiceAccounts}
		if q.Namespaces == nil {
			asked.namespace = namespace
		}
		s := x.set(asked)
		m.sets = append(m.sets, s)
		if picks(q) {
			m.picks = append(m.picks, s)
		}
	}
}

// readers are those who may read metrics, wherever policies isolate: they are told apart as the policies' own peers are.
type readers struct {
	*meaning
	peers []model.Peer
	ports []uint16
	round uint64
}

func (x *Checker) readReaders() {
	mesh := &x.ix.Snapshot.Mesh
	old := x.metrics
	x.metrics.ports = mesh.MetricsPorts
	if old.meaning != nil && old.round == x.round && model.SameSlice(old.peers, mesh.Metrics) {
		return
	}
	m := &meaning{}
	x.readPeers(m, "", mesh.Metrics)
	if old.meaning != nil && model.SameSlice(old.peers, mesh.Metrics) && slices.Equal(old.sets, m.sets) {
		m = old.meaning
	}
	x.metrics = readers{m, mesh.Metrics, mesh.MetricsPorts, x.round}
}

// picks says whether a peer names pods, by label or account, and not only namespaces.
func picks(p model.Peer) bool {
	return p.Block == nil && (p.ServiceAccounts != nil || p.Pods != nil && !p.Pods.Empty())
}

func masked(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, p.Masked())
	}
	return out
}

// readObjects reads the NetworkPolicies, and lists for each workload those that isolate it.
func (x *Checker) readObjects(companions []Companion) {
	if x.objects == nil {
		x.objects = make(map[objectName]*object, len(companions)+len(x.ix.Snapshot.NetworkPolicies))
	}
	count, was, is := 0, x.stood, x.spare[:0]
	add := func(np *networkingv1.NetworkPolicy, ours bool) {
		var o *object
		if i := len(is); i < len(was) && was[i].source == np && was[i].ours == ours { // most often
			o = was[i]
		} else {
			o = x.objects[objectName{ours, name{np.Namespace, np.Name}}]
		}
		if o == nil || o.source != np || !x.stands(o.round, np.Namespace, o.selects, o.sets) {
			o = x.readObject(np, ours, o)
			x.objects[objectName{ours, name{np.Namespace, np.Name}}] = o
		}
		is = append(is, o)
		if o.check != x.checks {
			count++
		}
		o.round, o.check = x.round, x.checks
		for _, c := range o.selected {
			if o.parsed.Governs(networkingv1.PolicyTypeIngress) {
				c.objects = append(c.objects, o)
			}
			if o.parsed.Governs(networkingv1.PolicyTypeEgress) {
				c.objectsOut = append(c.objectsOut, o.parsed)
			}
		}
	}
	for _, np := range x.ix.Snapshot.NetworkPolicies {
		add(np, false)
	}
	for _, c := range companions {
		add(c.NetworkPolicy, true)
	}
	x.stood, x.spare = is, was
	if len(x.objects) > count {
		maps.DeleteFunc(x.objects, func(_ objectName, o *object) bool { return o.check != x.checks })
	}
}

func (o *object) selects(set labels.Set) bool { return o.parsed.Selects(o.parsed.Namespace(), set) }

func (x *Checker) readObject(np *networkingv1.NetworkPolicy, ours bool, old *object) *object {
	o := &object{source: np, ours: ours, round: x.round}
	unchanged := old != nil && (old.source == np || reflect.DeepEqual(old.source.Spec, np.Spec))
	if unchanged {
		o.parsed = old.parsed
	} else {
		o.parsed, _ = kernel.Read(np) // what is wrong with it fails closed; who reads the objects reports it
	}
	namespace := o.parsed.Namespace()
	for _, w := range x.ix.InNamespace(namespace) {
		if !w.HostNetwork && o.selects(labels.Set(w.Labels)) {
			o.selected = append(o.selected, x.callers[w.Key])
		}
	}
	for _, q := range o.parsed.Peers(networkingv1.PolicyTypeIngress) {
		if cidr, except, isBlock := q.Block(); isBlock {
			o.blocks = append(o.blocks, Block{cidr, except})
			continue
		}
		var asked question
		asked.namespace, asked.namespaces, asked.pods = q.Selectors()
		o.sets = append(o.sets, x.set(asked))
	}
	if unchanged && slices.Equal(old.sets, o.sets) {
		old.round, old.source, old.selected = x.round, np, o.selected
		return old
	}
	return o
}

// otherPorts are the container ports of a workload's pods that its key does not tell of.
func otherPorts(w *model.Workload) []model.ContainerPort {
	var out []model.ContainerPort
	for _, p := range w.Pods {
		for _, c := range p.Ports {
			if c.Protocol != model.TCP && !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}
