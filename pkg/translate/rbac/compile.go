package rbac

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	statPrefix = "l7policy"
	// shadowStatPrefix tells the verdict of a dry run from the one in force, in stats and in the filter's dynamic metadata.
	shadowStatPrefix = "dry_run_"
)

// Compile is a Compiler's first Compile.
func Compile(in Input) Slots {
	c := new(Compiler)
	policies := make([]*Lowered, 0, len(in.Policies))
	for i := range in.Policies {
		policies = append(policies, c.Lower(&in.Policies[i]))
	}
	return c.Compile(policies, in.Ports)
}

// Compiler compiles the slots of many workloads: a policy is lowered once for all that it selects. It keeps what slots hold whatever the policies;
// what they hold of a policy is kept in its Lowered, for as long as the caller keeps that. The zero value is ready. Not safe for concurrent use.
type Compiler struct{ common *common }

// common is what slots hold whatever the policies.
type common struct {
	in                       *inputs
	sets                     sourceSets
	guard, reserved          []*field // the reserved ports where no port is mapped
	notIsolated, defaultDeny *onMatch
	// The TCP slots of workloads whose connections no rule decides, by whether an Allow isolates them.
	tcp map[bool]*corev3.TypedExtensionConfig
}

// ready is what slots have in common, built once.
func (c *Compiler) ready() *common {
	if c.common == nil {
		in := newInputs()
		c.common = &common{
			in: in, sets: newSourceSets(), guard: in.guard(), reserved: in.reserved(nil), tcp: map[bool]*corev3.TypedExtensionConfig{},
			notIsolated: decide(model.OutcomeNotIsolated, model.Allow), defaultDeny: decide(model.OutcomeDefaultDeny, model.Deny),
		}
	}
	return c.common
}

// Compile builds both slots. A workload that no enforced Allow isolates gets an explicit allow behind guard and denies; one that no policy
// governs gets the allow alone, so that it answers as before. The shadow, where any policy is DryRun, is the verdict with those enforced too.
// Slots depend on the arguments only, never on which ports speak HTTP now, and equal arguments give equal bytes.
func (c *Compiler) Compile(policies []*Lowered, ports []PortMap) Slots {
	x := &compilation{common: c.ready(), policies: policies, ports: ports}
	dry := slices.ContainsFunc(policies, func(p *Lowered) bool { return p.dryRun })
	http := httpSlot(x.verdict(layerHTTP, enforced), x.shadow(layerHTTP, dry))
	return Slots{HTTP: http, TCP: x.tcpSlot(dry), Diagnostics: x.diagnostics}
}

// Metrics builds the slot of a sidecar's own metrics: these callers may ask for them, and nobody else.
func (c *Compiler) Metrics(s *Sources) *corev3.TypedExtensionConfig {
	common := c.ready()
	next := common.defaultDeny
	if set := common.sets.of(s); set != nil {
		decision := decide(model.OutcomeScraper, model.Allow)
		next = common.tree(model.Allow).of([]*term{{conjunction: conjunction{decision: decision, sources: set, ports: portSet{any: true}}}}, next)
	}
	return newSlot(model.MetricsSlot, httpFilterType, setting{number: httpMatcherField, matcher: whole(next)})
}

// compilation is one Compile.
type compilation struct {
	*common

	policies    []*Lowered
	ports       []PortMap
	diagnostics []model.Diagnostic
}

// tcpSlot builds the TCP slot. Those that no rule says anything in are one.
func (x *compilation) tcpSlot(dry bool) *corev3.TypedExtensionConfig {
	plain := !dry && len(x.ports) == 0 && !slices.ContainsFunc(x.policies, (*Lowered).decidesConnections)
	isolated := x.isolated(enforced)
	if slot := x.tcp[isolated]; plain && slot != nil {
		return slot
	}
	slot := tcpSlot(x.verdict(layerTCP, enforced), x.shadow(layerTCP, dry))
	if plain {
		x.tcp[isolated] = slot
	}
	return slot
}

// shadow is the verdict with the dry runs enforced; nil where there is none.
func (x *compilation) shadow(l layer, dry bool) *onMatch {
	if !dry {
		return nil
	}
	return x.verdict(l, everyPolicy)
}

func enforced(p *Lowered) bool  { return !p.dryRun }
func everyPolicy(*Lowered) bool { return true }

func (x *compilation) isolated(counts func(*Lowered) bool) bool {
	return slices.ContainsFunc(x.policies, func(p *Lowered) bool { return counts(p) && p.action == model.Allow })
}

// verdict is guard, denies, allows and the default, in this order.
func (x *compilation) verdict(l layer, counts func(*Lowered) bool) *onMatch {
	var denies, allows []*term
	for _, p := range x.policies {
		switch {
		case !counts(p):
		case p.action == model.Allow:
			allows = x.appendTerms(allows, p, l)
		default:
			denies = x.appendTerms(denies, p, l)
		}
	}
	next := x.notIsolated
	var first []*field
	if x.isolated(counts) {
		next, first = x.defaultDeny, x.reserved
		if len(x.ports) > 0 {
			first = x.in.reserved(x.ports)
		}
	}
	if l == layerHTTP && slices.ContainsFunc(x.policies, counts) {
		first = slices.Concat(first, x.guard)
	}
	next = x.tree(model.Allow).of(allows, next)
	next = x.tree(model.Deny).of(denies, next)
	return inOrder(next, first...)
}

// appendTerms adds the terms of a policy's rules, with the ports that the workload has.
func (x *compilation) appendTerms(out []*term, p *Lowered, l layer) []*term {
	for i := range p.rules {
		r := &p.rules[i]
		ports := r.ports.sockets(x.ports, p.action)
		switch {
		case ports.none():
			continue
		case l == layerTCP:
			out = appendWithPorts(out, r.tcp, ports)
			continue
		}
		out = appendWithPorts(out, r.http, ports)
		for _, d := range r.diagnostics {
			x.diagnose(d)
		}
	}
	return out
}

// diagnose reports a finding once, however often its rule is built.
func (x *compilation) diagnose(d model.Diagnostic) {
	if !slices.Contains(x.diagnostics, d) {
		x.diagnostics = append(x.diagnostics, d)
	}
}
