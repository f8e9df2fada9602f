package netpoltest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Cluster draws a snapshot with everything that decides at L3/4 and may be told apart at L7: World's pods with ports that have names, workloads of several pods, pods without an
// address or on the host's network, what isolated pods need, policies of two namespaces with http of every kind, and NetworkPolicies of somebody else's.
func Cluster(t *rapid.T) *model.Snapshot {
	s := World(t)
	s.Mesh = model.Mesh{
		DNS:          []model.Peer{{Namespaces: selectorOf("kubernetes.io/metadata.name", "web"), Pods: selectorOf("app", "b")}},
		ControlPlane: []model.Peer{{Namespaces: selectorOf("kubernetes.io/metadata.name", "web"), Pods: selectorOf("tier", "1")}}, ControlPlanePort: 15012,
	}
	if rapid.Bool().Draw(t, "metrics") {
		s.Mesh.Metrics, s.Mesh.MetricsPorts = []model.Peer{{Namespaces: selectorOf("kubernetes.io/metadata.name", "web")}}, []uint16{15090, 9090}
	}
	s.Services = append(s.Services,
		model.Service{Namespace: "shop", Name: "b", Selector: map[string]string{"app": "b"}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, TargetName: "web"}}},
		model.Service{Namespace: "web", Name: "dns", Selector: map[string]string{"app": "b"}, Ports: []model.ServicePort{{Name: "dns", Protocol: model.UDP, Port: 53, TargetPort: 5353}}},
	)
	var more []*model.Pod
	for i, p := range s.Pods {
		dress(t, p)
		if p.HostNetwork {
			continue
		}
		if rapid.IntRange(0, 3).Draw(t, "replicas") == 0 { // of one workload, at an address that blocks may tell apart
			again := *p
			p.Owner, again.Owner, again.Name = "set-"+p.Name, "set-"+p.Name, p.Name+"b"
			again.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 9, byte(i + 1)})}
			if p.Ports != nil {
				again.Ports = []model.ContainerPort{p.Ports[0], {Name: "dns", Number: 5353, Protocol: model.UDP}}
			}
			if rapid.Bool().Draw(t, "template") {
				again.Addresses = nil
			}
			more = append(more, &again)
		}
	}
	s.Pods = append(s.Pods, more...)
	s.Policies = nil
	for i := range rapid.IntRange(1, 4).Draw(t, "policies") {
		s.Policies = append(s.Policies, clusterPolicy(t, fmt.Sprintf("p%d", i), 1))
	}
	s.NetworkPolicies = NetworkPolicies(t, 2)
	return s
}

func selectorOf(key, value string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{key: value})
}

// dress gives a pod ports with names, and a sidecar where its label says so.
func dress(t *rapid.T, p *model.Pod) {
	p.Ports = []model.ContainerPort{
		{Name: "web", Number: rapid.SampledFrom([]uint16{80, 8081}).Draw(t, "web"), Protocol: model.TCP},
		{Name: "dns", Number: rapid.SampledFrom([]uint16{5353, 5354}).Draw(t, "dns"), Protocol: model.UDP},
	}
	if rapid.IntRange(0, 5).Draw(t, "lacks") == 0 {
		p.Ports = nil
	}
	p.Labels = maps.Clone(p.Labels)
	if delete(p.Labels, v1alpha1.LabelProxy); rapid.IntRange(0, 2).Draw(t, "sidecar") > 0 {
		p.Labels[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
	}
	p.Proxy.Injected = p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected
	if p.Proxy.Injected && rapid.IntRange(0, 3).Draw(t, "excluded") == 0 {
		p.Proxy.ExcludedInbound = []uint16{80}
	}
	if rapid.IntRange(0, 11).Draw(t, "hostNetwork") == 0 {
		p.HostNetwork, p.Addresses = true, nil
	}
}

// EditCluster draws what became of a cluster: one policy, pod, NetworkPolicy or setting is another. What did not change is shared.
func EditCluster(t *rapid.T, s *model.Snapshot) *model.Snapshot {
	next := *s
	switch rapid.IntRange(0, 6).Draw(t, "edit") {
	case 0:
		next.NetworkPolicies = NetworkPolicies(t, 2)
	case 1:
		i, p := anotherPod(t, &next)
		if !p.HostNetwork {
			p.Addresses = rapid.SampledFrom([][]netip.Addr{nil, {netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})}, {netip.AddrFrom4([4]byte{10, 244, 7, byte(i)})}}).Draw(t, "addresses")
		}
	case 2:
		i, p := anotherPod(t, &next)
		dress(t, p)
		if p.HostNetwork = false; p.Addresses == nil {
			p.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 8, byte(i)})}
		}
	case 3:
		next.Namespaces = append([]model.Namespace(nil), s.Namespaces...)
		next.Namespaces[0].Labels = map[string]string{"kubernetes.io/metadata.name": "shop", "team": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "team")}
	case 4:
		next.Mesh.Metrics, next.Mesh.MetricsPorts = []model.Peer{{Namespaces: labels.Everything()}}, []uint16{rapid.SampledFrom([]uint16{9090, 15090}).Draw(t, "metricsPort")}
	case 5: // a policy is gone
		next.Policies = slices.Clone(s.Policies[:max(0, len(s.Policies)-1)])
	default:
		next.Policies = slices.Clone(s.Policies)
		if i := rapid.IntRange(0, len(s.Policies)).Draw(t, "policy"); i == len(s.Policies) {
			next.Policies = append(next.Policies, clusterPolicy(t, fmt.Sprintf("q%d", i), 1))
		} else {
			next.Policies[i] = clusterPolicy(t, s.Policies[i].Name, s.Policies[i].Generation+1)
		}
	}
	return &next
}

// anotherPod puts a copy in the place of one of the pods, to be changed.
func anotherPod(t *rapid.T, s *model.Snapshot) (i int, p *model.Pod) {
	s.Pods = slices.Clone(s.Pods)
	i = rapid.IntRange(0, len(s.Pods)-1).Draw(t, "pod")
	edited := *s.Pods[i]
	s.Pods[i] = &edited
	return i, &edited
}

func clusterPolicy(t *rapid.T, name string, generation int64) *model.Policy {
	p := drawPolicy(t, name, generation)
	p.Namespace, p.Accepted = rapid.SampledFrom([]string{"shop", "shop", "web"}).Draw(t, "policyNamespace"), true
	for i := range p.Ingress {
		if r := &p.Ingress[i]; r.HTTP != nil {
			r.HTTP = rapid.SliceOfN(rapid.Custom(HTTPMatch), 1, 2).Draw(t, "matches")
		}
	}
	for _, rules := range [][]model.Rule{p.Ingress, p.Egress} {
		for i := range rules {
			if r := &rules[i]; r.Ports != nil && rapid.IntRange(0, 3).Draw(t, "named") == 0 {
				r.Ports = append(r.Ports, rapid.SampledFrom([]model.PortRange{
					{Protocol: model.TCP, Name: "web"}, {Protocol: model.UDP, Name: "dns"}, {Protocol: model.TCP, Name: "none"}, {Protocol: model.TCP}, {Protocol: model.SCTP, From: 9, To: 9},
				}).Draw(t, "namedPort"))
			}
		}
	}
	return p
}

// HTTPMatch draws a match of few words, so that Requests are of every class that a few of them tell apart.
func HTTPMatch(t *rapid.T) model.HTTPMatch {
	var m model.HTTPMatch
	some := func(label string) bool { return rapid.IntRange(0, 2).Draw(t, label) == 0 }
	if some("methods") {
		m.Methods = rapid.SampledFrom([][]string{{"GET"}, {"POST"}, {"GET", "POST"}}).Draw(t, "method")
	}
	if some("hosts") {
		m.Hosts = rapid.SampledFrom([][]model.Host{{{Name: "a"}}, {{Name: "x.test", Wildcard: true}}, {{Name: "w.x.test"}}}).Draw(t, "host")
	}
	if rapid.Bool().Draw(t, "paths") {
		m.Paths = rapid.SampledFrom([][]model.PathMatch{
			{{Type: model.Exact, Value: "/a"}},
			{{Type: model.Prefix, Value: "/a"}},
			{{Type: model.Prefix, Value: "/"}},
			{{Type: model.Regex, Value: "/b.*"}},
			{{Type: model.Exact, Value: "/a/b"}, {Type: model.Regex, Value: "/(b|a/c)"}},
		}).Draw(t, "path")
	}
	if some("headers") {
		m.Headers = []model.HeaderMatch{rapid.SampledFrom([]model.HeaderMatch{
			{Name: "x-a", Type: model.Exact, Value: "v"},
			{Name: "x-a", Type: model.Present},
			{Name: "x-a", Type: model.Absent},
			{Name: "x-a", Type: model.NotExact, Value: "v"},
			{Name: "x-a", Type: model.Regex, Value: "v|w"},
		}).Draw(t, "header")}
	}
	return m
}

// Requests are some of every class.
func Requests() []*model.HTTPRequest {
	var out []*model.HTTPRequest
	for _, method := range []string{"GET", "POST", "PUT"} {
		for _, host := range []string{"a", "w.x.test", "y.x.test", "zz"} {
			for _, path := range []string{"/", "/a", "/a/b", "/a/c", "/a/d", "/b", "/bx", "/z"} {
				for _, value := range []string{"", "v", "w", "u"} {
					r := &model.HTTPRequest{Method: method, Host: host, Path: path}
					if value != "" {
						r.Headers = []model.Header{{Name: "x-a", Value: value}}
					}
					out = append(out, r)
				}
			}
		}
	}
	return out
}
