package diff_test

import (
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// party is somebody who calls or is called.
type party struct {
	name      string // NAMESPACE/NAME of its pod; "" without one
	namespace string
	nsLabels  labels.Set // of a namespace that does not stand
	labels    labels.Set // of a pod that does not stand
	stands    bool
	address   netip.Addr
}

func (p party) String() string {
	return fmt.Sprintf("%s %s %v %v at %s", p.name, p.namespace, p.nsLabels, p.labels, p.address)
}

// unknown is an address that no block holds.
func unknown(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)})
}

// standing are the pods of a snapshot that a policy can know. Those whose address is not known are given one that no block holds.
func standing(s *model.Snapshot) []party {
	var out []party
	for i := range s.Pods {
		if p := s.Pods[i]; !p.HostNetwork {
			address := unknown(1000 + i)
			if len(p.Addresses) > 0 {
				address = p.Addresses[0]
			}
			out = append(out, party{name: p.Namespace + "/" + p.Name, namespace: p.Namespace, stands: true, address: address})
		}
	}
	return out
}

func outside() []party {
	var out []party
	for _, a := range []string{"203.0.113.5", "203.0.113.200", "192.0.2.1", "2001:db8::1", "10.0.0.77", "10.0.1.77", "10.0.0.3", "fd00::9"} {
		if a != "10.0.0.3" { // a pod's
			out = append(out, party{address: netip.MustParseAddr(a)})
		}
	}
	return out
}

// drawStrangers draws pods that do not stand, with labels that selectors name or none does, in namespaces that stand or not.
func drawStrangers(t *rapid.T, many int) []party {
	var out []party
	for i := range many {
		p := party{labels: labels.Set{}}
		draw := func(key string, values ...string) {
			if v := rapid.SampledFrom(values).Draw(t, key); v != "" {
				p.labels[key] = v
			}
		}
		draw("app", "", "a", "b", "c", "d")
		draw("tier", "", "1", "2", "3")
		draw(v1alpha1.LabelServiceAccount, "", "x", "y", "z")
		p.namespace = rapid.SampledFrom([]string{"shop", "shop", "web", "later", "new"}).Draw(t, "namespace")
		if p.namespace == "later" || p.namespace == "new" {
			p.nsLabels = rapid.SampledFrom([]labels.Set{{}, {"team": "a"}, {"team": "b"}}).Draw(t, "namespaceLabels")
			p.namespace += p.nsLabels["team"]
			if p.namespace == "later" && p.nsLabels["team"] == "" {
				p.namespace = "later"
			}
		}
		p.address = rapid.SampledFrom([]netip.Addr{
			unknown(i), netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)}), netip.AddrFrom4([4]byte{10, 0, 1, byte(100 + i)}), netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}),
			netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)}), netip.AddrFrom4([4]byte{203, 0, 113, byte(193 + i)}),
		}).Draw(t, "address")
		p.name = fmt.Sprint(p.namespace, "/stranger-", i)
		if slices.ContainsFunc(out, func(o party) bool { return o.address == p.address }) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// with is a snapshot in which the parties stand as well.
func with(s *model.Snapshot, parties []party) *model.Snapshot {
	out := *s
	out.Pods, out.Namespaces = slices.Clone(s.Pods), slices.Clone(s.Namespaces)
	for _, p := range parties {
		if p.name == "" {
			continue
		}
		if p.stands {
			for i := range out.Pods {
				if o := *out.Pods[i]; o.Namespace+"/"+o.Name == p.name {
					o.Addresses = []netip.Addr{p.address}
					out.Pods[i] = &o
				}
			}
			continue
		}
		out.Pods = append(out.Pods, &model.Pod{Namespace: p.namespace, Name: p.name[len(p.namespace)+1:], Labels: p.labels, Addresses: []netip.Addr{p.address}})
		if !slices.ContainsFunc(out.Namespaces, func(ns model.Namespace) bool { return ns.Name == p.namespace }) {
			set := labels.Merge(p.nsLabels, labels.Set{nameLabel: p.namespace})
			out.Namespaces = append(out.Namespaces, model.Namespace{Name: p.namespace, Labels: set})
		}
	}
	return &out
}

// kernelOf are all NetworkPolicies of a snapshot, as pkg/eval/kernel reads them.
func kernelOf(ix *model.Index) *kernel.Set {
	var all []*networkingv1.NetworkPolicy
	companions, _ := new(netpol.Builder).Build(ix)
	for i := range companions {
		if !companions[i].DryRun {
			all = append(all, companions[i].NetworkPolicy)
		}
	}
	set, _ := kernel.New(append(all, ix.Snapshot.NetworkPolicies...))
	return set
}

// passes decides for one end about the other.
func passes(k *kernel.Set, ix *model.Index, d model.Direction, governed, other party, port uint16, protocol model.Protocol) bool {
	direction := networkingv1.PolicyTypeIngress
	if d == model.Egress {
		direction = networkingv1.PolicyTypeEgress
	}
	return k.Governing(direction, eval.PartyAt(ix, governed.address).End(ix)).Allows(eval.PartyAt(ix, other.address).End(ix), port, protocol)
}

// judge asks the evaluator whether requests satisfy terms, of policies that hold nothing else.
type judge struct{ known map[string]bool }

func (j *judge) verdict(action model.Action, m model.HTTPMatch, r *model.HTTPRequest) model.Verdict {
	ix := model.NewIndex(&model.Snapshot{
		Pods: []*model.Pod{{Namespace: "n", Name: "p", Labels: map[string]string{"app": "p"}}},
		Services: []model.Service{{Namespace: "n", Name: "p", Selector: map[string]string{"app": "p"}, Ports: []model.ServicePort{
			{Name: "http", Protocol: model.TCP, TargetPort: 80},
		}}},
		Policies: []*model.Policy{{
			PolicyRef: model.PolicyRef{Namespace: "n", Name: "q"}, Action: action, Selector: labels.Everything(), IsolatesIngress: true,
			Ingress: []model.Rule{{Name: "r", HTTP: []model.HTTPMatch{m}}},
		}},
	})
	return eval.Ingress(ix, ix.Workloads[0], model.Request{Source: netip.MustParseAddr("192.0.2.1"), Port: 80, HTTP: r})
}

func (j *judge) holds(t reqclass.Term, r *model.HTTPRequest) bool {
	key := fmt.Sprintf("%s %#v %v", t.Action, *t.Match, *r)
	known, ok := j.known[key]
	if !ok {
		known = j.verdict(t.Action, *t.Match, r).Allowed == (t.Action == model.Allow)
		j.known[key] = known
	}
	return known
}

// guarded is the guard's outcome on a request, if it refuses it.
func (j *judge) guarded(r *model.HTTPRequest) string {
	v := j.verdict(model.Allow, model.HTTPMatch{}, r)
	if v.Allowed {
		return ""
	}
	return v.Decider
}

// covers says whether a request belongs to a class.
func (j *judge) covers(c diff.Class, r *model.HTTPRequest) bool {
	switch {
	case c.Request == nil:
		return true
	case c.Guard != "":
		return j.guarded(r) == c.Guard
	case j.guarded(r) != "":
		return false
	}
	for i, t := range c.Terms {
		if j.holds(t, r) != c.Holds[i] {
			return false
		}
	}
	return true
}

// matching says whom peers mean, read anew.
func matching(before, after *model.Index, p party) diff.Match {
	return func(s diff.Side, peers []model.Peer, namespace string, among func(string) bool) bool {
		if peers == nil {
			return p.stands && among(p.name)
		}
		ix := before
		if s == diff.After {
			ix = after
		}
		e := eval.PartyAt(ix, p.address).End(ix)
		return slices.ContainsFunc(peers, func(m model.Peer) bool {
			if b := m.Block; b != nil {
				return b.CIDR.Contains(p.address) && !slices.ContainsFunc(b.Except, func(x netip.Prefix) bool { return x.Contains(p.address) })
			}
			if e.Pod == nil || m.Namespaces == nil && e.Pod.Namespace != namespace || m.Namespaces != nil && !m.Namespaces.Matches(e.NamespaceLabels) ||
				m.Pods != nil && !m.Pods.Matches(labels.Set(e.Pod.Labels)) {
				return false
			}
			account, stamped := e.Pod.Labels[v1alpha1.LabelServiceAccount]
			return m.ServiceAccounts == nil || stamped && slices.Contains(m.ServiceAccounts, account)
		})
	}
}
