// Package eval answers what the policies of a snapshot mean, straight from the model: the reference that the generated configuration is held
// against. Input: a model.Index, a callee and a request as the sidecar sees it (path normalized, query still there). Output: a model.Verdict, or
// a Trace of the whole way. It shares no code with the translator. Entry points: Ingress, IngressDryRun for the verdict that DryRun policies
// would give, L4 for what the policies mean at L3/4, and Explain for a call from end to end.
package eval

import (
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Ingress is the verdict of the enforced policies on a request to a workload. The decider is the first rule that matches, denies before allows,
// by namespace, policy name and place; where several match, a proxy may name another of them.
func Ingress(ix *model.Index, callee *model.Workload, r model.Request) model.Verdict {
	return ingress(ix, callee, r, enforced(ix))
}

// IngressDryRun is the verdict that would be given if the DryRun policies were enforced too.
func IngressDryRun(ix *model.Index, callee *model.Workload, r model.Request) model.Verdict {
	return ingress(ix, callee, r, everyPolicy(ix))
}

func ingress(ix *model.Index, callee *model.Workload, r model.Request, policies among) model.Verdict {
	source := r.Source.Unmap()
	c := connect(ix, policies, callee, Party{Pod: ix.PodAt(source), Address: source}, r.Port)
	return c.Verdict(r.HTTP)
}

// among are the policies that count, in the order in which they decide, with or without those that are only tried out.
type among struct {
	policies []*model.Policy
	dryRun   bool
}

// enforced are the policies that decide.
func enforced(ix *model.Index) among { return among{policies: ix.Snapshot.Policies} }

func everyPolicy(ix *model.Index) among { return among{policies: ix.Snapshot.Policies, dryRun: true} }

// Connection is what policies say to a callee's sidecar of one connection before anything is read from it.
type Connection struct {
	Governed bool      // some policy governs the callee
	Isolated bool      // some Allow does
	Reserved bool      // the port is one of the sidecar's own: where the callee is isolated, nothing is allowed
	HTTP     bool      // the port speaks HTTP
	Allows   []RuleRef // rules whose peers and ports match, in the order in which they decide; with http, requests decide
	Denies   []RuleRef
}

// RuleRef is an ingress rule in its policy.
type RuleRef struct {
	Policy *model.Policy
	Index  int
}

// Rule is the rule itself.
func (r RuleRef) Rule() *model.Rule { return &r.Policy.Ingress[r.Index] }

// Name is NAMESPACE/POLICY/RULE.
func (r RuleRef) Name() string { return model.RuleName(r.Policy.PolicyRef, r.Rule().Name) }

// Connect finds the rules of enforced policies that decide about a connection to a callee.
func Connect(ix *model.Index, callee *model.Workload, from Party, port uint16) Connection {
	return connect(ix, enforced(ix), callee, from, port)
}

// ConnectAmong is Connect for whoever knows which policies may govern the callee: enforced ones, in the snapshot's order.
func ConnectAmong(ix *model.Index, policies []*model.Policy, callee *model.Workload, from Party, port uint16) Connection {
	return connect(ix, among{policies: policies}, callee, from, port)
}

func connect(ix *model.Index, policies among, callee *model.Workload, from Party, port uint16) Connection {
	c := Connection{Reserved: reserved(port)}
	if wp, ok := callee.Port(port); ok && wp.Protocol == model.AppHTTP {
		c.HTTP = true
	}
	at := target{names: callee.Ports, port: port, protocol: model.TCP}
	for _, p := range policies.policies {
		if p.DryRun && !policies.dryRun || !governsIngress(p, callee) {
			continue
		}
		c.Governed = true
		c.Isolated = c.Isolated || p.Action == model.Allow
		for j := range p.Ingress {
			if !peersMatch(ix, p.Namespace, p.Ingress[j].Peers, from) || !at.matches(p.Action, p.Ingress[j].Ports) {
				continue
			}
			if p.Action == model.Deny {
				c.Denies = append(c.Denies, RuleRef{p, j})
			} else {
				c.Allows = append(c.Allows, RuleRef{p, j})
			}
		}
	}
	return c
}

func governsIngress(p *model.Policy, callee *model.Workload) bool {
	return p.IsolatesIngress && p.Namespace == callee.Namespace && p.Selector.Matches(labels.Set(callee.Labels))
}

// Verdict is the verdict on a request, nil for bytes.
func (c *Connection) Verdict(r *model.HTTPRequest) model.Verdict {
	if !c.HTTP {
		r = nil
	}
	switch {
	case !c.Governed:
		return model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}
	case c.Isolated && c.Reserved:
		return model.Verdict{Decider: model.OutcomeReservedPort}
	}
	if r != nil {
		if outcome, refused := Guard(r); refused {
			return model.Verdict{Decider: outcome}
		}
	}
	for _, d := range c.Denies {
		if httpMatches(model.Deny, d.Rule().HTTP, r) {
			return model.Verdict{Decider: d.Name()}
		}
	}
	if !c.Isolated {
		return model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}
	}
	for _, a := range c.Allows {
		if httpMatches(model.Allow, a.Rule().HTTP, r) {
			return model.Verdict{Allowed: true, Decider: a.Name()}
		}
	}
	return model.Verdict{Decider: model.OutcomeDefaultDeny}
}

// httpMatches: where there is no request to look at, an http rule matches nothing in an Allow and everything in a Deny.
func httpMatches(action model.Action, matches []model.HTTPMatch, r *model.HTTPRequest) bool {
	if matches == nil {
		return true
	}
	if r == nil {
		return action == model.Deny
	}
	for i := range matches {
		if Satisfies(action, &matches[i], r) {
			return true
		}
	}
	return false
}

// Satisfies says whether a request satisfies one match of a rule, as its policy's action reads it: an Allow must hold for every reading of a doubtful request, a Deny for any.
func Satisfies(action model.Action, m *model.HTTPMatch, r *model.HTTPRequest) bool {
	return readingOf(action).matches(m, r)
}

func readingOf(action model.Action) reading {
	if action == model.Deny {
		return denyReading
	}
	return allowReading
}

// Guard is the outcome by which a sidecar that policies govern refuses a request whatever their rules say, and whether it does.
func Guard(r *model.HTTPRequest) (outcome string, refused bool) {
	switch {
	case ambiguousPath(r.Path):
		return model.OutcomeGuardPath, true
	case !wellFormedAuthority(r.Host):
		return model.OutcomeGuardHost, true
	}
	return "", false
}

// lower is for names that are compared without case. ASCII only: other letters have no case in a host name, and a Kelvin sign is no k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
