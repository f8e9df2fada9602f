// Package agree says whether the two layers agree: whatever the sidecars allow, the NetworkPolicies let pass, those that pilot-lite did not make included; and where the
// NetworkPolicies let pass what no policy ever allows, it lists exactly that. Input: a model.Index and the companions. Output: a Report, by workload and by policy. It
// shares no code with the translator: what the layers allow is asked of pkg/eval and pkg/eval/kernel, about one caller of each group that nothing tells apart. Pure. One
// entry point: Checker.Check.
package agree

import (
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Companion is a NetworkPolicy that stands, or should, for a policy. Those of DryRun policies do not stand, and are not to be given.
type Companion struct {
	Policy        model.PolicyRef
	NetworkPolicy *networkingv1.NetworkPolicy
}

// Checker checks one snapshot after another, and keeps what it found for a workload while everything that it was found from is the same: an edit costs what it touches.
// The zero value is ready. Not safe for concurrent use; what it returns is.
type Checker struct {
	ix       *model.Index
	round    uint64             // counts the groupings of pods
	checks   uint64             // counts the checks
	callers  map[string]*caller // by the workload's key
	order    []*caller          // those of the present grouping, in the index's order
	sets     map[string]*set    // by what the peer says
	swept    int                // how many there were when they were last looked through
	policies []*policy          // in the snapshot's order
	named    map[name]int       // where those are
	objects  map[objectName]*object
	stood    []*object      // in the order in which they were given
	places   map[string]int // in a report, by the workload's key
	moves    []model.Moved  // the workloads by which the present grouping differs from the one before, where there are few
	few      bool
	metrics  readers
	cuts     serviceCuts
	// Scratch: a list of objects, the inputs of a callee, its classes of callers and what is said of each, what is admitted to it by the rules that decide, and the words for those.
	spare    []*object
	inputs   inputs
	classes  []class
	said     []said
	admitted map[string]*admission
	key      []byte
}

// name is an object's.
type name struct{ namespace, name string }

// objectName is a NetworkPolicy's, and whose it is.
type objectName struct {
	ours bool
	name
}

// Check compares the layers. The snapshot's NetworkPolicies count beside the companions.
func (x *Checker) Check(ix *model.Index, companions []Companion) *Report {
	x.checks++
	x.regroup(ix)
	x.readReaders()
	x.readPolicies()
	x.readObjects(companions)
	x.followOutgoing()
	r := &Report{Workloads: make([]*Workload, 0, len(x.order)), places: x.places, policies: x.policies, named: x.named}
	for _, callee := range x.order {
		if callee.workload.HostNetwork {
			continue
		}
		x.inputs.read(x, callee)
		switch beside := callee.found != nil && x.inputs.sameBeside(&callee.from); {
		case beside && slices.Equal(x.inputs.policies, callee.from.policies):
		case beside && callee.foundAgain(x.inputs.policies):
			callee.from = x.inputs.clone()
			callee.found = callee.found.of(callee.from.policies)
		default:
			callee.from = x.inputs.clone()
			callee.found = x.find(callee)
		}
		r.Workloads = append(r.Workloads, callee.found)
	}
	r.listOthers(x.order)
	x.sweep()
	return r
}

// inputs are what a callee's result is found from. They are compared by identity: whatever is the same pointer says the same.
type inputs struct {
	policies []*meaning
	objects  []*object
	isolated bool            // as a caller
	labels   labels.Set      // of its namespace: callers' egress knows it by them
	self     *addresses      // as well; nil where no caller's egress counts
	known    []*[]*addresses // of everybody whom a peer names; none where no block of addresses counts
	outgoing []*outgoing
	metrics  *meaning // of those who may read metrics; nil where that does not count
	ports    []uint16
	faces    *[]model.ContainerPort
	// What isolated callers need to live; nothing where no caller's egress counts.
	services          []model.Service
	dns, controlPlane []model.Peer
	controlPlanePort  uint16
}

func (k *inputs) read(x *Checker, callee *caller) {
	ix := x.ix
	*k = inputs{
		policies: callee.policies, objects: callee.objects, isolated: len(callee.objectsOut) > 0, labels: ix.NamespaceLabels(callee.ref.Namespace),
		known: k.known[:0], outgoing: k.outgoing[:0], faces: callee.faces,
	}
	byAddress := false
	if len(callee.policies) > 0 && len(x.metrics.ports) > 0 {
		k.metrics, k.ports = x.metrics.meaning, x.metrics.ports
		byAddress = len(k.metrics.blocks) > 0
	}
	for _, p := range callee.policies {
		byAddress = byAddress || len(p.blocks) > 0
		for _, s := range p.picks {
			if s.outgoing != nil {
				k.outgoing, k.self = append(k.outgoing, s.outgoing), callee.addresses
			}
		}
	}
	if k.self != nil {
		mesh := &ix.Snapshot.Mesh
		k.services, k.dns, k.controlPlane, k.controlPlanePort = ix.Snapshot.Services, mesh.DNS, mesh.ControlPlane, mesh.ControlPlanePort
	}
	for _, o := range callee.objects {
		byAddress = byAddress || len(o.blocks) > 0
	}
	if !byAddress {
		return
	}
	for _, s := range k.sets() {
		k.known = append(k.known, s.addresses)
	}
}

// sets are those that tell callers of the callee apart, each once.
func (k *inputs) sets() []*set {
	var out []*set
	add := func(list []*set) {
		for _, s := range list {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	for _, p := range k.policies {
		add(p.sets)
	}
	for _, o := range k.objects {
		add(o.sets)
	}
	if k.metrics != nil {
		add(k.metrics.sets)
	}
	return out
}

// blocks are those that tell callers of the callee apart, each once.
func (k *inputs) blocks() []Block {
	var out []Block
	add := func(list []Block) {
		for _, b := range list {
			if !slices.ContainsFunc(out, b.same) {
				out = append(out, b)
			}
		}
	}
	for _, p := range k.policies {
		add(p.blocks)
	}
	for _, o := range k.objects {
		add(o.blocks)
	}
	if k.metrics != nil {
		add(k.metrics.blocks)
	}
	return out
}

func (k *inputs) clone() inputs {
	out := *k
	out.policies, out.objects = slices.Clone(k.policies), slices.Clone(k.objects)
	out.known, out.outgoing = slices.Clone(k.known), slices.Clone(k.outgoing)
	return out
}

// sameBeside says whether all but the policies is the same.
func (k *inputs) sameBeside(o *inputs) bool {
	return slices.Equal(k.objects, o.objects) && k.isolated == o.isolated && maps.Equal(k.labels, o.labels) && k.self == o.self &&
		slices.Equal(k.known, o.known) && slices.Equal(k.outgoing, o.outgoing) && k.metrics == o.metrics && slices.Equal(k.ports, o.ports) && k.faces == o.faces &&
		model.SameSlice(k.services, o.services) && model.SameSlice(k.dns, o.dns) && model.SameSlice(k.controlPlane, o.controlPlane) && k.controlPlanePort == o.controlPlanePort
}

// Report is what was found about one snapshot. Read-only; safe for concurrent use.
type Report struct {
	Workloads []*Workload // all but those on the host's network, in the index's order

	places   map[string]int // of the workloads, by key: the same in the reports of one grouping of pods
	policies []*policy
	named    map[name]int
	others   map[name][]Shut // by policies that do not govern the callee: those of callers' egress
}

// listOthers finds what is shut against egress policies that mean to let it pass.
func (r *Report) listOthers(callees []*caller) {
	for _, c := range callees {
		if c.found == nil || !c.found.elsewhere {
			continue
		}
		for _, s := range c.found.Shut {
			for _, ref := range s.Policies {
				if !slices.Contains(c.found.Policies, ref) {
					if r.others == nil {
						r.others = map[name][]Shut{}
					}
					of := name{ref.Namespace, ref.Name}
					r.others[of] = append(r.others[of], s)
				}
			}
		}
	}
}

// Of is what was found about a workload, by its key; nil where there is none.
func (r *Report) Of(key string) *Workload {
	if i, known := r.places[key]; known {
		return r.Workloads[i]
	}
	return nil
}

// policy is that of a name; nil where there is none.
func (r *Report) policy(ref model.PolicyRef) *policy {
	if i, known := r.named[name{ref.Namespace, ref.Name}]; known {
		return r.policies[i]
	}
	return nil
}

// Verdict says whether the layers agree about the workloads that a policy governs.
func (r *Report) Verdict(ref model.PolicyRef) Agreement {
	p := r.policy(ref)
	switch {
	case p == nil || p.source.PolicyRef != ref:
		return Agreement{State: NotEvaluated, Reason: "Unknown", Text: "this generation of the policy has not been looked at"}
	case p.source.DryRun:
		return Agreement{State: NotEvaluated, Reason: "DryRun", Text: "a policy that is only tried out has no companions"}
	case len(p.selected) == 0:
		return Agreement{State: NotEvaluated, Reason: "NothingSelected", Text: "no pod is selected"}
	}
	out := Agreement{State: Agrees, Reason: "Agrees", Text: "whatever the sidecars allow, the NetworkPolicies let pass"}
	if !p.source.IsolatesIngress {
		out.Reason, out.Text = "OneLayer", "the policy governs egress alone, which L3/4 alone enforces"
	}
	out.Shut = slices.Clone(r.others[name{ref.Namespace, ref.Name}])
	for _, c := range p.selected {
		w := r.Of(c.ref.Key)
		if w == nil || !p.source.IsolatesIngress {
			continue
		}
		for _, s := range w.Shut {
			if slices.Contains(s.Policies, ref) {
				out.Shut = append(out.Shut, s)
			}
		}
	}
	var errors []Shut
	for _, s := range out.Shut {
		if !s.Deliberate {
			errors = append(errors, s)
		}
	}
	if len(errors) > 0 {
		out.State, out.Reason, out.Text = Disagrees, "Shut", errors[0].String()
		if len(errors) > 1 {
			out.Text += "; and " + itoa(len(errors)-1) + " more"
		}
		out.Text += "; let it pass in a NetworkPolicy, or take it out of the rule"
	}
	return out
}
