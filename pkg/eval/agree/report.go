package agree

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// State says what is known of one policy.
type State string

// States.
const (
	Agrees       State = "Agrees"
	Disagrees    State = "Disagrees"
	NotEvaluated State = "NotEvaluated"
)

// Agreement is what a policy's status tells.
type Agreement struct {
	State  State
	Reason string // one word: Agrees, OneLayer, Shut, DryRun, NothingSelected, Unknown
	Text   string // one sentence; where the layers disagree: who, which port, which NetworkPolicy, and what to do
	Shut   []Shut // what the policy allows and a NetworkPolicy shuts, deliberate ones too
}

// Workload is what was found about one callee. It is read only.
type Workload struct {
	Key, Namespace, Name string
	Policies             []model.PolicyRef // those that are enforced and govern its ingress; none: everything is allowed at L7
	Shut                 []Shut            // a sidecar allows it, and a NetworkPolicy shuts it
	Wider                []Wider           // a NetworkPolicy lets it pass, and no policy ever allows it
	Access               []Access          // all callers, in groups that nothing tells apart: who gets how far
	IsolatedOut          bool              // a NetworkPolicy isolates it as a caller: what it reaches is less than the callees' Access says

	elsewhere bool // some of Shut is for policies that do not govern it
}

// Side says whose NetworkPolicies are meant.
type Side string

// Sides.
const (
	CalleeIngress Side = "ingress"
	CallerEgress  Side = "egress"
)

// Shut is what a sidecar allows and a NetworkPolicy shuts.
type Shut struct {
	Callee   Caller
	Callers  Callers
	Ports    kernel.Ports
	Rules    []string // that allow it, NAMESPACE/POLICY/RULE; none where nothing isolates the workload at L7
	Policies []model.PolicyRef
	Side     Side
	By       []string           // the NetworkPolicies that isolate and do not let it pass, "NAMESPACE/NAME"
	Request  *model.HTTPRequest // one that the sidecar allows; nil for bytes
	// Deliberate says that it is no error: the caller's own egress policies shut it, or a NetworkPolicy that is not ours shuts what no rule names.
	Deliberate bool
}

// String is one line.
func (s Shut) String() string {
	var b strings.Builder
	b.WriteString(s.Ports.String() + " from " + s.Callers.String() + " to " + s.Callee.String())
	if len(s.Rules) > 0 {
		b.WriteString(", which " + some(s.Rules, "rule ", "rules ") + map[bool]string{true: " allows", false: " allow"}[len(s.Rules) == 1])
		if s.Request != nil {
			b.WriteString(" (" + describe(s.Request) + ")")
		}
	} else {
		b.WriteString(", which nothing forbids at L7")
	}
	b.WriteString(", is shut at the " + map[Side]string{CalleeIngress: "callee's ingress", CallerEgress: "caller's egress"}[s.Side])
	if len(s.By) > 0 {
		b.WriteString(" by " + some(s.By, "NetworkPolicy ", "NetworkPolicies "))
	}
	return b.String()
}

// Wider is what a NetworkPolicy lets pass and no policy ever allows.
type Wider struct {
	Callee   Caller
	Callers  Callers
	Ports    kernel.Ports
	By       []string // entries that let it pass, "NetworkPolicy NAMESPACE/NAME ingress[0]"; none where nothing isolates
	Plumbing bool     // it is opened on purpose, for those who read metrics
}

// String is one line.
func (w Wider) String() string {
	by := "no NetworkPolicy isolates the callee"
	if len(w.By) > 0 {
		by = "by " + strings.Join(w.By, ", ")
	}
	return w.Ports.String() + " from " + w.Callers.String() + " to " + w.Callee.String() + ": " + by
}

// Access is how far a group of callers gets, as far as the callee decides.
type Access struct {
	Callers  Callers
	L4       kernel.Ports // what NetworkPolicies let pass
	L7       kernel.Ports // TCP ports where a sidecar allows something, or would, if the callee has none
	Requests kernel.Ports // those of L7 where rules look at requests: some may be refused
}

// Callers are a group of callers that no rule and no NetworkPolicy tells apart.
type Callers struct {
	Workloads []Caller // whom some peer names; none: everybody else, pods and others, by address
	Addresses []Block  // where addresses matter: only those of the workloads, or of everybody else, that lie in one of the blocks
	Unknown   bool     // those pods of the workloads whose address is not known yet
}

// Block is a block of addresses without some others.
type Block struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// String is the block and its exceptions.
func (b Block) String() string {
	words := make([]string, 0, len(b.Except))
	for _, x := range b.Except {
		words = append(words, x.String())
	}
	if len(words) == 0 {
		return b.CIDR.String()
	}
	return b.CIDR.String() + " without " + strings.Join(words, ", ")
}

// Contains says whether an address is in the block.
func (b Block) Contains(a netip.Addr) bool {
	for _, x := range b.Except {
		if x.Contains(a) {
			return false
		}
	}
	return b.CIDR.Contains(a)
}

func (b Block) same(o Block) bool { return b.CIDR == o.CIDR && slices.Equal(b.Except, o.Except) }

// Caller names a workload.
type Caller struct{ Key, Namespace, Name string }

// String is NAMESPACE/NAME.
func (c Caller) String() string { return c.Namespace + "/" + c.Name }

// Others says whether the group is everybody, in or outside of the cluster, whom no peer names, as far as addresses tell.
func (c Callers) Others() bool { return len(c.Workloads) == 0 }

// Contain says whether a caller's address counts.
func (c Callers) Contain(a netip.Addr) bool {
	if !a.IsValid() {
		return c.Unknown || c.Addresses == nil
	}
	if c.Addresses == nil {
		return !c.Unknown
	}
	for _, b := range c.Addresses {
		if b.Contains(a) {
			return true
		}
	}
	return false
}

// String names the first of them and counts the rest.
func (c Callers) String() string {
	var words []string
	for _, w := range c.Workloads {
		words = append(words, w.String())
	}
	var b strings.Builder
	b.WriteString("anybody else")
	if len(words) > 0 {
		b.Reset()
		b.WriteString(some(words, "", ""))
	}
	switch {
	case c.Unknown:
		b.WriteString(" (at addresses that are not known yet)")
	case c.Addresses != nil:
		blocks := make([]string, 0, len(c.Addresses))
		for _, a := range c.Addresses {
			blocks = append(blocks, a.String())
		}
		b.WriteString(" (at " + some(blocks, "", "") + ")")
	}
	return b.String()
}

// some names the first few, after the word for one or that for several, and counts the rest.
func some(names []string, one, several string) string {
	const most = 3
	switch {
	case len(names) == 1:
		return one + names[0]
	case len(names) <= most:
		return several + strings.Join(names, ", ")
	}
	return several + strings.Join(names[:most], ", ") + " and " + itoa(len(names)-most) + " more"
}

func itoa(n int) string { return strconv.Itoa(n) }
