package rbac

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	statPrefix = "l7policy"
	// shadowStatPrefix tells the verdict of a dry run from the one in force, in stats and in the filter's dynamic metadata.
	shadowStatPrefix = "dry_run_"
)

// Compile builds both slots. A workload that no enforced Allow isolates gets an explicit allow behind guard and denies; one that no policy
// governs gets the allow alone, so that it answers as before. The shadow, where any policy is DryRun, is the verdict with those enforced too.
// Slots depend on the input only, never on which ports speak HTTP now, and equal inputs give equal bytes.
func Compile(in Input) Slots {
	c := &compiler{input: &in, in: newInputs()}
	c.sets = sourceSets{in: c.in, known: map[string]*sourceSet{}}
	dry := slices.ContainsFunc(in.Policies, func(p Policy) bool { return p.DryRun })
	http := &rbacv3.RBAC{Matcher: whole(c.verdict(layerHTTP, enforced))}
	tcp := &networkrbacv3.RBAC{StatPrefix: statPrefix, Matcher: whole(c.verdict(layerTCP, enforced))}
	if dry {
		http.ShadowMatcher, http.ShadowRulesStatPrefix = whole(c.verdict(layerHTTP, everyPolicy)), shadowStatPrefix
		tcp.ShadowMatcher, tcp.ShadowRulesStatPrefix = whole(c.verdict(layerTCP, everyPolicy)), shadowStatPrefix
	}
	return Slots{
		HTTP:        &corev3.TypedExtensionConfig{Name: HTTPSlot, TypedConfig: pack(http)},
		TCP:         &corev3.TypedExtensionConfig{Name: TCPSlot, TypedConfig: pack(tcp)},
		Diagnostics: c.diagnostics,
	}
}

// compiler holds what the matchers of one input share.
type compiler struct {
	input       *Input
	in          *inputs
	sets        sourceSets
	diagnostics []model.Diagnostic
}

func enforced(p *Policy) bool  { return !p.DryRun }
func everyPolicy(*Policy) bool { return true }

// verdict is guard, denies, allows and the default, in this order.
func (c *compiler) verdict(l layer, counts func(*Policy) bool) *onMatch {
	var denies, allows []*term
	governed, isolated := false, false
	for i := range c.input.Policies {
		p := &c.input.Policies[i]
		if !counts(p) {
			continue
		}
		governed = true
		if p.Action == model.Allow {
			isolated = true
			allows = append(allows, c.terms(p, l)...)
		} else {
			denies = append(denies, c.terms(p, l)...)
		}
	}
	last := decide(model.OutcomeNotIsolated, model.Allow)
	var first []*field
	if isolated {
		last = decide(model.OutcomeDefaultDeny, model.Deny)
		first = c.reserved()
	}
	if governed && l == layerHTTP {
		first = append(first, c.in.guard()...)
	}
	next := c.tree(model.Allow).build(allows, c.dimensions(allows, model.Allow), last)
	next = c.tree(model.Deny).build(denies, c.dimensions(denies, model.Deny), next)
	return inOrder(next, first...)
}

// diagnose reports a finding once, however often its rule is built.
func (c *compiler) diagnose(d model.Diagnostic) {
	if !slices.Contains(c.diagnostics, d) {
		c.diagnostics = append(c.diagnostics, d)
	}
}
