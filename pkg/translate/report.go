package translate

import (
	"slices"
	"strconv"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// reportPorts finds where a workload's ports are not what its settings or the rules on them expect.
func (r *run) reportPorts(w *model.Workload, policies []*resolvedPolicy) {
	r.reportSettings(w, isGoverned(policies))
	for _, resolved := range policies {
		p := resolved.policy
		for i := range p.Ingress {
			switch rule := &p.Ingress[i]; {
			case rule.HTTP == nil:
			case rule.Ports == nil:
				r.reportEveryPort(w, p, i)
			default:
				for _, number := range httpRulePorts(w, rule.Ports) {
					r.reportHTTPRule(w, p, i, number)
				}
			}
		}
	}
}

// reportSettings looks at the workload alone, and at whether any enforced policy governs it.
func (r *run) reportSettings(w *model.Workload, governed bool) {
	about := model.ObjectRef{Kind: "Workload", Namespace: w.Namespace, Name: w.Name}
	for _, p := range w.Ports {
		if p.Conflict {
			r.findings.add(model.Diagnostic{
				Code: "port-protocol-conflict", Severity: model.SeverityWarning,
				Object: model.ObjectRef{Kind: "Service", Namespace: w.Namespace, Name: p.Service},
				Consequence: "another Service gives port " + portText(p.Number) + " of workload " + w.Name +
					" another protocol, so it is plain TCP: http rules close it",
				Remedy: "give the port one appProtocol in all Services",
			})
		}
		if len(w.Proxy.Bound) == 0 && reserved(p.Number) {
			r.findings.add(model.Diagnostic{
				Code: "reserved-port", Severity: model.SeverityWarning, Object: about,
				Consequence: "port " + portText(p.Number) + " belongs to the sidecar: nobody can reach the application there",
				Remedy:      "move the application to a port outside 15000-15099",
			})
		}
	}
	for _, number := range w.Proxy.ServerFirst {
		d := model.Diagnostic{Severity: model.SeverityWarning, Object: about, Field: "metadata.annotations[" + v1alpha1.AnnotationServerFirst + "]"}
		switch kind := kindOf(w, number); {
		case kind == chainHTTP:
			d.Code, d.Remedy = "server-first-ignored", "take the port out of the list"
			d.Consequence = "port " + portText(number) + " speaks HTTP, whose server never speaks first"
		case governed:
			d.Code, d.Consequence = "server-first-port", "on port "+portText(number)+
				" the application greets callers before the sidecar has decided about them; until a caller's first byte only the NetworkPolicy stands before it"
		default:
			continue
		}
		r.findings.add(d)
	}
	for i, b := range w.Proxy.Bound {
		if clashesWithEarlier(w.Proxy.Bound, i) {
			r.findings.add(model.Diagnostic{
				Code: "bound-port-clash", Severity: model.SeverityError, Object: about, Field: "metadata.annotations[" + v1alpha1.AnnotationBound + "]",
				Consequence: "the entry of port " + portText(b.Port) + " is left out, as an earlier one has the same port or listens on the same port number " +
					portText(b.Listen.Port()),
				Remedy: "give every entry a port and a listening port of its own",
			})
		}
	}
}

// reportEveryPort: a rule with http and without ports means every port, and most ports do not speak HTTP.
func (r *run) reportEveryPort(w *model.Workload, p *model.Policy, rule int) {
	speaksHTTP := slices.ContainsFunc(w.Ports, func(wp model.WorkloadPort) bool { return wp.Protocol == model.AppHTTP })
	d := p.Finding("http-rule-on-tcp-port", model.SeverityWarning, ruleField(rule)+".http")
	switch {
	case p.Action == model.Deny:
		d.Consequence = "the rule refuses everything on each port that does not speak HTTP"
		d.Remedy = "name the ports that the rule is for"
	case !speaksHTTP:
		d.Consequence = "no port speaks HTTP, so the rule admits nothing"
		d.Remedy = howToSpeakHTTP
	default:
		return
	}
	r.findings.of(w, d)
}

const howToSpeakHTTP = "have a Service name the port with appProtocol: http"

// reportHTTPRule: http can be told only where the sidecar reads HTTP.
func (r *run) reportHTTPRule(w *model.Workload, p *model.Policy, rule int, number uint16) {
	if slices.Contains(w.Proxy.ExcludedInbound, number) {
		d := p.Finding("http-rule-on-excluded-port", model.SeverityError, ruleField(rule)+".ports")
		d.Consequence = "port " + portText(number) +
			" is excluded from capture, so the sidecar decides nothing there, and the NetworkPolicy cannot tell requests apart"
		d.Remedy = "take the port out of " + v1alpha1.AnnotationExcludeInboundPorts
		r.findings.of(w, d)
		return
	}
	port, declared := w.Port(number)
	if port.Protocol == model.AppHTTP {
		return
	}
	why := " is plain TCP, as no Service names it"
	switch {
	case port.Conflict:
		why = " is plain TCP, as Services disagree on its protocol"
	case declared && port.Service != "":
		why = " is plain TCP by Service " + port.Service
	}
	effect := ", so the rule admits nothing there"
	if p.Action == model.Deny {
		effect = ", so the rule refuses everything there"
	}
	d := p.Finding("http-rule-on-tcp-port", model.SeverityWarning, ruleField(rule)+".ports")
	d.Consequence = "port " + portText(number) + why + effect
	d.Remedy = howToSpeakHTTP
	r.findings.of(w, d)
}

// reportUnknownPort: a rule names a port that no container of the workload declares.
func (r *run) reportUnknownPort(w *model.Workload, p *model.Policy, rule int, name string) {
	d := p.Finding("named-port-unknown", model.SeverityWarning, ruleField(rule)+".ports")
	d.Consequence = "no container declares a TCP port named " + strconv.Quote(name) + ", so it admits nothing"
	if p.Action == model.Deny {
		d.Consequence = "no container declares a TCP port named " + strconv.Quote(name) + ", so the rule refuses on every port"
	}
	d.Remedy = "declare the port, or write its number"
	r.findings.of(w, d)
}

// httpRulePorts are the ports that a rule surely means: those it names one by one, and those of its ranges that the workload has.
func httpRulePorts(w *model.Workload, ranges []model.PortRange) []uint16 {
	var out []uint16
	for _, pr := range ranges {
		if pr.Protocol != model.TCP {
			continue
		}
		if pr.Name == "" && pr.From == pr.To && pr.From != 0 {
			out = append(out, pr.From)
			continue
		}
		for _, p := range w.Ports {
			if pr.Name != "" && pr.Name == p.Name || pr.Name == "" && pr.From <= p.Number && p.Number <= pr.To {
				out = append(out, p.Number)
			}
		}
	}
	return out
}

func ruleField(index int) string { return "spec.ingress[" + strconv.Itoa(index) + "]" }

func portText(port uint16) string { return strconv.Itoa(int(port)) }
