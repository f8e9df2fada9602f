package status

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// Bounds of texts, below those of the schema (metav1.Condition: 32,768 bytes).
const (
	maxMessage = 2048
	maxRefusal = 1024
)

// status is what follows from the counts.
func (p *tracked) status(c *counts) v1alpha1.L7PolicyStatus {
	s := v1alpha1.L7PolicyStatus{
		ObservedGeneration: p.Ref.Generation,
		Proxies:            v1alpha1.ProxyCounts{Expected: c.expected, Enforced: c.enforced, Rejected: c.rejected, Pending: c.pending},
		Enforced:           fmt.Sprintf("%d/%d", c.enforced, c.expected),
		FirstRefusal:       bounded(c.firstRefusal, maxRefusal),
	}
	s.Conditions = []metav1.Condition{p.accepted(), p.enforced(c), p.agrees()}
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = p.Ref.Generation
		s.Conditions[i].Message = bounded(s.Conditions[i].Message, maxMessage)
	}
	return s
}

func (p *tracked) accepted() metav1.Condition {
	if len(p.Problems) == 0 {
		return metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: "every part is understood"}
	}
	var texts []string
	for _, d := range p.Problems {
		texts = append(texts, d.Field+": "+d.Consequence+"; "+d.Remedy)
	}
	return metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalid, Message: strings.Join(texts, "; ")}
}

// enforced is the condition that counts: true where every expected proxy runs content built from this generation, and the companions stand.
func (p *tracked) enforced(c *counts) metav1.Condition {
	reason, message := p.notEnforced(c)
	if reason == "" {
		message = fmt.Sprintf("%d of %d proxies run generation %d, and its companions stand", c.enforced+c.holding, c.expected, p.Ref.Generation)
		return metav1.Condition{Type: v1alpha1.ConditionEnforced, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonEnforced, Message: message}
	}
	return metav1.Condition{Type: v1alpha1.ConditionEnforced, Status: metav1.ConditionFalse, Reason: reason, Message: message}
}

// notEnforced is why the policy is not enforced; "" where it is.
func (p *tracked) notEnforced(c *counts) (reason, message string) {
	switch {
	case p.DryRun:
		return v1alpha1.ReasonDryRun, fmt.Sprintf("nothing is decided: %d of %d proxies report what it would deny", c.enforced+c.holding, c.expected)
	case c.expected == 0:
		return v1alpha1.ReasonNothingSelected, "spec.podSelector selects no running pod"
	case c.rejected > 0:
		return v1alpha1.ReasonRefused, "the proxies of " + c.refused.text() + " refuse it, and go on with what they had: " + c.firstRefusal
	case c.unprotected.count > 0:
		return v1alpha1.ReasonNoProxy, c.unprotected.text() + " " + c.unprotected.have() + " no sidecar, and " + c.unprotected.are() +
			" shut for rules with http: label the namespace " + v1alpha1.LabelInject + "=" + v1alpha1.InjectEnabled + ", and create the pods again"
	case c.disconnected.count > 0:
		return v1alpha1.ReasonDisconnected, "the proxies of " + c.disconnected.text() + " are not connected to any replica"
	case c.waiting.count > 0:
		return v1alpha1.ReasonPending, "waiting for the proxies of " + c.waiting.text()
	case p.companions.Generation != p.Ref.Generation:
		return v1alpha1.ReasonPending, "the companion NetworkPolicies of this generation are not written yet"
	case !p.companions.Stand:
		return v1alpha1.ReasonPending, p.companions.Message
	}
	return "", ""
}

func (p *tracked) agrees() metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionLayersAgree, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonNotEvaluated, Message: "the layers were not compared"}
	switch {
	case !p.agreement.Evaluated:
	case p.agreement.Agree:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonAgree, p.agreement.Message
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonDisagree, p.agreement.Message
	}
	return c
}

// text is "a, b, c and 5 more".
func (n *names) text() string {
	text := strings.Join(n.first, ", ")
	if more := n.count - int32(len(n.first)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func (n *names) have() string {
	if n.count == 1 {
		return "has"
	}
	return "have"
}

func (n *names) are() string {
	if n.count == 1 {
		return "is"
	}
	return "are"
}

// bounded cuts a text, which somebody else may have written, at a whole character.
func bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
