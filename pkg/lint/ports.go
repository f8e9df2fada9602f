package lint

import (
	"fmt"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// ports finds ports of a rule that no callee has.
func (l *linter) ports(r *rule) {
	callees := l.callees(r)
	for i, p := range r.Ports {
		field := fmt.Sprintf("%s.ports[%d]", r.field(), i)
		if p.Name != "" || p.From == 0 {
			continue // translation tells of names
		}
		if p.Protocol == model.TCP && r.direction == model.Ingress && p.From >= model.ReservedFirst && p.To <= model.ReservedLast {
			d := r.finding("rule-on-reserved-port", model.SeverityWarning, field)
			d.Consequence = fmt.Sprintf("ports %d to %d are the sidecar's own, which no policy opens: %s there", model.ReservedFirst, model.ReservedLast, r.matchesNothing())
			d.Remedy = "name the application's port; for the sidecar's metrics, see spec.metrics of the MeshConfig"
			l.found.Add(d)
			continue
		}
		if !l.undeclared(callees, p) {
			continue
		}
		if s, target, found := l.serviceAt(callees, p); found {
			d := r.finding("port-of-service", model.SeverityWarning, field)
			d.Consequence = fmt.Sprintf("%s is the port of Service %s, whose calls arrive at %s, and policies see where they arrive: %s at the Service's port", portsText(p), s.Name, target, r.matchesNothing())
			d.Remedy = "write the pods' port, the Service's targetPort"
			l.found.Add(d)
			continue
		}
		d := r.finding("port-not-declared", model.SeverityWarning, field)
		d.Consequence = "no container of the callees declares " + portsText(p) + ", and no Service leads there, so nobody may be listening: " + r.matchesNothing() + " by it"
		d.Remedy = "correct the number, or declare the port in the pod"
		l.found.Add(d)
	}
}

// callees are the workloads whose ports a rule names: those that its policy governs, or for egress those that it means.
func (l *linter) callees(r *rule) []*model.Workload {
	if r.direction == model.Ingress {
		return l.selected[r.policy]
	}
	if slices.ContainsFunc(r.Peers, func(p model.Peer) bool { return p.Block != nil }) || r.Peers == nil {
		return nil // anybody outside, of whose ports nothing is known
	}
	var out []*model.Workload
	for i, w := range l.ix.Workloads {
		if r.possibly.has(i) {
			out = append(out, w)
		}
	}
	return out
}

// undeclared says whether some callees are known, each of them declares ports, and none has one of the range.
func (l *linter) undeclared(callees []*model.Workload, p model.PortRange) bool {
	return all(callees, func(w *model.Workload) bool {
		has := slices.ContainsFunc(w.Ports, func(wp model.WorkloadPort) bool {
			return p.Protocol == model.TCP && p.From <= wp.Number && wp.Number <= p.To
		})
		declares := len(w.Ports) > 0
		for _, pod := range w.Pods {
			for _, c := range pod.Ports {
				declares = true
				has = has || c.Protocol == p.Protocol && p.From <= c.Number && c.Number <= p.To
			}
		}
		return declares && !has
	})
}

// serviceAt finds a Service of the callees with a port of the range, and where calls to it arrive.
func (l *linter) serviceAt(callees []*model.Workload, p model.PortRange) (service *model.Service, target string, found bool) {
	for i := range l.ix.Snapshot.Services {
		s := &l.ix.Snapshot.Services[i]
		if !serves(s, callees) {
			continue
		}
		for _, q := range s.Ports {
			if q.Protocol != p.Protocol || q.Port < p.From || q.Port > p.To {
				continue
			}
			target := portText(q.TargetPort)
			if q.TargetName != "" {
				target = strconv.Quote(q.TargetName)
			}
			return s, target, true
		}
	}
	return nil, "", false
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }

// portsText is "port 80", "ports 80 to 90" or "UDP port 53".
func portsText(p model.PortRange) string {
	text := "port " + portText(p.From)
	if p.From != p.To {
		text = "any of ports " + portText(p.From) + " to " + portText(p.To)
	}
	if p.Protocol != model.TCP {
		text = string(p.Protocol) + " " + text
	}
	return text
}

// serves says whether a Service selects any of some workloads.
func serves(s *model.Service, workloads []*model.Workload) bool {
	return len(s.Selector) > 0 && slices.ContainsFunc(workloads, func(w *model.Workload) bool {
		return w.Namespace == s.Namespace && labels.SelectorFromSet(s.Selector).Matches(labels.Set(w.Labels))
	})
}
