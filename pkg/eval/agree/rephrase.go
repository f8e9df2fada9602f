package agree

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// An edit of what requests may say changes nothing of what was found about most callees. What was found rests on http in two ways alone: whether a rule looks at requests, and
// whether anything that is sent on a connection is allowed. Where no Deny looks at requests, something is, as soon as one of the Allow rules that decide is satisfied by a request
// in its own words: then it does not matter what else that rule says, or any other.

// rephrases says whether a policy is another one, but for the generation and for the http of rules that requests in their own words satisfy, before and after. Whom it selects
// is told by whom it governs.
func (m *meaning) rephrases(old *meaning) bool {
	was, is := old.source, *m.source
	if !slices.EqualFunc(was.Ingress, is.Ingress, rephrasesRule) || !slices.Equal(old.sets, m.sets) {
		return false
	}
	is.Generation, is.Selector, is.Ingress = was.Generation, was.Selector, was.Ingress
	return model.SamePolicy(was, &is)
}

// rephrasesRule: whom peers mean was compared already, in the order in which they stand.
func rephrasesRule(a, b model.Rule) bool {
	samePeers := (a.Peers == nil) == (b.Peers == nil) && slices.EqualFunc(a.Peers, b.Peers, func(p, q model.Peer) bool {
		if p.Block == nil || q.Block == nil {
			return p.Block == q.Block
		}
		return p.Block.CIDR == q.Block.CIDR && slices.Equal(p.Block.Except, q.Block.Except)
	})
	samePorts := (a.Ports == nil) == (b.Ports == nil) && slices.Equal(a.Ports, b.Ports)
	return samePeers && samePorts && a.Name == b.Name && (a.HTTP == nil) == (b.HTTP == nil) && (model.SameSlice(a.HTTP, b.HTTP) || satisfied(a.HTTP) && satisfied(b.HTTP))
}

// satisfied says whether a request in a rule's own words satisfies it, to whatever callee: how that is called does not count where it is well-formed.
func satisfied(matches []model.HTTPMatch) bool {
	return slices.ContainsFunc(matches, func(m model.HTTPMatch) bool {
		r := inWords(&m, "callee")
		_, refused := eval.Guard(r)
		return !refused && eval.Satisfies(model.Allow, &m, r)
	})
}

// refuses says whether a policy denies requests by what they say.
func refuses(p *model.Policy) bool {
	return p.Action == model.Deny && slices.ContainsFunc(p.Ingress, func(r model.Rule) bool { return r.HTTP != nil })
}

// foundAgain says whether the same would be found about a callee of whose policies nothing but the words of requests changed. What is shut is told with a request, and is
// looked at anew.
func (c *caller) foundAgain(policies []*meaning) bool {
	if len(c.found.Shut) > 0 || !slices.EqualFunc(policies, c.from.policies, func(is, was *meaning) bool { return is == was || is.rephrased == was }) {
		return false
	}
	if slices.ContainsFunc(policies, func(m *meaning) bool { return m.refuses }) {
		return false
	}
	_, refused := eval.Guard(&model.HTTPRequest{Host: c.ref.Name, Path: "/"})
	return !refused
}

// of is what was found, of other generations of the policies.
func (w *Workload) of(policies []*meaning) *Workload {
	out := *w
	out.Policies = refsOfPolicies(policies)
	return &out
}

func refsOfPolicies(policies []*meaning) []model.PolicyRef {
	var out []model.PolicyRef
	for _, p := range policies {
		out = append(out, p.source.PolicyRef)
	}
	return out
}
