package netpoltest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Case is one case of the corpus; testdata/corpus/README.md says what the fields mean.
type Case struct {
	ID                       string
	Title, Why               string
	Topology                 Topology
	L7Policies               []casePolicy                  `json:"l7_policies"`
	UserNetworkPolicies      []*networkingv1.NetworkPolicy `json:"user_networkpolicies"`
	ReferenceNetworkPolicies []*networkingv1.NetworkPolicy `json:"reference_networkpolicies"`
	MustAllow                []Flow                        `json:"must_allow"`
	MustDeny                 []Flow                        `json:"must_deny"`
}

// Topology is the cluster that a case is about.
type Topology struct {
	Namespaces map[string]struct{ Labels map[string]string }
	Pods       map[string]CasePod
	Nodes      map[string]string
	External   map[string]string
	Mesh       struct {
		Scrape struct {
			NamespaceLabels map[string]string
			Ports           []uint16
		}
		XDS struct {
			Pod  string
			Port uint16
		}
	}
}

// CasePod is a pod of a Topology.
type CasePod struct {
	IP                  string
	ServiceAccount      string
	Labels              map[string]string
	Ports               map[string]uint16
	Injected            bool
	HostNetwork         bool
	ExcludeInboundPorts []uint16
}

// Flow is one connection.
type Flow struct {
	Src, Dst string
	Port     uint16
	Proto    model.Protocol
}

// UnmarshalJSON reads a flow, also as "SRC > DST TCP 80".
func (f *Flow) UnmarshalJSON(text []byte) error {
	var line string
	if json.Unmarshal(text, &line) == nil {
		if _, err := fmt.Sscanf(line, "%s > %s %s %d", &f.Src, &f.Dst, &f.Proto, &f.Port); err != nil {
			return fmt.Errorf("flow %q: %w", line, err)
		}
		return nil
	}
	type plain Flow
	return json.Unmarshal(text, (*plain)(f))
}

type casePolicy struct {
	Namespace, Name string
	Selector        metav1.LabelSelector
	Direction       string
	Rules, Egress   []caseRule
}

type caseRule struct {
	Action   string
	From, To []json.RawMessage
	Ports    []v1alpha1.Port
	HTTP     json.RawMessage
}

// Cases reads the corpus of others and our own, from the folder of the corpus.
func Cases(t testing.TB, folder string) []Case {
	t.Helper()
	return append(theirs(t, folder), ours(t, folder)...)
}

func theirs(t testing.TB, folder string) []Case {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "netpol.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Case
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c Case
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%.60s: %v", lines.Bytes(), err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		t.Fatal("the corpus is empty")
	}
	return out
}

// ours are cases in one topology, to which each may add pods.
func ours(t testing.TB, folder string) []Case {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "netpol-own.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Topology Topology
		Cases    []struct {
			Case
			Pods map[string]CasePod
		}
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	var out []Case
	for _, c := range file.Cases {
		c.Topology = file.Topology
		c.Topology.Pods = maps.Clone(c.Topology.Pods)
		maps.Copy(c.Topology.Pods, c.Pods)
		out = append(out, c.Case)
	}
	return out
}

// End finds "NAMESPACE/POD", "ext:NAME" or "node:NAME".
func (c *Case) End(t testing.TB, name string) End {
	t.Helper()
	kind, rest, named := strings.Cut(name, ":")
	switch {
	case named && kind == "ext":
		return End{Address: netip.MustParseAddr(c.Topology.External[rest])}
	case named && kind == "node":
		return End{Address: netip.MustParseAddr(c.Topology.Nodes[rest])}
	}
	p, ok := c.Topology.Pods[name]
	if !ok {
		t.Fatalf("no pod %q", name)
	}
	namespace, _, _ := strings.Cut(name, "/")
	return End{
		Namespace: namespace, NamespaceLabels: c.Topology.Namespaces[namespace].Labels, Pod: p.stamped(), Address: netip.MustParseAddr(p.IP), HostNetwork: p.HostNetwork,
	}
}

// stamped are the labels of a pod as our injector and our admission policy leave them: the corpus has its own label for the account.
func (p *CasePod) stamped() map[string]string {
	out := map[string]string{}
	for k, v := range p.Labels {
		if k == "security.pilot-lite.io/service-account" {
			k = v1alpha1.LabelServiceAccount
		}
		out[k] = v
	}
	if p.Injected {
		out[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
	}
	return out
}

// Snapshot is the case as a source of ours would give it.
func (c *Case) Snapshot(t testing.TB) *model.Snapshot {
	t.Helper()
	s := &model.Snapshot{Mesh: convert.DefaultMesh()}
	s.Mesh.ControlPlanePort = c.Topology.Mesh.XDS.Port
	if namespace, _, found := strings.Cut(c.Topology.Mesh.XDS.Pod, "/"); found {
		s.Mesh.ControlPlane = []model.Peer{{Namespaces: labels.SelectorFromSet(labels.Set{"kubernetes.io/metadata.name": namespace})}}
	}
	if l := c.Topology.Mesh.Scrape.NamespaceLabels; l != nil {
		s.Mesh.Metrics, s.Mesh.MetricsPorts = []model.Peer{{Namespaces: labels.SelectorFromSet(l)}}, c.Topology.Mesh.Scrape.Ports
	}
	for name, ns := range c.Topology.Namespaces {
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: name, Labels: ns.Labels})
	}
	for name, p := range c.Topology.Pods {
		namespace, pod, _ := strings.Cut(name, "/")
		m := &model.Pod{Namespace: namespace, Name: pod, Labels: p.stamped(), ServiceAccount: p.ServiceAccount, HostNetwork: p.HostNetwork, Expected: true}
		if !p.HostNetwork {
			m.Addresses = []netip.Addr{netip.MustParseAddr(p.IP)}
		}
		for portName, n := range p.Ports {
			protocol := model.TCP
			if portName == "dns" {
				protocol = model.UDP
			}
			m.Ports = append(m.Ports, model.ContainerPort{Name: portName, Number: n, Protocol: protocol})
		}
		m.Proxy = model.ProxySettings{Injected: p.Injected, ExcludedInbound: p.ExcludeInboundPorts}
		s.Pods = append(s.Pods, m)
	}
	for i := range c.L7Policies {
		s.Policies = append(s.Policies, c.L7Policies[i].policies(t)...)
	}
	s.NetworkPolicies = c.UserNetworkPolicies
	slices.SortFunc(s.Pods, func(a, b *model.Pod) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	slices.SortFunc(s.Policies, func(a, b *model.Policy) int { return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name) })
	return s
}

// policies maps an abstract policy, whose rules have actions of their own, to an Allow and a Deny.
func (p *casePolicy) policies(t testing.TB) []*model.Policy {
	t.Helper()
	spec := map[v1alpha1.Action]*v1alpha1.L7PolicySpec{}
	of := func(action string) *v1alpha1.L7PolicySpec {
		a := v1alpha1.ActionAllow
		if action == "deny" {
			a = v1alpha1.ActionDeny
		}
		if spec[a] == nil {
			spec[a] = &v1alpha1.L7PolicySpec{Action: a, PolicyTypes: []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress}}
			if p.Direction == "egress" {
				spec[a].PolicyTypes = []v1alpha1.PolicyType{v1alpha1.PolicyTypeEgress}
			}
			selector, err := json.Marshal(p.Selector)
			if err != nil {
				t.Fatal(err)
			}
			decode(t, selector, &spec[a].PodSelector)
		}
		return spec[a]
	}
	if len(p.Rules) == 0 && len(p.Egress) == 0 { // allow nothing
		of("allow")
	}
	for _, r := range p.Rules {
		s := of(r.Action)
		rule := v1alpha1.IngressRule{From: peers(t, r.From), Ports: r.Ports}
		if r.HTTP != nil {
			rule.HTTP = []v1alpha1.HTTPMatch{{Methods: []string{"GET"}}}
		}
		s.Ingress = append(s.Ingress, rule)
	}
	for _, r := range p.Egress {
		s := of(r.Action)
		s.Egress = append(s.Egress, v1alpha1.EgressRule{To: peers(t, r.To), Ports: r.Ports})
	}
	var out []*model.Policy
	for action, s := range spec {
		object := &v1alpha1.L7Policy{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name + strings.ToLower("-"+string(action)), UID: "1", Generation: 1}, Spec: *s}
		m, found := convert.Policy(object)
		for _, d := range found {
			if d.Severity == model.SeverityError {
				t.Errorf("%s", d)
			}
		}
		out = append(out, &m)
	}
	return out
}

func decode(t testing.TB, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func peers(t testing.TB, raw []json.RawMessage) []v1alpha1.Peer {
	t.Helper()
	var out []v1alpha1.Peer
	for _, text := range raw {
		var p v1alpha1.Peer
		decode(t, text, &p)
		var accounts struct {
			ServiceAccounts []struct{ Namespace, Name string }
		}
		decode(t, text, &accounts)
		for _, a := range accounts.ServiceAccounts {
			if a.Namespace != "" {
				p.NamespaceSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"kubernetes.io/metadata.name": v1alpha1.LabelValue(a.Namespace)}}
			}
		}
		out = append(out, p)
	}
	return out
}
