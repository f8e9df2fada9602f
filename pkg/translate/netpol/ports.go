package netpol

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/selection"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	firstPort uint16 = 1
	lastPort  uint16 = 65535
)

// governed is a range of ports of some of the governed pods: a named port can have other numbers in others.
type governed struct {
	pods  conj
	ports ports
}

// everyTCP are the ports that a rule without ports opens: all of TCP but the sidecar's own.
func everyTCP() []ports { return open(ports{model.TCP, firstPort, lastPort}) }

// open leaves the sidecar's own ports out of a range: no policy opens them.
func open(p ports) []ports {
	if p.protocol != model.TCP || p.to < model.ReservedFirst || p.from > model.ReservedLast {
		return []ports{p}
	}
	return p.minus(ports{model.TCP, model.ReservedFirst, model.ReservedLast})
}

// portsOf are the ports that an allowing rule opens.
func (b *builder) portsOf(p *model.Policy, d model.Direction, r model.Rule, field string, pods conj) []governed {
	var out []governed
	add := func(pods conj, q ports) {
		for _, part := range open(q) {
			out = append(out, governed{pods, part})
		}
	}
	if r.Ports == nil {
		for _, q := range everyTCP() {
			out = append(out, governed{pods, q})
		}
	}
	for i, q := range r.Ports {
		switch {
		case r.HTTP != nil && q.Protocol != model.TCP: // http is over TCP
		case q.Name == "":
			add(pods, numbers(q))
		case d == model.Egress:
			b.report(p, "named-port-in-egress", fmt.Sprintf("%s[%d]", field, i),
				fmt.Sprintf("the callees' port %q may be another number in each of them: the rule opens nothing by it", q.Name), "write the number")
		default:
			for _, g := range b.named(p, fmt.Sprintf("%s[%d]", field, i), q, pods) {
				add(g.pods, g.ports)
			}
		}
	}
	if r.HTTP != nil {
		out = b.withoutExcluded(p, field, out)
	}
	return out
}

func numbers(r model.PortRange) ports {
	if r.From == 0 && r.To == 0 {
		return ports{r.Protocol, firstPort, lastPort}
	}
	return ports{r.Protocol, r.From, r.To}
}

// deniedPorts are the ports that a Deny's rule refuses; without ports, everything that there is. In ingress a name refuses the number that it has in each pod, and every port of
// the protocol in pods that do not have it. In egress the name is the callees', of whatever number: it refuses every port of the protocol.
func (b *builder) deniedPorts(p *model.Policy, d model.Direction, index int) []governed {
	pods, r := conjOf(p.Selector), p.Rules(d)[index]
	var out []governed
	if r.Ports == nil {
		for _, protocol := range []model.Protocol{model.TCP, model.UDP, model.SCTP} {
			out = append(out, everyPort(pods, protocol))
		}
	}
	for i, q := range r.Ports {
		if q.Name == "" {
			out = append(out, governed{pods, numbers(q)})
			continue
		}
		field := fmt.Sprintf("spec.%s[%d].ports[%d]", d, index, i)
		if d == model.Egress {
			b.report(p, "named-port-in-egress", field,
				fmt.Sprintf("the callees' port %q may be another number in each of them: the rule refuses every one", q.Name), "write the number")
			out = append(out, everyPort(pods, q.Protocol))
			continue
		}
		out = append(out, b.deniedName(p, field, q, pods)...)
	}
	return out
}

func everyPort(pods conj, protocol model.Protocol) governed {
	return governed{pods, ports{protocol, firstPort, lastPort}}
}

// deniedName turns a named port of a Deny into numbers. Where no label tells the pods with different numbers apart, all of them refuse all of the numbers.
func (b *builder) deniedName(p *model.Policy, field string, q model.PortRange, pods conj) []governed {
	byNumber, lacking := b.numbersOf(p, q)
	if len(byNumber) == 0 {
		return []governed{everyPort(pods, q.Protocol)}
	}
	out, without, told := tell(byNumber, lacking, q.Protocol, pods)
	if !told {
		out = nil
		for _, n := range slices.Sorted(maps.Keys(byNumber)) {
			out = append(out, governed{pods, ports{q.Protocol, n, n}})
		}
		b.reportDiffers(p, field, q.Name, "the companions shut every number of it in all of them, and nothing else")
	}
	for _, c := range without {
		out = append(out, everyPort(c, q.Protocol))
	}
	return out
}

// selects are the workloads that a policy selects: the one that is being built, or a Deny beside it.
func (b *builder) selects(p *model.Policy) []*model.Workload {
	if p == b.selection.Policy {
		return b.selection.Workloads
	}
	for _, s := range *b.denies {
		if p == s.Policy {
			return s.Workloads
		}
	}
	b.everybody = true
	return b.ix.Selected(p)
}

// numbersOf are the numbers of a named port, with the governed workloads that have them, and those that do not have the port.
func (b *builder) numbersOf(p *model.Policy, q model.PortRange) (byNumber map[uint16][]*model.Workload, lacking []*model.Workload) {
	byNumber = map[uint16][]*model.Workload{}
	for _, w := range b.selects(p) {
		seen := map[uint16]bool{}
		for _, pod := range w.Pods {
			for _, c := range pod.Ports {
				if c.Name == q.Name && c.Protocol == q.Protocol && !seen[c.Number] {
					seen[c.Number] = true
					byNumber[c.Number] = append(byNumber[c.Number], w)
				}
			}
		}
		if len(seen) == 0 {
			lacking = append(lacking, w)
		}
	}
	return byNumber, lacking
}

// named turns a named port into numbers. Where the governed pods differ in it, each number is for the pods that have it, if a label tells them apart.
func (b *builder) named(p *model.Policy, field string, q model.PortRange, pods conj) []governed {
	byNumber, lacking := b.numbersOf(p, q)
	out, _, told := tell(byNumber, lacking, q.Protocol, pods)
	switch {
	case told || len(byNumber) == 0: // where no pod has it, translate reports it: the sidecar's rule matches nothing either
		return out
	case len(byNumber) == 1: // open in pods that do not have it, too
		for n := range byNumber {
			out = append(out, governed{pods, ports{q.Protocol, n, n}})
		}
		b.reportDiffers(p, field, q.Name, "the companion opens its number in all of them")
		return out
	}
	b.reportDiffers(p, field, q.Name, "the companion opens none")
	return nil
}

func (b *builder) reportDiffers(p *model.Policy, field, name, effect string) {
	b.report(p, "named-port-differs", field, fmt.Sprintf("the port %q has several numbers in the selected pods, or some do not have it, and no label tells those apart: %s", name, effect),
		"write the number, or select the pods with each number in a policy of their own")
}

// tell says which pods have which number of a named port and which have none, and whether a label tells them apart.
func tell(byNumber map[uint16][]*model.Workload, lacking []*model.Workload, protocol model.Protocol, pods conj) (out []governed, without []conj, told bool) {
	if len(byNumber) == 1 && len(lacking) == 0 {
		for n := range byNumber {
			return []governed{{pods, ports{protocol, n, n}}}, nil, true
		}
	}
	groups := maps.Clone(byNumber)
	if len(lacking) > 0 {
		groups[0] = lacking // no port has this number
	}
	key, values := telling(groups)
	if key == "" {
		return nil, nil, false
	}
	for _, n := range slices.Sorted(maps.Keys(groups)) {
		some, possible := pods.and(term{key, selection.In, strings.Join(values[n], ",")})
		switch {
		case !possible:
		case n == 0:
			without = append(without, some)
		default:
			out = append(out, governed{some, ports{protocol, n, n}})
		}
	}
	return out, without, true
}

// telling is a label whose values tell the workloads with each number from the others.
func telling(byNumber map[uint16][]*model.Workload) (key string, values map[uint16][]string) {
	keys := map[string]bool{}
	for _, workloads := range byNumber {
		for _, w := range workloads {
			for k := range w.Labels {
				keys[k] = true
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		owner := map[string]uint16{}
		values = map[uint16][]string{}
		tells := true
		for n, workloads := range byNumber {
			for _, w := range workloads {
				v, labelled := w.Labels[k]
				other, taken := owner[v]
				tells = tells && labelled && (!taken || other == n)
				owner[v] = n
				values[n] = append(values[n], v)
			}
		}
		if tells {
			for n := range values {
				slices.Sort(values[n])
				values[n] = slices.Compact(values[n])
			}
			return k, values
		}
	}
	return "", nil
}

// withoutExcluded closes the ports that the capture leaves alone: traffic to them never meets the sidecar, so nobody would check the http.
func (b *builder) withoutExcluded(p *model.Policy, field string, all []governed) []governed {
	var excluded []uint16
	for _, w := range b.selects(p) {
		excluded = append(excluded, w.Proxy.ExcludedInbound...)
	}
	slices.Sort(excluded)
	for _, n := range slices.Compact(excluded) {
		var next []governed
		for _, g := range all {
			if g.ports.protocol != model.TCP || n < g.ports.from || n > g.ports.to {
				next = append(next, g)
				continue
			}
			for _, rest := range g.ports.minus(ports{model.TCP, n, n}) {
				next = append(next, governed{g.pods, rest})
			}
			b.report(p, "http-rule-on-excluded-port", field, fmt.Sprintf("port %d is excluded from capture, so no sidecar can check the http rule there: the companion shuts it", n),
				"remove the exclusion, or write a rule without http for the port")
		}
		all = next
	}
	return all
}

func comparePorts(a, b ports) int {
	return cmp.Or(strings.Compare(string(a.protocol), string(b.protocol)), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
}
