package netpol_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/netpoltest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// The companions of random policies allow exactly what the policies mean at L3/4. Where they say that they could not, ingress may be wider, since the
// sidecar denies there as well, and egress never is.
func TestCompanionsAllowWhatThePoliciesMean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := netpoltest.World(t)
		ix := model.NewIndex(s)
		companions, found := new(netpol.Builder).Build(ix)
		var k netpoltest.Kernel
		named := map[string]bool{}
		for _, c := range companions {
			if named[c.NetworkPolicy.Name] {
				t.Fatalf("two companions are named %s", c.NetworkPolicy.Name)
			}
			named[c.NetworkPolicy.Name] = true
			if !c.DryRun {
				k = append(k, c.NetworkPolicy)
			}
		}
		exact := !slices.ContainsFunc(found, func(d model.Diagnostic) bool {
			return d.Code == "deny-not-subtractable" || d.Code == "too-many-entries"
		})
		for _, from := range netpoltest.Parties(ix) {
			for _, to := range netpoltest.Parties(ix) {
				for _, port := range []uint16{1, 80, 8080, 8081, 8090, 14999, 15006, 15100, 65535} {
					for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
						got := k.Allows(from.End, to.End, port, protocol)
						in, out := meant(s, true, to, from, port, protocol), meant(s, false, from, to, port, protocol)
						self := from.Pod != nil && from.Name == to.Name
						want := self || in && out
						if exact && got != want || !exact && got && !self && !out {
							t.Fatalf("%s to %s, %s %d: the kernel allows %t, the policies %t; companions %v; found %v", from.Name, to.Name, protocol, port, got, want, names(companions), found)
						}
					}
				}
			}
		}
	})
}

func names(companions []netpol.Companion) string {
	var b strings.Builder
	for _, c := range companions {
		fmt.Fprintf(&b, "\n%s %+v", c.NetworkPolicy.Name, c.NetworkPolicy.Spec)
	}
	return b.String()
}

// meant is the plain reading of the policies in one direction, for the governed end about the other.
func meant(s *model.Snapshot, isIngress bool, governed, other netpoltest.Party, port uint16, protocol model.Protocol) bool {
	if governed.Pod == nil {
		return true
	}
	isolated, allowed, shutByDeny := false, false, false
	for _, p := range s.Policies {
		rules, governs := p.Egress, p.IsolatesEgress
		if isIngress {
			rules, governs = p.Ingress, p.IsolatesIngress
		}
		if p.DryRun || !governs || p.Namespace != governed.Namespace || !p.Selector.Matches(governed.Pod) {
			continue
		}
		isolated = isolated || p.Action == model.Allow
		for _, r := range rules {
			if p.Action == model.Deny {
				if r.HTTP != nil {
					continue
				}
				shutByDeny = true
				if peerMeant(p.Namespace, r.Peers, other) && portMeant(r.Ports, port, protocol) {
					return false
				}
				continue
			}
			if r.HTTP != nil && (protocol != model.TCP || !governed.Injected) {
				continue
			}
			own := protocol == model.TCP && port >= model.ReservedFirst && port <= model.ReservedLast
			open := r.Ports == nil && protocol == model.TCP || r.Ports != nil && portMeant(r.Ports, port, protocol)
			allowed = allowed || !own && open && peerMeant(p.Namespace, r.Peers, other)
		}
	}
	if !isolated && shutByDeny { // its companion lists what stays open, and never lists the sidecar's ports
		return protocol != model.TCP || port < model.ReservedFirst || port > model.ReservedLast
	}
	return !isolated || allowed
}

func peerMeant(namespace string, peers []model.Peer, e netpoltest.Party) bool {
	return peers == nil || slices.ContainsFunc(peers, func(p model.Peer) bool {
		if p.Block != nil {
			return p.Block.CIDR.Contains(e.Address) && !slices.ContainsFunc(p.Block.Except, func(x netip.Prefix) bool { return x.Contains(e.Address) })
		}
		if e.Pod == nil || p.Namespaces == nil && e.Namespace != namespace || p.Namespaces != nil && !p.Namespaces.Matches(e.NamespaceLabels) {
			return false
		}
		if p.ServiceAccounts != nil && !slices.Contains(p.ServiceAccounts, e.Pod[v1alpha1.LabelServiceAccount]) {
			return false
		}
		return p.Pods == nil || p.Pods.Matches(e.Pod)
	})
}

func portMeant(ports []model.PortRange, port uint16, protocol model.Protocol) bool {
	return ports == nil || slices.ContainsFunc(ports, func(r model.PortRange) bool { return r.Protocol == protocol && r.From <= port && port <= r.To })
}

// A Deny whose pods cannot be told from those of many Allows within bounds shuts them all: cut short, it would leave some open.
func TestADenyThatCannotBeSaidShuts(t *testing.T) {
	t.Parallel()
	s := &model.Snapshot{Pods: []*model.Pod{{Namespace: "shop", Name: "p", Labels: map[string]string{"free": "yes"}, Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.1")}}}}
	for i := range 9 { // two ways out of each: 2 to the 9th pieces
		selector := labels.SelectorFromSet(labels.Set{fmt.Sprintf("a%d", i): "1", fmt.Sprintf("b%d", i): "1"})
		s.Policies = append(s.Policies, &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("allow%d", i)}, Action: model.Allow, IsolatesEgress: true, Selector: selector})
	}
	s.Policies = append(s.Policies, &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "deny"}, Action: model.Deny, IsolatesEgress: true, Selector: labels.Everything(),
		Egress: []model.Rule{{Name: "0", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("203.0.113.0/24")}}}}},
	})
	ix := model.NewIndex(s)
	companions, found := new(netpol.Builder).Build(ix)
	var k netpoltest.Kernel
	for _, c := range companions {
		k = append(k, c.NetworkPolicy)
	}
	parties := netpoltest.Parties(ix)
	if k.Allows(parties[3].End, parties[0].End, 80, model.TCP) {
		t.Error("what is denied is open")
	}
	if !slices.ContainsFunc(found, func(d model.Diagnostic) bool { return d.Code == "too-many-entries" }) {
		t.Errorf("nobody is told: %v", found)
	}
}

// Who writes policies cannot keep the control plane from everybody else's: what thousands of Denies leave is cut short, and said to be.
func TestWhatDeniesLeaveIsBounded(t *testing.T) {
	t.Parallel()
	const policies, rules = 40, 64
	s := &model.Snapshot{Pods: []*model.Pod{{Namespace: "shop", Name: "p", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.1")}}}}
	for i := range policies {
		p := &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("deny%d", i)}, Action: model.Deny, IsolatesIngress: true, IsolatesEgress: true, Selector: labels.Everything()}
		for j := range rules {
			block := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, byte(i), byte(j), 1}), 32)
			rule := model.Rule{Name: fmt.Sprint(j), Peers: []model.Peer{{Block: &model.IPBlock{CIDR: block}}}}
			p.Ingress, p.Egress = append(p.Ingress, rule), append(p.Egress, rule)
		}
		s.Policies = append(s.Policies, p)
	}
	companions, found := new(netpol.Builder).Build(model.NewIndex(s))
	for _, field := range []string{"spec.ingress", "spec.egress"} {
		if !slices.ContainsFunc(found, func(d model.Diagnostic) bool { return d.Code == "too-many-entries" && d.Field == field }) {
			t.Errorf("nobody is told of %s: %v", field, found)
		}
	}
	for _, c := range companions {
		if n := c.NetworkPolicy; n.Labels[netpol.LabelRole] == "deny" && len(n.Spec.Ingress)+len(n.Spec.Egress) > 0 {
			t.Errorf("%s opens what cannot be said: %d and %d rules", n.Name, len(n.Spec.Ingress), len(n.Spec.Egress))
		}
	}
}
