package diff

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// rule is a rule as one entity has it, of a policy or of a NetworkPolicy.
type rule struct {
	name    string
	deny    bool
	sources *sources // nil: anyone
	ports   []PortRange
	http    []model.HTTPMatch // nil: any request and any bytes
	content int               // equal for rules that do the same with the same requests
}

// frame is everything that one side decides by about calls to an entity (of egress: by it).
type frame struct {
	governed, isolated bool
	rules              []rule   // in the order in which they decide
	speaks             []uint16 // ports that speak HTTP, of governed workloads; NetworkPolicies know nothing of that
	reserved           bool     // the sidecar's own ports are shut
}

// policyFrame is what policies decide about calls to a workload.
func (c *comparison) policyFrame(w *world, e *entity) *frame {
	o := e.on(w.side)
	f := &frame{}
	for _, p := range w.policies[o.Namespace] {
		if !p.Selector.Matches(labels.Set(o.Labels)) {
			continue
		}
		f.governed = true
		f.isolated = f.isolated || p.Action == model.Allow
		for i := range p.Ingress {
			f.rules = append(f.rules, c.policyRule(w, o, p, &p.Ingress[i]))
		}
	}
	f.reserved = f.isolated
	for _, p := range o.Ports {
		if p.Protocol == model.AppHTTP {
			f.speaks = append(f.speaks, p.Number)
		}
	}
	return f
}

func (c *comparison) policyRule(w *world, o *model.Workload, p *model.Policy, r *model.Rule) rule {
	out := rule{name: model.RuleName(p.PolicyRef, r.Name), deny: p.Action == model.Deny, sources: c.sourcesOf(w, p.Namespace, r.Peers), http: r.HTTP}
	out.content = c.id(fmt.Sprintf("http %t %s", out.deny, httpKey(r.HTTP)))
	if r.Ports == nil {
		out.ports = []PortRange{every(model.TCP)}
	}
	for _, q := range r.Ports {
		out.ports = append(out.ports, numbers(p.Action, q, o)...)
	}
	return out
}

// httpKey is an exact encoding of http matches.
func httpKey(list []model.HTTPMatch) string { return fmt.Sprintf("%#v", list) }

// key is an exact encoding of a frame, but for which points its sources mean on its side.
func (f *frame) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%t %t %v", f.governed, f.isolated, f.speaks)
	for i := range f.rules {
		r := &f.rules[i]
		b.WriteString("|" + strconv.Quote(r.name) + r.meaning())
	}
	return b.String()
}

// meaning is an exact encoding of what a rule does, whatever its name.
func (r *rule) meaning() string {
	from := -1
	if r.sources != nil {
		from = r.sources.id
	}
	return fmt.Sprintf(" %t %d %d %v", r.deny, r.content, from, r.ports)
}

func (f *frame) speaksHTTP(p PortRange) bool {
	return p.Protocol == model.TCP && slices.Contains(f.speaks, p.From)
}

// bounds are the ranges at whose ends anything changes for callers that match some of the rules.
func (f *frame) bounds(matched func(i int) bool) []PortRange {
	var out []PortRange
	for i := range f.rules {
		if matched(i) {
			out = append(out, f.rules[i].ports...)
		}
	}
	for _, p := range f.speaks {
		out = append(out, PortRange{model.TCP, p, p})
	}
	if f.reserved {
		out = append(out, PortRange{model.TCP, model.ReservedFirst, model.ReservedLast})
	}
	return out
}

// compareL7 compares the sidecar's verdicts on calls to a workload.
func (c *comparison) compareL7(e *entity) {
	if c.mayDiffer(L7, e) {
		c.compareEntity(L7, model.Ingress, e, c.policyFrame(c.before, e), c.policyFrame(c.after, e))
	}
}

// decision is all that decides about requests of some callers on some ports.
type decision struct {
	governed, isolated, reserved, http bool
	rules                              []*rule
}

// decide picks what decides on ports that no rule tells apart.
func (f *frame) decide(matched func(i int) bool, p PortRange) decision {
	d := decision{
		governed: f.governed, isolated: f.isolated, http: f.speaksHTTP(p),
		reserved: f.reserved && p.Protocol == model.TCP && p.From >= model.ReservedFirst && p.From <= model.ReservedLast,
	}
	for i := range f.rules {
		if r := &f.rules[i]; matched(i) && hold(r.ports, p) {
			d.rules = append(d.rules, r)
		}
	}
	return d
}

// key is an exact encoding, names of rules included.
func (d *decision) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%t %t %t %t", d.governed, d.isolated, d.reserved, d.http)
	for _, r := range d.rules {
		fmt.Fprintf(&b, " %d %q", r.content, r.name)
	}
	return b.String()
}
