package convert_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Breaking any part of a policy never widens what it allows, on its own or beside other policies: what it isolated stays isolated (or is denied),
// it grants nothing that it did not grant, and it denies all that it denied.
func TestBreakingAPartNeverWidens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy(t)
		intact, found := convert.Policy(p)
		if !intact.Accepted {
			t.Fatalf("the generator made a bad policy: %v", found)
		}
		var calls []call
		for range 60 {
			calls = append(calls, genCall(t))
		}
		for i := range breakers(p) {
			broken := p.DeepCopy()
			fault := breakers(broken)[i]
			fault.apply()
			after, found := convert.Policy(broken)
			if after.Accepted || len(found) == 0 {
				t.Fatalf("%s: accepted", fault.name)
			}
			for _, c := range calls {
				was, is := judge(&intact, c), judge(&after, c)
				switch {
				case was.isolates && !is.isolates && !is.denies:
					t.Fatalf("%s: %+v is not isolated any more", fault.name, c)
				case !was.grants && is.grants:
					t.Fatalf("%s: %+v is granted", fault.name, c)
				case was.denies && !is.denies:
					t.Fatalf("%s: %+v is not denied any more", fault.name, c)
				}
			}
		}
	})
}

// Nothing that can be written makes the conversion panic.
func FuzzPolicy(f *testing.F) {
	f.Add("0", "a", "/", "x", "10.0.0.0/8", int32(1), int32(2), "(")
	f.Fuzz(func(t *testing.T, name, label, path, word, cidr string, port, end int32, expression string) {
		number, named := intstr.FromInt32(port), intstr.FromString(word)
		p := &v1alpha1.L7Policy{Spec: v1alpha1.L7PolicySpec{
			PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{label: v1alpha1.LabelValue(word)}},
			Action:      v1alpha1.Action(word),
			Ingress: []v1alpha1.IngressRule{{
				Name:  v1alpha1.RuleName(name),
				From:  []v1alpha1.Peer{{IPBlock: &v1alpha1.IPBlock{CIDR: v1alpha1.CIDR(cidr), Except: []v1alpha1.CIDR{v1alpha1.CIDR(word), v1alpha1.CIDR(cidr)}}}},
				Ports: []v1alpha1.Port{{Port: &number, EndPort: &end}, {Port: &named}, {EndPort: &end}},
				HTTP: []v1alpha1.HTTPMatch{{
					Hosts: []string{word}, Methods: []string{word},
					Paths:   []v1alpha1.PathMatch{{Value: path}, {Type: v1alpha1.PathRegularExpression, Value: expression}},
					Headers: []v1alpha1.HeaderMatch{{Name: word, Type: v1alpha1.HeaderRegularExpression, Value: expression}},
				}},
			}},
		}}
		got, found := convert.Policy(p)
		if got.Accepted != (len(found) == 0) {
			t.Errorf("accepted %t with %v", got.Accepted, found)
		}
	})
}

// call is one attempt to reach a pod.
type call struct {
	callee labels.Set // the labels of the selected pod
	egress bool
	caller labels.Set
	ip     netip.Addr
	port   uint16
	udp    bool
	host   string // with method and path: an HTTP request, else plain bytes
	method string
	path   string
	header string // the value of x-a, "" without
}

type judgement struct{ isolates, grants, denies bool }

// judge reads a converted policy, plainly.
func judge(p *model.Policy, c call) judgement {
	governs, rules := p.IsolatesIngress, p.Ingress
	if c.egress {
		governs, rules = p.IsolatesEgress, p.Egress
	}
	if !governs || p.DryRun || !p.Selector.Matches(c.callee) {
		return judgement{}
	}
	matches := slices.ContainsFunc(rules, func(r model.Rule) bool { return ruleMatches(r, c) })
	if p.Action == model.Allow {
		return judgement{isolates: true, grants: matches}
	}
	return judgement{denies: matches}
}

func ruleMatches(r model.Rule, c call) bool {
	return (r.Peers == nil || slices.ContainsFunc(r.Peers, func(p model.Peer) bool {
		if p.Block != nil {
			return p.Block.CIDR.Contains(c.ip) && !slices.ContainsFunc(p.Block.Except, func(e netip.Prefix) bool { return e.Contains(c.ip) })
		}
		return (p.Pods == nil || p.Pods.Matches(c.caller)) && (p.ServiceAccounts == nil || slices.Contains(p.ServiceAccounts, c.caller["account"]))
	})) && (r.Ports == nil || slices.ContainsFunc(r.Ports, func(p model.PortRange) bool {
		return c.udp == (p.Protocol == model.UDP) && (p.From == 0 || p.From <= c.port && c.port <= p.To)
	})) && (r.HTTP == nil || c.method != "" && slices.ContainsFunc(r.HTTP, func(m model.HTTPMatch) bool { return requestMatches(m, c) }))
}

func requestMatches(m model.HTTPMatch, c call) bool {
	return (m.Hosts == nil || slices.ContainsFunc(m.Hosts, func(h model.Host) bool { return h.Name == c.host })) &&
		(m.Methods == nil || slices.Contains(m.Methods, c.method)) &&
		(m.Paths == nil || slices.ContainsFunc(m.Paths, func(p model.PathMatch) bool {
			return c.path == p.Value || p.Type == model.Prefix && strings.HasPrefix(c.path, p.Value)
		})) &&
		!slices.ContainsFunc(m.Headers, func(h model.HeaderMatch) bool {
			return (h.Type == model.Exact && c.header != h.Value) || (h.Type == model.Present && c.header == "") || (h.Type == model.Absent && c.header != "")
		})
}
