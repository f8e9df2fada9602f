package validation

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// Limits of one policy. The schema carries the same numbers.
const (
	maxRules      = 64
	maxPeers      = 32
	maxPorts      = 32
	maxHTTP       = 16
	maxEach       = 16 // hosts, methods, paths, headers, serviceAccounts
	maxString     = 253
	maxMethod     = 64
	maxHeader     = 256
	maxPath       = 1024
	maxExcept     = 32
	maxLabels     = 64
	maxSelections = 32
)

func (c *checker) metadata(p *v1alpha1.L7Policy) {
	// A name that the API server is still to generate is valid by construction.
	if p.Name != "" || p.GenerateName == "" {
		if len(p.Name) > maxString || len(validation.IsDNS1123Subdomain(p.Name)) > 0 {
			c.add(CheckObjectName, "metadata.name", "use lower-case letters, digits, dashes and dots", "%s is not a name", quote(p.Name))
		}
	}
	if p.Namespace != "" && (len(p.Namespace) > validation.DNS1123LabelMaxLength || len(validation.IsDNS1123Label(p.Namespace)) > 0) {
		c.add(CheckObjectName, "metadata.namespace", "use lower-case letters, digits and dashes", "%s is not the name of a namespace", quote(p.Namespace))
	}
}

func (c *checker) spec(s *v1alpha1.L7PolicySpec) {
	c.selector("spec.podSelector", &s.PodSelector)
	if !slices.Contains([]v1alpha1.Action{"", v1alpha1.ActionAllow, v1alpha1.ActionDeny}, s.Action) {
		c.add(CheckAction, "spec.action", "use Allow or Deny", "%s is not an action", quote(string(s.Action)))
	}
	if !slices.Contains([]v1alpha1.Enforcement{"", v1alpha1.EnforcementEnforce, v1alpha1.EnforcementDryRun}, s.Enforcement) {
		c.add(CheckEnforcement, "spec.enforcement", "use Enforce or DryRun", "%s is not an enforcement", quote(string(s.Enforcement)))
	}
	if c.fits("spec.policyTypes", len(s.PolicyTypes), 2) {
		for i, t := range s.PolicyTypes {
			if t != v1alpha1.PolicyTypeIngress && t != v1alpha1.PolicyTypeEgress {
				c.add(CheckPolicyType, index("spec.policyTypes", i), "use Ingress or Egress", "%s is not a direction", quote(string(t)))
			}
		}
	}
	c.ingress(s.Ingress)
	c.egress(s.Egress)
}

func (c *checker) ingress(rules []v1alpha1.IngressRule) {
	const field = "spec.ingress"
	if !c.fits(field, len(rules), maxRules) {
		return
	}
	names := map[v1alpha1.RuleName]int{}
	for i := range rules {
		r, at := &rules[i], index(field, i)
		c.ruleName(child(at, "name"), r.Name, i, names)
		c.peers(child(at, "from"), r.From)
		c.ports(child(at, "ports"), r.Ports)
		c.http(child(at, "http"), r.HTTP)
		if r.HTTP != nil {
			c.overTCP(child(at, "ports"), r.Ports)
		}
	}
}

func (c *checker) egress(rules []v1alpha1.EgressRule) {
	const field = "spec.egress"
	if !c.fits(field, len(rules), maxRules) {
		return
	}
	names := map[v1alpha1.RuleName]int{}
	for i := range rules {
		r, at := &rules[i], index(field, i)
		c.ruleName(child(at, "name"), r.Name, i, names)
		c.peers(child(at, "to"), r.To)
		c.ports(child(at, "ports"), r.Ports)
	}
}

// ruleName: a name begins with a letter, so that it is never the index by which a nameless rule is known.
func (c *checker) ruleName(field string, name v1alpha1.RuleName, i int, first map[v1alpha1.RuleName]int) {
	if name == "" || !c.short(field, string(name), maxString) {
		return
	}
	if !isRuleName(string(name)) {
		c.add(CheckRuleName, field, "begin with a letter, then letters, digits, '-', '_' and '.', and end with a letter or digit",
			"%s is not a rule's name", quote(string(name)))
		return
	}
	if before, taken := first[name]; taken {
		c.add(CheckRuleNameUnique, field, "give each rule of a direction its own name", "%s is also the name of rule %d", quote(string(name)), before)
		return
	}
	first[name] = i
}

func isRuleName(s string) bool {
	return isLetter(s[0]) && isLetterOrDigit(s[len(s)-1]) && onlyBytes(s, func(b byte) bool { return isLetterOrDigit(b) || strings.IndexByte("-_.", b) >= 0 })
}

func isLetter(b byte) bool        { return b|0x20 >= 'a' && b|0x20 <= 'z' }
func isDigit(b byte) bool         { return b >= '0' && b <= '9' }
func isLetterOrDigit(b byte) bool { return isLetter(b) || isDigit(b) }

// onlyBytes says whether every byte of s is good.
func onlyBytes(s string, good func(byte) bool) bool {
	for i := range len(s) {
		if !good(s[i]) {
			return false
		}
	}
	return true
}

func (c *checker) selector(field string, s *v1alpha1.LabelSelector) {
	if !c.fits(child(field, "matchLabels"), len(s.MatchLabels), maxLabels) ||
		!c.fits(child(field, "matchExpressions"), len(s.MatchExpressions), maxSelections) {
		return
	}
	before := len(c.found)
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		c.labelKey(child(field, "matchLabels"), key)
		c.labelValue(child(field, "matchLabels"), string(s.MatchLabels[key]))
	}
	for i := range s.MatchExpressions {
		c.requirement(index(child(field, "matchExpressions"), i), &s.MatchExpressions[i])
	}
	if _, err := ParseSelector(s); err != nil && len(c.found) == before {
		c.add(CheckLabelSelector, field, "use the label selectors of NetworkPolicy", "the selector is not understood: %v", err)
	}
}

// ParseSelector parses a selector. It never fails where Validate found nothing.
func ParseSelector(s *v1alpha1.LabelSelector) (labels.Selector, error) {
	in := metav1.LabelSelector{MatchLabels: make(map[string]string, len(s.MatchLabels))}
	for k, v := range s.MatchLabels {
		in.MatchLabels[k] = string(v)
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		in.MatchExpressions = append(in.MatchExpressions, r)
	}
	return metav1.LabelSelectorAsSelector(&in)
}

func (c *checker) requirement(field string, e *v1alpha1.LabelSelectorRequirement) {
	c.labelKey(child(field, "key"), e.Key)
	switch e.Operator {
	case "In", "NotIn":
		if len(e.Values) == 0 {
			c.add(CheckLabelSelector, child(field, "values"), "list values, or use Exists or DoesNotExist", "%s needs values", e.Operator)
		}
	case "Exists", "DoesNotExist":
		if len(e.Values) > 0 {
			c.add(CheckLabelSelector, child(field, "values"), "remove the values, or use In or NotIn", "%s takes no values", e.Operator)
		}
	default:
		c.add(CheckLabelSelector, child(field, "operator"), "use In, NotIn, Exists or DoesNotExist", "%s is not an operator", quote(string(e.Operator)))
	}
	if !c.fits(child(field, "values"), len(e.Values), maxLabels) {
		return
	}
	for i, v := range e.Values {
		c.labelValue(index(child(field, "values"), i), string(v))
	}
}

func (c *checker) labelKey(field, key string) {
	if len(key) > 317 || len(validation.IsQualifiedName(key)) > 0 {
		c.add(CheckLabelSelector, field, "use a label key such as app or example.com/app", "%s is not a label key", quote(key))
	}
}

func (c *checker) labelValue(field, value string) {
	if len(value) > validation.LabelValueMaxLength || len(validation.IsValidLabelValue(value)) > 0 {
		c.add(CheckLabelSelector, field, "use at most 63 letters, digits, '-', '_' and '.', that begin and end with a letter or digit",
			"%s is not a label value", quote(value))
	}
}
