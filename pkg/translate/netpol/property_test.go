package netpol_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// The companions of random policies allow exactly what the policies mean at L3/4. Where they say that they could not, ingress may be wider, since the
// sidecar denies there as well, and egress never is.
func TestCompanionsAllowWhatThePoliciesMean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := randomWorld(t)
		ix := model.NewIndex(s)
		companions, found := netpol.Build(ix)
		var k kernel
		for _, c := range companions {
			if !c.DryRun {
				k = append(k, c.NetworkPolicy)
			}
		}
		exact := !slices.ContainsFunc(found, func(d model.Diagnostic) bool {
			return d.Code == "deny-not-subtractable" || d.Code == "too-many-entries"
		})
		for _, from := range ends(ix) {
			for _, to := range ends(ix) {
				for _, port := range []uint16{1, 80, 8080, 8081, 8090, 14999, 15006, 15100, 65535} {
					for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
						got := k.allows(from.end, to.end, port, protocol)
						in, out := meant(s, true, to, from, port, protocol), meant(s, false, from, to, port, protocol)
						self := from.pod != nil && from.name == to.name
						want := self || in && out
						if exact && got != want || !exact && got && !self && !out {
							t.Fatalf("%s to %s, %s %d: the kernel allows %t, the policies %t; companions %v; found %v", from.name, to.name, protocol, port, got, want, names(companions), found)
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

// party is an end with its name and what the model knows of it.
type party struct {
	end
	name     string
	injected bool
}

func ends(ix *model.Index) []party {
	out := []party{
		{end: end{address: netip.MustParseAddr("203.0.113.10")}, name: "office"},
		{end: end{address: netip.MustParseAddr("203.0.113.200")}, name: "guest"},
		{end: end{address: netip.MustParseAddr("2001:db8::1")}, name: "six"},
	}
	for i := range ix.Snapshot.Pods {
		p := &ix.Snapshot.Pods[i]
		out = append(out, party{
			end:  end{namespace: p.Namespace, namespaces: ix.NamespaceLabels(p.Namespace), pod: p.Labels, address: p.Addresses[0]},
			name: p.Namespace + "/" + p.Name, injected: p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected,
		})
	}
	return out
}

// meant is the plain reading of the policies in one direction, for the governed end about the other.
func meant(s *model.Snapshot, isIngress bool, governed, other party, port uint16, protocol model.Protocol) bool {
	if governed.pod == nil {
		return true
	}
	isolated, allowed, shutByDeny := false, false, false
	for i := range s.Policies {
		p := &s.Policies[i]
		rules, governs := p.Egress, p.IsolatesEgress
		if isIngress {
			rules, governs = p.Ingress, p.IsolatesIngress
		}
		if p.DryRun || !governs || p.Namespace != governed.namespace || !p.Selector.Matches(governed.pod) {
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
			if r.HTTP != nil && (protocol != model.TCP || !governed.injected) {
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

func peerMeant(namespace string, peers []model.Peer, e party) bool {
	return peers == nil || slices.ContainsFunc(peers, func(p model.Peer) bool {
		if p.Block != nil {
			return p.Block.CIDR.Contains(e.address) && !slices.ContainsFunc(p.Block.Except, func(x netip.Prefix) bool { return x.Contains(e.address) })
		}
		if e.pod == nil || p.Namespaces == nil && e.namespace != namespace || p.Namespaces != nil && !p.Namespaces.Matches(e.namespaces) {
			return false
		}
		if p.ServiceAccounts != nil && !slices.Contains(p.ServiceAccounts, e.pod[v1alpha1.LabelServiceAccount]) {
			return false
		}
		return p.Pods == nil || p.Pods.Matches(e.pod)
	})
}

func portMeant(ports []model.PortRange, port uint16, protocol model.Protocol) bool {
	return ports == nil || slices.ContainsFunc(ports, func(r model.PortRange) bool { return r.Protocol == protocol && r.From <= port && port <= r.To })
}

func randomWorld(t *rapid.T) *model.Snapshot {
	s := &model.Snapshot{Namespaces: []model.Namespace{
		{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop", "team": "a"}}, {Name: "web", Labels: map[string]string{"kubernetes.io/metadata.name": "web"}},
	}}
	n := 0
	for _, ns := range []string{"shop", "web"} {
		for _, set := range []map[string]string{
			{"app": "a", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "x"},
			{"app": "a", "tier": "1"},
			{"app": "b", "tier": "2", v1alpha1.LabelProxy: v1alpha1.ProxyInjected},
			{},
		} {
			n++
			s.Pods = append(s.Pods, model.Pod{Namespace: ns, Name: fmt.Sprintf("p%d", n), Labels: set, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(n)})}})
		}
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
		p := model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("p%d", i), UID: "u"}, Selector: drawSelector(t),
			Action: rapid.SampledFrom([]model.Action{model.Allow, model.Deny}).Draw(t, "action"), DryRun: rapid.IntRange(0, 9).Draw(t, "dryRun") == 0,
		}
		p.IsolatesIngress = rapid.Bool().Draw(t, "ingress")
		p.IsolatesEgress = !p.IsolatesIngress || rapid.IntRange(0, 3).Draw(t, "both") == 0
		if p.IsolatesIngress {
			p.Ingress = drawRules(t, true)
		}
		if p.IsolatesEgress {
			p.Egress = drawRules(t, false)
		}
		s.Policies = append(s.Policies, p)
	}
	return s
}

func drawSelector(t *rapid.T) labels.Selector {
	out, err := labels.Parse(rapid.SampledFrom([]string{"", "app=a", "app=b", "app in (a,b)", "app notin (a)", "tier", "!tier", "app=a,tier=1", "app,tier!=2"}).Draw(t, "selector"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func drawRules(t *rapid.T, isIngress bool) []model.Rule {
	var out []model.Rule
	for i := range rapid.IntRange(0, 2).Draw(t, "rules") {
		r := model.Rule{Name: fmt.Sprint(i)}
		if isIngress && rapid.IntRange(0, 2).Draw(t, "http") == 0 {
			r.HTTP = []model.HTTPMatch{{Methods: []string{"GET"}}}
		}
		if rapid.Bool().Draw(t, "hasPeers") {
			r.Peers = rapid.SliceOfN(rapid.Custom(drawPeer), 1, 2).Draw(t, "peers")
		}
		if rapid.Bool().Draw(t, "hasPorts") {
			r.Ports = rapid.SliceOfN(rapid.SampledFrom([]model.PortRange{
				{Protocol: model.TCP, From: 80, To: 80},
				{Protocol: model.TCP, From: 8080, To: 8090},
				{Protocol: model.TCP, From: 8081, To: 8081},
				{Protocol: model.TCP, From: 1, To: 65535},
				{Protocol: model.UDP, From: 80, To: 8080},
				{Protocol: model.TCP, From: 14000, To: 15050},
			}), 1, 2).Draw(t, "ports")
		}
		out = append(out, r)
	}
	return out
}

func drawPeer(t *rapid.T) model.Peer {
	switch rapid.IntRange(0, 4).Draw(t, "peer") {
	case 0:
		return model.Peer{Pods: drawSelector(t)}
	case 1:
		return model.Peer{Namespaces: labels.SelectorFromSet(labels.Set{"team": "a"}), Pods: drawSelector(t)}
	case 2:
		return model.Peer{Namespaces: labels.Everything()}
	case 3:
		return model.Peer{Namespaces: labels.Everything(), ServiceAccounts: []string{"x", "y"}}
	}
	b := &model.IPBlock{CIDR: netip.MustParsePrefix(rapid.SampledFrom([]string{"203.0.113.0/24", "203.0.113.128/25", "0.0.0.0/0", "2001:db8::/32", "10.244.0.0/16", "10.244.0.2/32"}).Draw(t, "cidr"))}
	if b.CIDR.Bits() == 24 && rapid.Bool().Draw(t, "except") {
		b.Except = []netip.Prefix{netip.MustParsePrefix(rapid.SampledFrom([]string{"203.0.113.192/26", "203.0.113.8/29"}).Draw(t, "excepted"))}
	}
	return model.Peer{Block: b}
}

// A Deny whose pods cannot be told from those of many Allows within bounds shuts them all: cut short, it would leave some open.
func TestADenyThatCannotBeSaidShuts(t *testing.T) {
	t.Parallel()
	s := &model.Snapshot{Pods: []model.Pod{{Namespace: "shop", Name: "p", Labels: map[string]string{"free": "yes"}, Addresses: []netip.Addr{netip.MustParseAddr("10.244.0.1")}}}}
	for i := range 9 { // two ways out of each: 2 to the 9th pieces
		selector := labels.SelectorFromSet(labels.Set{fmt.Sprintf("a%d", i): "1", fmt.Sprintf("b%d", i): "1"})
		s.Policies = append(s.Policies, model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("allow%d", i)}, Action: model.Allow, IsolatesEgress: true, Selector: selector})
	}
	s.Policies = append(s.Policies, model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: "deny"}, Action: model.Deny, IsolatesEgress: true, Selector: labels.Everything(),
		Egress: []model.Rule{{Name: "0", Peers: []model.Peer{{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("203.0.113.0/24")}}}}},
	})
	ix := model.NewIndex(s)
	companions, found := netpol.Build(ix)
	var k kernel
	for _, c := range companions {
		k = append(k, c.NetworkPolicy)
	}
	parties := ends(ix)
	if k.allows(parties[3].end, parties[0].end, 80, model.TCP) {
		t.Error("what is denied is open")
	}
	if !slices.ContainsFunc(found, func(d model.Diagnostic) bool { return d.Code == "too-many-entries" }) {
		t.Errorf("nobody is told: %v", found)
	}
}
