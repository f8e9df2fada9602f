package check

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Access is how far one caller gets at one port of a callee.
type Access string

// Accesses.
const (
	Shut     Access = "shut"     // both layers shut it
	Open     Access = "open"     // both layers let everything pass
	Requests Access = "requests" // L3/4 lets it pass, and the sidecar looks at each request
	OnlyL4   Access = "l4"       // L3/4 lets it pass, and the sidecar refuses all of it
	OnlyL7   Access = "l7"       // the sidecar would allow some of it, and L3/4 shuts it
	NoL7     Access = "no-l7"    // L3/4 lets it pass, and no sidecar looks
)

// Matrix says how far everybody gets at every port that workloads have.
type Matrix struct {
	Callers []Caller // workloads by name, then blocks of addresses that policies name, then anybody else
	Rows    []Row    // by callee and port
}

// Caller is a column.
type Caller struct {
	Name     string // NAMESPACE/NAME, a block, or Anybody
	workload *model.Workload
	address  netip.Addr
}

// Anybody is the name of the caller whom no rule names.
const Anybody = "anybody else"

// Row is a port of a callee.
type Row struct {
	Callee string // NAMESPACE/NAME
	Port   uint16
	Cells  []Access // by caller
}

// Matrix asks about every pair of workloads, by the groups of callers that nothing tells apart.
func (w *World) Matrix() *Matrix {
	m := &Matrix{Callers: w.callers()}
	report := new(agree.Checker).Check(w.ix, w.companions)
	egress := make([]kernel.Governing, len(m.Callers))
	for i, c := range m.Callers {
		if c.workload != nil {
			egress[i] = w.standing.Governing(networkingv1.PolicyTypeEgress, kernel.PodEnd(w.ix, c.workload.Pods[0]))
		}
	}
	for _, callee := range w.ix.Workloads {
		found := report.Of(callee.Key)
		if found == nil || len(callee.Ports) == 0 {
			continue // on the host's network, or without a port that is known
		}
		end := replica(w.ix, callee)
		groups := newGroups(found)
		rows := make([]Row, 0, len(callee.Ports))
		for _, p := range callee.Ports {
			rows = append(rows, Row{Callee: callee.Namespace + "/" + callee.Name, Port: p.Number, Cells: make([]Access, 0, len(m.Callers))})
		}
		for i, c := range m.Callers {
			access := groups.of(c)
			l4 := access.L4
			if len(egress[i].Isolating()) > 0 {
				l4 = l4.Intersect(egress[i].Ports(end))
			}
			for j, p := range callee.Ports {
				rows[j].Cells = append(rows[j].Cells, cell(callee, p.Number, l4, &access))
			}
		}
		m.Rows = append(m.Rows, rows...)
	}
	slices.SortStableFunc(m.Rows, func(a, b Row) int { return cmp.Or(strings.Compare(a.Callee, b.Callee), cmp.Compare(a.Port, b.Port)) })
	return m
}

// replica is one more pod of a workload, so that the workload's own pods are no special case: a pod is never cut off from itself, and from its replicas it may be.
func replica(ix *model.Index, of *model.Workload) kernel.End {
	another := *of.Pods[0]
	another.Name += " (another)"
	return kernel.PodEnd(ix, &another)
}

func cell(callee *model.Workload, port uint16, l4 kernel.Ports, access *agree.Access) Access {
	passes, allowed := l4.Contains(port, model.TCP), access.L7.Contains(port, model.TCP)
	proxy := &callee.Proxy
	bound := slices.ContainsFunc(proxy.Bound, func(b model.BoundPort) bool { return b.Port == port })
	seen := (proxy.Injected && len(proxy.Bound) == 0 || bound) && !slices.Contains(proxy.ExcludedInbound, port)
	switch {
	case !passes && seen && allowed:
		return OnlyL7
	case !passes:
		return Shut
	case !seen:
		return NoL7
	case !allowed:
		return OnlyL4
	case access.Requests.Contains(port, model.TCP):
		return Requests
	}
	return Open
}

// callers are the columns. Blocks of addresses beyond the first few are left out: they are told of by single questions.
func (w *World) callers() []Caller {
	var out []Caller
	for _, workload := range w.ix.Workloads {
		if workload.HostNetwork {
			continue
		}
		c := Caller{Name: workload.Namespace + "/" + workload.Name, workload: workload}
		if len(workload.Addresses) > 0 {
			c.address = workload.Addresses[0]
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Caller) int { return strings.Compare(a.Name, b.Name) })
	const mostBlocks = 6
	blocks := w.blocks()
	for _, b := range blocks[:min(len(blocks), mostBlocks)] {
		if a, some := firstOf(b); some {
			out = append(out, Caller{Name: b.CIDR.String(), address: a})
		}
	}
	return append(out, Caller{Name: Anybody, address: outsideOf(blocks)})
}

// blocks are those that the rules name, but for everybody.
func (w *World) blocks() []model.IPBlock {
	var out []model.IPBlock
	for i := range w.ix.Snapshot.Policies {
		for _, r := range w.ix.Snapshot.Policies[i].Ingress {
			for _, p := range r.Peers {
				if p.Block != nil && p.Block.CIDR.Bits() > 0 && !slices.ContainsFunc(out, func(b model.IPBlock) bool { return b.CIDR == p.Block.CIDR }) {
					out = append(out, *p.Block)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b model.IPBlock) int {
		return cmp.Or(a.CIDR.Addr().Compare(b.CIDR.Addr()), cmp.Compare(a.CIDR.Bits(), b.CIDR.Bits()))
	})
	return out
}

// firstOf is an address of a block that none of its exceptions holds, of the first few.
func firstOf(b model.IPBlock) (netip.Addr, bool) {
	const tries = 1024
	a := b.CIDR.Addr()
	for range tries {
		i := slices.IndexFunc(b.Except, func(x netip.Prefix) bool { return x.Contains(a) })
		if i < 0 {
			return a, b.CIDR.Contains(a)
		}
		a = after(b.Except[i])
	}
	return netip.Addr{}, false
}

// after is the first address behind a block.
func after(p netip.Prefix) netip.Addr {
	bytes := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last.Next()
}

// outsideOf is an address that no block holds, of those that RFC 5737 keeps for documentation.
func outsideOf(blocks []model.IPBlock) netip.Addr {
	for _, text := range []string{"192.0.2.1", "198.51.100.1", "203.0.113.1"} {
		a := netip.MustParseAddr(text)
		if !slices.ContainsFunc(blocks, func(b model.IPBlock) bool { return b.CIDR.Contains(a) }) {
			return a
		}
	}
	return netip.Addr{}
}

// groups are the groups of one callee's callers.
type groups struct {
	named  map[string][]agree.Access // by the workload's key
	others []agree.Access
}

func newGroups(found *agree.Workload) groups {
	g := groups{named: map[string][]agree.Access{}}
	for _, a := range found.Access {
		if a.Callers.Others() {
			g.others = append(g.others, a)
		}
		for _, c := range a.Callers.Workloads {
			g.named[c.Key] = append(g.named[c.Key], a)
		}
	}
	return g
}

// of is how far a caller gets.
func (g groups) of(c Caller) agree.Access {
	candidates := g.others
	if c.workload != nil && g.named[c.workload.Key] != nil {
		candidates = g.named[c.workload.Key]
	}
	for _, a := range candidates {
		if a.Callers.Contain(c.address) {
			return a
		}
	}
	return agree.Access{}
}
