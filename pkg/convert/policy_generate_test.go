package convert_test

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// The generators draw from few values, so that rules and calls meet often.

func pick[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func some[T any](t *rapid.T, label string, least int, one func() T) []T {
	var out []T
	for range rapid.IntRange(least, 2).Draw(t, label) {
		out = append(out, one())
	}
	return out
}

func genCall(t *rapid.T) call {
	c := call{
		callee: labels.Set{"app": pick(t, "callee", "a", "b")}, egress: pick(t, "egress", false, false, true),
		caller: labels.Set{"app": pick(t, "caller", "a", "b"), "account": pick(t, "account", "x", "y")},
		ip:     netip.MustParseAddr(pick(t, "ip", "10.0.0.1", "10.1.0.1", "192.168.0.1")),
		port:   pick[uint16](t, "port", 80, 81, 9080), udp: pick(t, "udp", false, false, true),
	}
	if !c.udp && pick(t, "http", true, true, false) {
		c.host, c.method = pick(t, "host", "a", "b"), pick(t, "method", "GET", "POST")
		c.path, c.header = pick(t, "path", "/", "/a", "/b"), pick(t, "header", "", "a", "b")
	}
	return c
}

func genPolicy(t *rapid.T) *v1alpha1.L7Policy {
	p := &v1alpha1.L7Policy{Spec: v1alpha1.L7PolicySpec{
		PodSelector: genSelector(t), Action: pick(t, "action", v1alpha1.ActionAllow, v1alpha1.ActionDeny, ""),
		PolicyTypes: pick(t, "types", nil, []v1alpha1.PolicyType{"Ingress"}, []v1alpha1.PolicyType{"Egress"}, []v1alpha1.PolicyType{"Ingress", "Egress"}),
	}}
	p.Name = "p"
	for i := range rapid.IntRange(0, 3).Draw(t, "ingress") {
		r := v1alpha1.IngressRule{
			From: some(t, "from", 0, func() v1alpha1.Peer { return genPeer(t) }),
			HTTP: some(t, "http", 0, func() v1alpha1.HTTPMatch { return genMatch(t) }),
		}
		r.Ports = some(t, "ports", 0, func() v1alpha1.Port { return genPort(t, r.HTTP == nil) })
		if pick(t, "named", true, false) {
			r.Name = v1alpha1.RuleName(fmt.Sprint("r", i))
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress") {
		p.Spec.Egress = append(p.Spec.Egress, v1alpha1.EgressRule{
			To: some(t, "to", 0, func() v1alpha1.Peer { return genPeer(t) }), Ports: some(t, "ports", 0, func() v1alpha1.Port { return genPort(t, true) }),
		})
	}
	return p
}

func genSelector(t *rapid.T) v1alpha1.LabelSelector {
	value := pick[v1alpha1.LabelValue](t, "label", "a", "b")
	return pick(t, "selector", v1alpha1.LabelSelector{},
		v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": value}},
		v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "app", Operator: "NotIn", Values: []v1alpha1.LabelValue{value}}}})
}

func genPeer(t *rapid.T) v1alpha1.Peer {
	pods := genSelector(t)
	return pick(t, "peer", v1alpha1.Peer{PodSelector: &pods},
		v1alpha1.Peer{ServiceAccounts: []v1alpha1.ServiceAccountRef{{Name: "x"}}},
		v1alpha1.Peer{IPBlock: &v1alpha1.IPBlock{CIDR: "10.0.0.0/8", Except: []v1alpha1.CIDR{"10.1.0.0/16"}}})
}

func genPort(t *rapid.T, anyProtocol bool) v1alpha1.Port {
	number, end := intstr.FromInt32(80), int32(81)
	p := pick(t, "port", v1alpha1.Port{}, v1alpha1.Port{Port: &number}, v1alpha1.Port{Port: &number, EndPort: &end})
	if anyProtocol && pick(t, "udp", true, false) {
		udp := v1alpha1.Protocol("UDP")
		p.Protocol = &udp
	}
	return p
}

func genMatch(t *rapid.T) v1alpha1.HTTPMatch {
	m := v1alpha1.HTTPMatch{
		Hosts:   some(t, "hosts", 0, func() string { return pick(t, "host", "a", "b") }),
		Methods: some(t, "methods", 0, func() string { return pick(t, "method", "GET", "POST") }),
		Paths: some(t, "paths", 1, func() v1alpha1.PathMatch {
			return v1alpha1.PathMatch{Type: pick(t, "type", v1alpha1.PathExact, v1alpha1.PathPrefix), Value: pick(t, "path", "/", "/a", "/b")}
		}),
		Headers: some(t, "headers", 0, func() v1alpha1.HeaderMatch {
			return pick(t, "header", v1alpha1.HeaderMatch{Name: "x-a", Value: "a"}, v1alpha1.HeaderMatch{Name: "x-a", Type: v1alpha1.HeaderPresent},
				v1alpha1.HeaderMatch{Name: "x-a", Type: v1alpha1.HeaderAbsent})
		}),
	}
	return m
}

// breaker breaks one part.
type breaker struct {
	name  string
	apply func()
}

// breakers are the ways in which a policy can be broken: each part that it has, and lists that are there and empty, too long or hold nonsense.
func breakers(p *v1alpha1.L7Policy) []breaker {
	s := &p.Spec
	out := []breaker{
		{"action", func() { s.Action = "deny" }},
		{"enforcement", func() { s.Enforcement = "no" }},
		{"direction", func() { s.PolicyTypes = append(s.PolicyTypes, "x") }},
		{"selector", func() {
			s.PodSelector.MatchExpressions = []v1alpha1.LabelSelectorRequirement{{Key: "app", Operator: "In"}}
		}},
		{"selector label", func() { s.PodSelector.MatchLabels = map[string]v1alpha1.LabelValue{"": "a"} }},
		{"too many rules", func() { s.Ingress = append(s.Ingress, make([]v1alpha1.IngressRule, 65)...) }},
		{"too many egress rules", func() { s.Egress = append(s.Egress, make([]v1alpha1.EgressRule, 65)...) }},
	}
	add := func(name string, apply func()) { out = append(out, breaker{name, apply}) }
	for i := range s.Ingress {
		r := &s.Ingress[i]
		add("rule name", func() { r.Name = "7" })
		add("peer", func() { r.From = append(r.From, v1alpha1.Peer{}) })
		add("too many peers", func() { r.From = append(r.From, make([]v1alpha1.Peer, 33)...) })
		add("port", func() { r.Ports = append(r.Ports, v1alpha1.Port{EndPort: new(int32)}) })
		add("empty http", func() { r.HTTP = []v1alpha1.HTTPMatch{} })
		add("empty entry", func() { r.HTTP = append(r.HTTP, v1alpha1.HTTPMatch{}) })
		for j := range r.From {
			peer := &r.From[j]
			add("peer selector", func() {
				peer.PodSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "?"}}
			})
			add("peer accounts", func() { peer.ServiceAccounts = []v1alpha1.ServiceAccountRef{} })
			add("peer account", func() { peer.ServiceAccounts = append(peer.ServiceAccounts, v1alpha1.ServiceAccountRef{}) })
			add("peer block", func() { peer.IPBlock = &v1alpha1.IPBlock{CIDR: "10.0.0.0/8", Except: []v1alpha1.CIDR{"11.0.0.0/8"}} })
		}
		for j := range r.HTTP {
			m := &r.HTTP[j]
			add("no hosts", func() { m.Hosts = []string{} })
			add("host", func() { m.Hosts = append(m.Hosts, "a:80") })
			add("no methods", func() { m.Methods = []string{} })
			add("method", func() { m.Methods = append(m.Methods, "get") })
			add("no paths", func() { m.Paths = []v1alpha1.PathMatch{} })
			add("path", func() { m.Paths[0].Value = "a" })
			add("path type", func() { m.Paths[0].Type = "prefix" })
			add("long path", func() { m.Paths[0].Value = "/" + strings.Repeat("a", 2000) })
			add("expression", func() {
				m.Paths = append(m.Paths, v1alpha1.PathMatch{Type: v1alpha1.PathRegularExpression, Value: "/("})
			})
			add("no headers", func() { m.Headers = []v1alpha1.HeaderMatch{} })
			add("header name", func() { m.Headers = append(m.Headers, v1alpha1.HeaderMatch{Name: "Host", Value: "a"}) })
			add("header value", func() { m.Headers = append(m.Headers, v1alpha1.HeaderMatch{Name: "x-a"}) })
			add("header type", func() { m.Headers = append(m.Headers, v1alpha1.HeaderMatch{Name: "x-a", Type: "prefix", Value: "a"}) })
		}
	}
	for i := range s.Egress {
		r := &s.Egress[i]
		add("egress rule name", func() { r.Name = "a b" })
		add("egress peer", func() { r.To = append(r.To, v1alpha1.Peer{}) })
		add("egress port", func() { r.Ports = append(r.Ports, v1alpha1.Port{EndPort: new(int32)}) })
	}
	return out
}
