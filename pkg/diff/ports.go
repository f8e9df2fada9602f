package diff

import (
	"cmp"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const lastPort = 65535

// portParts divides a protocol's ports, from 1 up, where ranges begin and end.
func portParts(protocol model.Protocol, ranges []PortRange) []PortRange {
	starts := []int{1}
	for _, r := range ranges {
		if r.Protocol == protocol {
			starts = append(starts, int(r.From), int(r.To)+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var out []PortRange
	for i, s := range starts {
		end := lastPort
		if i+1 < len(starts) {
			end = starts[i+1] - 1
		}
		if s >= 1 && s <= end && end <= lastPort {
			out = append(out, PortRange{protocol, uint16(s), uint16(end)})
		}
	}
	return out
}

// joinPorts sorts ranges and joins those that touch.
func joinPorts(ranges []PortRange) []PortRange {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, comparePorts)
	var out []PortRange
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].Protocol == r.Protocol && int(r.From) <= int(out[n-1].To)+1 {
			out[n-1].To = max(out[n-1].To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

// without are the ports of a protocol that ranges leave out.
func without(protocol model.Protocol, ranges []PortRange) []PortRange {
	return slices.DeleteFunc(portParts(protocol, ranges), func(p PortRange) bool { return hold(ranges, p) })
}

func comparePorts(a, b PortRange) int {
	return cmp.Or(strings.Compare(string(a.Protocol), string(b.Protocol)), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
}

func every(protocol model.Protocol) PortRange { return PortRange{protocol, 1, lastPort} }

func everyPort() []PortRange {
	return []PortRange{every(model.TCP), every(model.UDP), every(model.SCTP)}
}

// numbers are the TCP ports that a policy's range means on a workload; all for a name that the workload lacks in a Deny, none in an Allow.
func numbers(action model.Action, r model.PortRange, w *model.Workload) []PortRange {
	switch {
	case r.Protocol != model.TCP:
		return nil
	case r.Name == "" && r.From == 0 && r.To == 0:
		return []PortRange{every(model.TCP)}
	case r.Name == "":
		return []PortRange{{model.TCP, r.From, r.To}}
	}
	var out []PortRange
	for _, p := range w.Ports {
		if p.Name == r.Name {
			out = append(out, PortRange{model.TCP, p.Number, p.Number})
		}
	}
	if out == nil && action == model.Deny {
		return []PortRange{every(model.TCP)}
	}
	return out
}

// hold says whether one of the ranges holds a part that they all hold or leave out as a whole.
func hold(ranges []PortRange, part PortRange) bool {
	return slices.ContainsFunc(ranges, func(r PortRange) bool { return r.Protocol == part.Protocol && r.From <= part.From && part.From <= r.To })
}
