package lint

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// layers finds where L3/4 and L7 differ, the companions standing as they should.
func (l *linter) layers(companions []netpol.Companion) {
	var standing []agree.Companion
	ours := map[string]bool{}
	for _, c := range companions {
		if !c.DryRun {
			standing = append(standing, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
			ours[c.NetworkPolicy.Namespace+"/"+c.NetworkPolicy.Name] = true
		}
	}
	byName := map[string]*rule{}
	for _, p := range l.policies {
		for _, r := range l.rules[p] {
			if r.direction == model.Ingress {
				byName[r.name()] = r
			}
		}
	}
	for _, w := range new(agree.Checker).Check(l.ix, standing).Workloads {
		l.shut(w, byName)
		l.wider(w, ours)
	}
}

// shut tells what a sidecar allows and a NetworkPolicy shuts.
func (l *linter) shut(w *agree.Workload, byName map[string]*rule) {
	for _, s := range w.Shut {
		d := model.Diagnostic{Object: model.ObjectRef{Kind: "Workload", Namespace: w.Namespace, Name: w.Name}, Consequence: s.String()}
		if len(s.Rules) > 0 && byName[s.Rules[0]] != nil {
			r := byName[s.Rules[0]]
			d.Object, d.Field = r.finding("", "", "").Object, r.field()
		}
		switch {
		case !s.Deliberate:
			d.Code, d.Severity, d.Remedy = "layers-disagree", model.SeverityError, "let it pass in a NetworkPolicy, or take it out of the rule"
		case s.Side == agree.CallerEgress:
			d.Code, d.Severity, d.Remedy = "egress-shuts", model.SeverityNotice, "open the caller's egress, or take it out of the rule"
		default:
			continue // a NetworkPolicy of somebody's own protects what no policy does
		}
		l.found.Add(d)
	}
}

// wider tells what a NetworkPolicy lets pass and no policy allows: one finding for the same NetworkPolicies.
func (l *linter) wider(w *agree.Workload, ours map[string]bool) {
	counts := map[string]int{}
	var first []agree.Wider
	for _, x := range w.Wider {
		if x.Plumbing {
			continue
		}
		key := strings.Join(x.By, ",")
		if counts[key]++; counts[key] == 1 {
			first = append(first, x)
		}
	}
	for _, x := range first {
		d := model.Diagnostic{
			Code: "l4-wider", Severity: model.SeverityNotice, Object: model.ObjectRef{Kind: "Workload", Namespace: w.Namespace, Name: w.Name}, Consequence: "L3/4 lets pass " + x.String(),
		}
		if more := counts[strings.Join(x.By, ",")] - 1; more > 0 {
			d.Consequence += "; and " + strconv.Itoa(more) + " more"
		}
		d.Consequence += "; the sidecar alone refuses it"
		if i := slices.IndexFunc(x.By, func(entry string) bool { return !ours[nameIn(entry)] }); i >= 0 {
			namespace, name, _ := strings.Cut(nameIn(x.By[i]), "/")
			d.Code, d.Severity, d.Remedy = "network-policy-wider", model.SeverityWarning, "narrow the NetworkPolicy, or allow in a policy what it is for"
			d.Object = model.ObjectRef{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
		}
		l.found.Add(d)
	}
}

// nameIn is NAMESPACE/NAME in "NetworkPolicy NAMESPACE/NAME ingress[0]".
func nameIn(entry string) string {
	words := strings.Fields(entry)
	if len(words) < 2 {
		return ""
	}
	return words[1]
}
