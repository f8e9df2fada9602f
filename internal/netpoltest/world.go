package netpoltest

import (
	"fmt"
	"net/netip"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Party is an end with its name and what the model knows of it.
type Party struct {
	End
	Name     string
	Injected bool
}

// Parties are some addresses outside, and every pod.
func Parties(ix *model.Index) []Party {
	out := []Party{
		{End: End{Address: netip.MustParseAddr("203.0.113.10")}, Name: "office"},
		{End: End{Address: netip.MustParseAddr("203.0.113.200")}, Name: "guest"},
		{End: End{Address: netip.MustParseAddr("2001:db8::1")}, Name: "six"},
	}
	for _, p := range ix.Snapshot.Pods {
		out = append(out, Party{
			End:  End{Namespace: p.Namespace, NamespaceLabels: ix.NamespaceLabels(p.Namespace), Pod: p.Labels, Address: p.Addresses[0]},
			Name: p.Namespace + "/" + p.Name, Injected: p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected,
		})
	}
	return out
}

// World draws a snapshot of two namespaces, with policies of every kind in one of them.
func World(t *rapid.T) *model.Snapshot {
	s := &model.Snapshot{Namespaces: []model.Namespace{
		{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop", "team": "a"}}, {Name: "web", Labels: map[string]string{"kubernetes.io/metadata.name": "web"}},
	}}
	// So that some rules with http mean something.
	s.Services = []model.Service{{Namespace: "shop", Name: "a", Selector: map[string]string{"app": "a"}, Ports: []model.ServicePort{
		{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 80}, {Name: "http-alt", Protocol: model.TCP, Port: 8081, TargetPort: 8081},
	}}}
	n := 0
	for _, ns := range []string{"shop", "web"} {
		for _, set := range []map[string]string{
			{"app": "a", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "x"},
			{"app": "a", "tier": "1"},
			{"app": "b", "tier": "2", v1alpha1.LabelProxy: v1alpha1.ProxyInjected},
			{},
		} {
			n++
			s.Pods = append(s.Pods, &model.Pod{Namespace: ns, Name: fmt.Sprintf("p%d", n), Labels: set, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 0, byte(n)})}})
		}
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
		s.Policies = append(s.Policies, drawPolicy(t, fmt.Sprintf("p%d", i), 1))
	}
	return s
}

// Edit draws what became of a world: some policies were edited, deleted or made, all at once.
func Edit(t *rapid.T, s *model.Snapshot) *model.Snapshot {
	next := *s
	next.Policies = nil
	for _, p := range s.Policies {
		switch rapid.IntRange(0, 5).Draw(t, "edit") {
		case 0: // deleted
			continue
		case 1, 2:
			p = drawPolicy(t, p.Name, p.Generation+1)
		case 3: // its rules alone
			edited := drawPolicy(t, p.Name, p.Generation+1)
			edited.Selector, edited.Action, edited.DryRun, edited.IsolatesIngress, edited.IsolatesEgress = p.Selector, p.Action, p.DryRun, p.IsolatesIngress, p.IsolatesEgress
			p = edited
		}
		next.Policies = append(next.Policies, p)
	}
	if rapid.IntRange(0, 2).Draw(t, "another") == 0 {
		next.Policies = append(next.Policies, drawPolicy(t, "q", 1))
	}
	return &next
}

func drawPolicy(t *rapid.T, name string, generation int64) *model.Policy {
	p := &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: name, UID: "uid-" + name, Generation: generation}, Selector: drawSelector(t),
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
	return p
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
		r := model.Rule{Name: strconv.Itoa(i)}
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
