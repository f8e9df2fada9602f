// Package diff tells which verdicts flip between two snapshots: for every caller, callee, port and class of requests, on either layer. Nothing is
// sampled: callers, ports and requests are divided into classes that the rules of both snapshots cannot tell apart, and each class is asked about
// once. Input: two model.Index, best of one model.Indexer. Output: a Report. Entry points: Compare, Guarded for what an edit opens of that which is
// guarded, and Write for people. Pure.
package diff

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Layer is one of the two fences.
type Layer string

// Layers.
const (
	L7 Layer = "L7" // the sidecar's RBAC
	L4 Layer = "L4" // NetworkPolicies: companions and all others
)

// Effect is what a flip does.
type Effect string

// Effects.
const (
	EffectOpens  Effect = "opens"
	EffectCloses Effect = "closes"
	// EffectMayFlip says that a question was too large to be answered whole: requests or callers beside those that other flips show may flip too, either way.
	EffectMayFlip Effect = "may flip"
)

// Flip are verdicts that flip for the same reason. Everything in it holds for each caller, each callee, each port and each class of requests.
type Flip struct {
	Layer     Layer           `json:"layer"`
	Direction model.Direction `json:"direction"`
	Effect    Effect          `json:"effect"`
	Callers   Parties         `json:"callers"`
	Callees   Parties         `json:"callees"`
	Ports     []PortRange     `json:"ports"`
	// Requests show one request of each class of HTTP requests that flips; none: anything that is sent to the port does.
	Requests []Request `json:"requests,omitempty"`
	Before   Verdict   `json:"before"`
	After    Verdict   `json:"after"`
	// OtherEndShuts says that nothing flows all the same, because of the NetworkPolicies at the other end: of what opens, after the edit; of what closes, before it.
	OtherEndShuts bool `json:"otherEndShuts,omitempty"`
	// Guards are the Namespaces and L7Policies that guarded one of those whose policies decide, before the edit.
	Guards []string `json:"guards,omitempty"`
}

// Parties are who is at one end: the members, or anyone but some.
type Parties struct {
	Members

	Anyone bool    `json:"anyone,omitempty"`
	But    Members `json:"but,omitzero"`
}

// Members lists parties. Whoever matches the same rules as one that is listed is meant with it, pods at a listed address that match nothing by their labels among them.
type Members struct {
	Workloads []string `json:"workloads,omitempty"` // NAMESPACE/NAME of those that stand
	Pods      []Pods   `json:"pods,omitempty"`      // pods that nobody has made yet
	Addresses []string `json:"addresses,omitempty"` // CIDRs and ranges, without the pods that hold one
}

// Pods are pods that might be made, with such labels or others that the same selectors match.
type Pods struct {
	Namespaces      []string `json:"namespaces,omitempty"` // empty: any; ToCome is among them for one that might be made
	NamespaceLabels string   `json:"namespaceLabels,omitempty"`
	Labels          string   `json:"labels,omitempty"`    // empty: whatever their labels
	Addresses       []string `json:"addresses,omitempty"` // empty: wherever they are
}

// ToCome stands for a namespace that might be made.
const ToCome = "*"

// Verdict is a model.Verdict.
type Verdict struct {
	Allowed bool   `json:"allowed"`
	Decider string `json:"decider"`
}

// PortRange is an inclusive range of ports.
type PortRange struct {
	Protocol model.Protocol `json:"protocol"`
	From     uint16         `json:"from"`
	To       uint16         `json:"to"`
}

// Request is an HTTP request that shows a class.
type Request struct {
	Method  string   `json:"method"`
	Host    string   `json:"host,omitempty"` // empty: any
	Path    string   `json:"path"`
	Headers []Header `json:"headers,omitempty"`
}

// Header is one header line.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Report is what flips between two snapshots.
type Report struct {
	Flips []Flip `json:"flips"` // what opens first
	// Added and Removed are the workloads that stand in one snapshot only. There is no verdict of theirs to flip.
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// Opens says whether anything opens, or may.
func (r *Report) Opens() bool {
	return slices.ContainsFunc(r.Flips, func(f Flip) bool { return f.Effect != EffectCloses })
}

// Compare tells what flips from one snapshot to the other.
func Compare(before, after *model.Index) *Report {
	r, _ := compare(before, after, everything(func() bool { return false }))
	return r
}

// Guarded tells what an edit opens, or may open, of that which is guarded: of the workloads that their namespace, or a policy that selects them, guarded before the
// edit. An edit that takes a guard away opens nothing by that. It asks stop now and then, and gives up when that says true; the answer is then not complete.
func Guarded(before, after *model.Index, stop func() bool) (flips []Flip, complete bool) {
	r, complete := compare(before, after, scope{guarded: true, stop: stop})
	return slices.DeleteFunc(r.Flips, func(f Flip) bool { return len(f.Guards) == 0 || f.Effect == EffectCloses }), complete
}

// scope is what is asked about.
type scope struct {
	guarded bool // of that which is guarded alone
	stop    func() bool
}

func everything(stop func() bool) scope { return scope{stop: stop} }

func compare(before, after *model.Index, s scope) (report *Report, complete bool) {
	c := newComparison(before, after, s)
	for i := range c.entities {
		if e := &c.entities[i]; s.stop() {
			return &Report{}, false
		} else if !s.guarded || len(c.guardsOf(e)) > 0 {
			c.compareL7(e)
			c.compareL4(e)
		}
	}
	return &Report{Flips: c.flips(), Added: c.added, Removed: c.removed}, !s.stop()
}
