// Package eval answers what the policies of a snapshot mean, straight from the model: the reference that the generated configuration is held
// against. Input: a model.Index, a callee and a request as the sidecar sees it (path normalized, query still there). Output: a model.Verdict. It
// shares no code with the translator. Entry points: Ingress, and IngressDryRun for the verdict that DryRun policies would give.
package eval

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Ingress is the verdict of the enforced policies on a request to a workload. The decider is the first rule that matches, denies before allows,
// by namespace, policy name and place; where several match, a proxy may name another of them.
func Ingress(ix *model.Index, callee *model.Workload, r model.Request) model.Verdict {
	return ingress(ix, callee, r, func(p *model.Policy) bool { return !p.DryRun })
}

// IngressDryRun is the verdict that would be given if the DryRun policies were enforced too.
func IngressDryRun(ix *model.Index, callee *model.Workload, r model.Request) model.Verdict {
	return ingress(ix, callee, r, func(*model.Policy) bool { return true })
}

func ingress(ix *model.Index, callee *model.Workload, r model.Request, counts func(*model.Policy) bool) model.Verdict {
	e := &evaluation{ix: ix, callee: callee, request: r}
	if port, ok := callee.Port(r.Port); !ok || port.Protocol != model.AppHTTP {
		e.request.HTTP = nil
	}
	governed, isolated := false, false
	for i := range ix.Snapshot.Policies {
		p := &ix.Snapshot.Policies[i]
		if !counts(p) || !p.IsolatesIngress || p.Namespace != callee.Namespace || !p.Selector.Matches(labels.Set(callee.Labels)) {
			continue
		}
		governed = true
		isolated = isolated || p.Action == model.Allow
		e.add(p)
	}
	switch {
	case !governed:
		return model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}
	case isolated && reserved(r.Port):
		return model.Verdict{Decider: model.OutcomeReservedPort}
	case e.request.HTTP != nil && ambiguousPath(e.request.HTTP.Path):
		return model.Verdict{Decider: model.OutcomeGuardPath}
	case e.request.HTTP != nil && !wellFormedAuthority(e.request.HTTP.Host):
		return model.Verdict{Decider: model.OutcomeGuardHost}
	case len(e.denies) > 0:
		return model.Verdict{Decider: e.denies[0]}
	case !isolated:
		return model.Verdict{Allowed: true, Decider: model.OutcomeNotIsolated}
	case len(e.allows) > 0:
		return model.Verdict{Allowed: true, Decider: e.allows[0]}
	}
	return model.Verdict{Decider: model.OutcomeDefaultDeny}
}

// evaluation collects the rules that match one request.
type evaluation struct {
	ix             *model.Index
	callee         *model.Workload
	request        model.Request
	denies, allows []string
}

func (e *evaluation) add(p *model.Policy) {
	for i := range p.Ingress {
		rule := &p.Ingress[i]
		if !e.matches(p, rule) {
			continue
		}
		name := model.RuleName(p.PolicyRef, rule.Name)
		if p.Action == model.Deny {
			e.denies = append(e.denies, name)
		} else {
			e.allows = append(e.allows, name)
		}
	}
}

func (e *evaluation) matches(p *model.Policy, r *model.Rule) bool {
	return e.fromMatches(p.Namespace, r.Peers) && e.portMatches(p.Action, r.Ports) && e.httpMatches(p.Action, r.HTTP)
}

func (e *evaluation) fromMatches(namespace string, peers []model.Peer) bool {
	if peers == nil {
		return true
	}
	source := e.request.Source.Unmap()
	pod := e.ix.PodAt(source)
	return slices.ContainsFunc(peers, func(peer model.Peer) bool {
		if b := peer.Block; b != nil {
			return b.CIDR.Contains(source) && !slices.ContainsFunc(b.Except, func(x netip.Prefix) bool { return x.Contains(source) })
		}
		return pod != nil && e.podMatches(namespace, pod, peer)
	})
}

// podMatches: selectors of one peer are ANDed, and the account is what the injector stamped, never what the pod says of itself elsewhere.
func (e *evaluation) podMatches(namespace string, pod *model.Pod, peer model.Peer) bool {
	if peer.Namespaces == nil && pod.Namespace != namespace {
		return false
	}
	if peer.Namespaces != nil && !peer.Namespaces.Matches(e.ix.NamespaceLabels(pod.Namespace)) {
		return false
	}
	if peer.Pods != nil && !peer.Pods.Matches(labels.Set(pod.Labels)) {
		return false
	}
	if peer.ServiceAccounts == nil {
		return true
	}
	stamped, ok := pod.Labels[v1alpha1.LabelServiceAccount]
	return ok && slices.ContainsFunc(peer.ServiceAccounts, func(sa string) bool { return model.ServiceAccountLabel(sa) == stamped })
}

func reserved(port uint16) bool { return port >= model.ReservedFirst && port <= model.ReservedLast }

// portMatches: a named port that the workload lacks matches nothing in an Allow and everything in a Deny.
func (e *evaluation) portMatches(action model.Action, ranges []model.PortRange) bool {
	if ranges == nil {
		return true
	}
	return slices.ContainsFunc(ranges, func(r model.PortRange) bool {
		switch {
		case r.Protocol != model.TCP:
			return false
		case r.Name != "":
			i := slices.IndexFunc(e.callee.Ports, func(p model.WorkloadPort) bool { return p.Name == r.Name })
			if i < 0 {
				return action == model.Deny
			}
			return slices.ContainsFunc(e.callee.Ports, func(p model.WorkloadPort) bool { return p.Name == r.Name && p.Number == e.request.Port })
		case r.From == 0 && r.To == 0:
			return true
		}
		return r.From <= e.request.Port && e.request.Port <= r.To
	})
}

// httpMatches: where the port does not speak HTTP, an http rule matches nothing in an Allow and everything in a Deny.
func (e *evaluation) httpMatches(action model.Action, matches []model.HTTPMatch) bool {
	if matches == nil {
		return true
	}
	if e.request.HTTP == nil {
		return action == model.Deny
	}
	reading := allowReading
	if action == model.Deny {
		reading = denyReading
	}
	return slices.ContainsFunc(matches, func(m model.HTTPMatch) bool { return reading.matches(&m, e.request.HTTP) })
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
