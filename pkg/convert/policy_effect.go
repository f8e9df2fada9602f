package convert

import (
	"fmt"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// effect is what a broken part does to its policy. The words are those that the user reads.
type effect string

const (
	effectKept        effect = "it decides nothing by itself, and the policy stands"
	effectEnforced    effect = "the policy is enforced"
	effectDropRule    effect = "the rule is left out, and what it would have allowed stays denied"
	effectWiden       effect = "the rule denies whatever stands here in a request"
	effectAllowNone   effect = "no rule of this direction allows anything"
	effectDenyAll     effect = "everything is denied in this direction"
	effectShutByAllow effect = "the policy isolates every pod that it could have meant, and allows nothing"
	effectShutByDeny  effect = "the policy denies everything, to every pod that it could have meant"
)

// part is a kind of place in a policy.
type part string

const (
	partLabel       part = "label"       // names: of the policy, of a rule
	partEnforcement part = "enforcement" // whether it decides
	partFrame       part = "frame"       // whom it governs, in which direction, and what it does
	partRules       part = "rules"       // the list of rules of one direction
	partDimension   part = "dimension"   // peers, ports or http of one rule
)

// effectOf is the one place that says how a policy fails: never open. Whatever the author meant by the broken part, the outcome must allow no
// more than that. An Allow therefore loses the rule and keeps isolating. A Deny must not lose anything: its rule takes any value where the broken
// one stood. Where the frame is broken there is no rule to lose or widen, and nobody knows whom the rules were for: everything shuts, for every
// pod that the policy could have meant.
func effectOf(action model.Action, p part) effect {
	byAction := func(allow, deny effect) effect {
		if action == model.Deny {
			return deny
		}
		return allow
	}
	switch p {
	case partLabel:
		return effectKept
	case partEnforcement:
		return effectEnforced
	case partDimension:
		return byAction(effectDropRule, effectWiden)
	case partRules:
		return byAction(effectAllowNone, effectDenyAll)
	case partFrame:
	}
	return byAction(effectShutByAllow, effectShutByDeny)
}

// partOf says what kind of place a field is.
func partOf(field string) part {
	rest, inSpec := strings.CutPrefix(field, "spec.")
	switch {
	case !inSpec, strings.HasSuffix(field, "].name") && strings.Count(field, "[") == 1:
		return partLabel
	case rest == "enforcement":
		return partEnforcement
	case rest == "ingress", rest == "egress":
		return partRules
	case strings.HasPrefix(rest, "ingress["), strings.HasPrefix(rest, "egress["):
		return partDimension
	}
	return partFrame // podSelector, policyTypes, action, and whatever is added without a thought for this function
}

// broken tells the broken fields: those with a finding (true), and those around them (false).
type broken map[string]bool

func brokenFields(findings []*validation.Error) broken {
	b := broken{}
	for _, e := range findings {
		for i := range len(e.Field) {
			if around := e.Field[:i]; (e.Field[i] == '.' || e.Field[i] == '[') && !b[around] {
				b[around] = false
			}
		}
		b[e.Field] = true
	}
	return b
}

// at says whether a field itself has a finding.
func (b broken) at(field string) bool { return b[field] }

// within says whether a field or anything in it has a finding.
func (b broken) within(field string) bool {
	_, found := b[field]
	return found
}

func index(field string, i int) string { return fmt.Sprintf("%s[%d]", field, i) }

// report tells each finding, and what follows from it.
func report(p *v1alpha1.L7Policy, findings []*validation.Error, effect func(*validation.Error) string) []model.Diagnostic {
	var out []model.Diagnostic
	for _, e := range findings {
		out = append(out, model.Diagnostic{
			Code: string(e.Check), Severity: model.SeverityError, Object: policyObject(p), Field: e.Field,
			Consequence: e.Detail + effect(e), Remedy: e.Remedy,
		})
	}
	return out
}

// warnings tells what a policy says to no effect.
func warnings(p *v1alpha1.L7Policy, converted *model.Policy) []model.Diagnostic {
	var out []model.Diagnostic
	add := func(code, field, consequence, remedy string) {
		out = append(out, model.Diagnostic{
			Code: code, Severity: model.SeverityWarning, Object: policyObject(p), Field: field, Consequence: consequence, Remedy: remedy,
		})
	}
	const notGoverned, govern = "policyTypes does not list the direction: these rules have no effect", "add the direction to spec.policyTypes, or remove the rules"
	if !converted.IsolatesIngress && len(p.Spec.Ingress) > 0 {
		add("rules-not-governed", "spec.ingress", notGoverned, govern)
	}
	if !converted.IsolatesEgress && len(p.Spec.Egress) > 0 {
		add("rules-not-governed", "spec.egress", notGoverned, govern)
	}
	if value, written := p.Annotations[v1alpha1.AnnotationGuarded]; written && value != "true" && value != "false" {
		add(CodeBadAnnotation, "metadata.annotations["+v1alpha1.AnnotationGuarded+"]", fmt.Sprintf("%q is neither true nor false: the policy guards", value), `write "true" or "false"`)
	}
	for _, field := range emptyLists(&p.Spec) {
		means, list := "anybody", "peers"
		if strings.HasSuffix(field, ".ports") {
			means, list = "every port", "ports"
		}
		add("empty-means-any", field, "an empty list means "+means+", as in NetworkPolicy", "leave it out, or name "+list)
	}
	for _, field := range asterisks(&p.Spec) {
		nothing := "lets nobody in"
		if converted.Action == model.Deny {
			nothing = "refuses nobody"
		}
		add("literal-asterisk", field, "an asterisk in a path stands for itself, and hardly any request has one: it "+nothing+" by it", "end the path before it, as a PathPrefix, or write a RegularExpression")
	}
	if converted.Action == model.Deny && len(converted.Ingress) == 0 && len(converted.Egress) == 0 {
		add("deny-without-rules", "spec", "a Deny denies what its rules match, and there is none: it denies nothing", "add rules; the rule {} denies everything")
	}
	return out
}

// emptyLists are the lists of peers and ports that are written and empty, which reads as none.
func emptyLists(s *v1alpha1.L7PolicySpec) []string {
	var out []string
	look := func(field string, rules []policyRule) {
		for i, r := range rules {
			if r.peers != nil && len(r.peers) == 0 {
				out = append(out, index(field, i)+"."+r.peersField)
			}
			if r.ports != nil && len(r.ports) == 0 {
				out = append(out, index(field, i)+".ports")
			}
		}
	}
	look("spec.ingress", ingressRules(s.Ingress))
	look("spec.egress", egressRules(s.Egress))
	return out
}

// asterisks are the literal paths that have one, whose authors mean a wildcard.
func asterisks(s *v1alpha1.L7PolicySpec) []string {
	var out []string
	for i := range s.Ingress {
		for j := range s.Ingress[i].HTTP {
			for k, path := range s.Ingress[i].HTTP[j].Paths {
				if path.Type != v1alpha1.PathRegularExpression && strings.Contains(path.Value, "*") {
					out = append(out, index(index(index("spec.ingress", i)+".http", j)+".paths", k))
				}
			}
		}
	}
	return out
}

func policyObject(p *v1alpha1.L7Policy) model.ObjectRef {
	return model.ObjectRef{Kind: v1alpha1.Kind, Namespace: p.Namespace, Name: p.Name}
}
