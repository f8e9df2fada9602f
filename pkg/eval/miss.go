package eval

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// failing are the terms of a rule that fail, in their order.
type failing []struct {
	term   Term
	reason string
}

func (f *failing) add(t Term, reason string) {
	if reason != "" {
		*f = append(*f, struct {
			term   Term
			reason string
		}{t, reason})
	}
}

func (f failing) miss(p *model.Policy, index int, name string) Miss {
	return Miss{
		Rule: model.RuleName(p.PolicyRef, name), Policy: p.PolicyRef, Index: index,
		Failing: len(f), Term: f[0].term, Reason: f[0].reason,
	}
}

// nearest sorts misses: fewest terms that fail first, and of those that which fails last.
func nearest(misses []Miss) []Miss {
	order := []Term{TermPeers, TermPorts, TermHTTP, TermHosts, TermMethods, TermPaths, TermHeaders}
	slices.SortStableFunc(misses, func(a, b Miss) int {
		return cmp.Or(cmp.Compare(a.Failing, b.Failing), cmp.Compare(slices.Index(order, b.Term), slices.Index(order, a.Term)))
	})
	return misses
}

// misses tell why no rule of the Allows that govern an end opens a connection at L3/4.
func (c l4) misses(policies among) []Miss {
	var out []Miss
	for _, p := range c.governing(policies) {
		if p.Action != model.Allow {
			continue
		}
		rules := c.rules(p)
		for i := range rules {
			r := &rules[i]
			var f failing
			f.add(TermPeers, peersMissed(c.ix, p.Namespace, r.Peers, c.other))
			if !c.allowsPort(r) {
				f.add(TermPorts, c.target.missed(r.Ports))
			}
			f.add(TermHTTP, c.opens(r))
			if len(f) > 0 {
				out = append(out, f.miss(p, i, r.Name))
			}
		}
	}
	return nearest(out)
}

// misses tell why no rule of the Allows that govern the callee allows the call at L7.
func (x *explainer) misses(c *Connection) []Miss {
	var out []Miss
	at := target{names: x.call.To.Workload.Ports, port: x.call.Port, protocol: model.TCP}
	for _, p := range x.ix.Snapshot.Policies {
		if p.DryRun || p.Action != model.Allow || !governsIngress(p, x.call.To.Workload) {
			continue
		}
		for j := range p.Ingress {
			r := &p.Ingress[j]
			var f failing
			f.add(TermPeers, peersMissed(x.ix, p.Namespace, r.Peers, x.call.From))
			if !at.matches(model.Allow, r.Ports) {
				f.add(TermPorts, at.missed(r.Ports))
			}
			switch {
			case r.HTTP == nil:
			case !c.HTTP:
				f.add(TermHTTP, "the rule has http, and port "+strconv.Itoa(int(x.call.Port))+" does not speak HTTP: no Service says so")
			case x.call.HTTP == nil:
				f.add(TermHTTP, "the rule has http, and the call is no HTTP request")
			default:
				f = append(f, httpMissed(r.HTTP, x.call.HTTP)...)
			}
			if len(f) > 0 {
				out = append(out, f.miss(p, j, r.Name))
			}
		}
	}
	return nearest(out)
}

// httpMissed are the failing terms of the entry that comes nearest; none where an entry matches.
func httpMissed(matches []model.HTTPMatch, r *model.HTTPRequest) failing {
	var best failing
	for i := range matches {
		m := &matches[i]
		var f failing
		if !allowReading.host(m.Hosts, r.Host) {
			f.add(TermHosts, "host "+shown(r.Host)+" is not in "+listed(m.Hosts, hostWord))
		}
		if !allowReading.method(m.Methods, r.Method) {
			f.add(TermMethods, "method "+shown(r.Method)+" is not in "+listed(m.Methods, func(s string) string { return s }))
		}
		if !allowReading.path(m.Paths, r.Path) {
			path, _, _ := strings.Cut(r.Path, "?")
			f.add(TermPaths, "path "+shown(path)+" is not in "+listed(m.Paths, pathWord))
		}
		for _, h := range m.Headers {
			if !allowReading.header(h, r.Headers) {
				f.add(TermHeaders, headerMissed(h, r.Headers))
			}
		}
		if len(f) == 0 {
			return nil
		}
		if best == nil || len(f) < len(best) {
			best = f
		}
	}
	return best
}

func hostWord(h model.Host) string {
	if h.Wildcard {
		return "*." + h.Name
	}
	return h.Name
}

func pathWord(p model.PathMatch) string { return string(p.Type) + " " + p.Value }

func headerMissed(m model.HeaderMatch, headers []model.Header) string {
	var lines []string
	for _, h := range headers {
		if lower(h.Name) == lower(m.Name) {
			lines = append(lines, h.Value)
		}
	}
	state := "header " + m.Name + " is absent"
	if len(lines) > 0 {
		state = "header " + m.Name + " is " + shown(strings.Join(lines, ","))
	}
	switch m.Type {
	case model.Present, model.Absent:
		return state + ", and must be " + strings.ToLower(string(m.Type))
	default:
		return state + ", and must be " + string(m.Type) + " " + m.Value
	}
}

// shown is a value of the caller's as a report shows it: in one line, and not longer than a line.
func shown(s string) string {
	const longest = 80
	if len(s) > longest {
		s = s[:longest] + "..."
	}
	if quoted := strconv.Quote(s); quoted != `"`+s+`"` || s == "" || strings.ContainsAny(s, " ,") {
		return quoted
	}
	return s
}

// listed writes a list in brackets; a long one is cut short.
func listed[T any](list []T, word func(T) string) string {
	const most = 4
	words := make([]string, 0, most+1)
	for i, v := range list {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		words = append(words, word(v))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// missed says which ports a rule lists instead.
func (t target) missed(ranges []model.PortRange) string {
	word := strconv.Itoa(int(t.port))
	if t.protocol != model.TCP {
		word = string(t.protocol) + " " + word
	}
	if ranges == nil {
		return "port " + word + " is not TCP, and a rule without ports means TCP"
	}
	return "port " + word + " is not in " + listed(ranges, t.rangeWord)
}

func (t target) rangeWord(r model.PortRange) string {
	word := strconv.Itoa(int(r.From))
	switch {
	case r.Name != "":
		word = r.Name + " (no container has it)"
		for _, p := range t.names {
			if p.Name == r.Name {
				word = r.Name + " (" + strconv.Itoa(int(p.Number)) + ")"
			}
		}
		if t.pod != nil {
			for _, p := range t.pod.Ports {
				if p.Name == r.Name && p.Protocol == r.Protocol {
					word = r.Name + " (" + strconv.Itoa(int(p.Number)) + ")"
				}
			}
		}
	case r.From == 0 && r.To == 0:
		word = "any"
	case r.From != r.To:
		word += "-" + strconv.Itoa(int(r.To))
	}
	if r.Protocol != model.TCP || t.protocol != model.TCP {
		return string(r.Protocol) + " " + word
	}
	return word
}

// peersMissed says why a rule's peers do not mean a party, "" where they do.
func peersMissed(ix *model.Index, namespace string, peers []model.Peer, who Party) string {
	if peersMatch(ix, namespace, peers, who) {
		return ""
	}
	if len(peers) != 1 {
		return who.String() + " is none of " + listed(peers, func(p model.Peer) string { return peerWord(namespace, p) })
	}
	p := peers[0]
	switch {
	case p.Block != nil && !who.Address.IsValid():
		return "the address of " + who.String() + " is not known, and the peer is " + blockWord(p.Block)
	case p.Block != nil:
		return "address " + who.Address.String() + " is not in " + blockWord(p.Block)
	case who.Pod == nil:
		return who.String() + " is no pod that is known, and the peer is " + peerWord(namespace, p)
	case who.Pod.HostNetwork:
		return who.String() + " is on the host's network, where selectors mean nobody"
	case p.Namespaces == nil && who.Pod.Namespace != namespace:
		return who.String() + " is not in namespace " + namespace
	case !namespaceMatches(ix, namespace, p, who.Pod):
		return "the labels of namespace " + who.Pod.Namespace + " do not match {" + p.Namespaces.String() + "}"
	case p.Pods != nil && !p.Pods.Matches(labels.Set(who.Pod.Labels)):
		return "the labels of " + who.String() + " do not match {" + p.Pods.String() + "}"
	}
	stamped, ok := who.Pod.Labels[v1alpha1.LabelServiceAccount]
	if !ok {
		return who.String() + " carries no stamped service account, and must be one of " + listed(p.ServiceAccounts, strings.Clone)
	}
	return "service account " + shown(stamped) + " is not in " + listed(p.ServiceAccounts, strings.Clone)
}

func peerWord(namespace string, p model.Peer) string {
	if p.Block != nil {
		return blockWord(p.Block)
	}
	word := "pods of namespace " + namespace
	switch {
	case p.Namespaces != nil && p.Namespaces.Empty():
		word = "pods"
	case p.Namespaces != nil:
		word = "pods of namespaces {" + p.Namespaces.String() + "}"
	}
	if p.Pods != nil && !p.Pods.Empty() {
		word += " {" + p.Pods.String() + "}"
	}
	if p.ServiceAccounts != nil {
		word += " with service account " + strings.Join(p.ServiceAccounts, " or ")
	}
	return word
}

func blockWord(b *model.IPBlock) string {
	if len(b.Except) == 0 {
		return b.CIDR.String()
	}
	words := make([]string, 0, len(b.Except))
	for _, x := range b.Except {
		words = append(words, x.String())
	}
	return b.CIDR.String() + " without " + strings.Join(words, ", ")
}
