package model

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// AppProtocol is what a port's application speaks.
type AppProtocol string

const (
	// AppTCP is anything: no http rule can hold there.
	AppTCP AppProtocol = "tcp"
	// AppHTTP is HTTP/1.1 or HTTP/2, gRPC and gRPC-Web included: the application is spoken to as its caller speaks.
	AppHTTP AppProtocol = "http"
)

// Workload is the set of pods that get identical configuration: same namespace, service account, ports, labels and proxy settings.
type Workload struct {
	Key            string // unique and stable: namespace, name and a hash of what the pods share
	Namespace      string
	Name           string // for people: the owner's name where there is one
	ServiceAccount string
	Labels         map[string]string
	Proxy          ProxySettings
	HostNetwork    bool
	Ports          []WorkloadPort // TCP ports, declared by a container or targeted by a Service, ascending
	Pods           []*Pod
	Addresses      []netip.Addr // of all pods, ascending, unique
}

// WorkloadPort is a TCP port of a workload.
type WorkloadPort struct {
	Number   uint16
	Name     string // the container port's name
	Protocol AppProtocol
	Service  string // the Service that says so; "" for a port no Service names
	// Conflict says that Services disagree on the protocol: the port is TCP then, which closes its http rules.
	Conflict bool
}

// Port returns the workload's port of that number.
func (w *Workload) Port(number uint16) (WorkloadPort, bool) {
	i, found := slices.BinarySearchFunc(w.Ports, number, func(p WorkloadPort, n uint16) int { return cmp.Compare(p.Number, n) })
	if !found {
		return WorkloadPort{}, false
	}
	return w.Ports[i], true
}

// ServiceAccountLabel is the value of the stamped label for a service account: its name, or, where that is longer than the 63 characters
// that a label value may have, its first 46 and a hash of 16 digits.
func ServiceAccountLabel(name string) string {
	const longest, kept, digits = 63, 46, 16
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:kept] + "-" + hex.EncodeToString(sum[:])[:digits]
}

// isPerPodLabel names the labels that differ from pod to pod of one template: they are left out of a workload's labels while no selector names them.
func isPerPodLabel(key string) bool {
	switch key {
	case "pod-template-hash", "controller-revision-hash", "pod-template-generation", "controller-uid", "job-name",
		"batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-completion-index",
		"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index":
		return true
	}
	return false
}

// namedPerPodLabels are the per-pod labels that any selector in the snapshot names.
func namedPerPodLabels(s *Snapshot) map[string]bool {
	named := map[string]bool{}
	name := func(key string) {
		if isPerPodLabel(key) {
			named[key] = true
		}
	}
	add := func(sel labels.Selector) {
		if sel == nil {
			return
		}
		reqs, _ := sel.Requirements()
		for _, r := range reqs {
			name(r.Key())
		}
	}
	peers := func(ps []Peer) {
		for _, p := range ps {
			add(p.Pods)
		}
	}
	for _, p := range s.Policies {
		add(p.Selector)
		for _, rules := range [][]Rule{p.Ingress, p.Egress} {
			for _, r := range rules {
				peers(r.Peers)
			}
		}
	}
	peers(s.Mesh.DNS)
	peers(s.Mesh.ControlPlane)
	peers(s.Mesh.Metrics)
	for i := range s.Services {
		for k := range s.Services[i].Selector {
			name(k)
		}
	}
	for _, np := range s.NetworkPolicies {
		for k := range networkPolicyLabels(np) {
			name(k)
		}
	}
	return named
}

func displayName(p *Pod) string {
	if p.Owner != "" {
		return p.Owner
	}
	return p.Name
}

func sharedLabels(all map[string]string, named map[string]bool) map[string]string {
	out := make(map[string]string, len(all))
	for k, v := range all {
		if !isPerPodLabel(k) || named[k] {
			out[k] = v
		}
	}
	return out
}

// signature is the exact encoding of what the pods of one workload share. The owner is part of it as the name that people see: two Deployments
// with the same labels stay two rows.
func signature(p *Pod, shared map[string]string, ports []WorkloadPort) string {
	b := make([]byte, 0, 256)
	quote := func(words ...string) {
		for _, w := range words {
			b = append(strconv.AppendQuote(b, w), ' ')
		}
	}
	quote(p.Namespace, displayName(p), p.ServiceAccount)
	b = strconv.AppendBool(b, p.HostNetwork)
	for _, k := range slices.Sorted(maps.Keys(shared)) {
		quote(k, shared[k])
	}
	for _, port := range ports {
		b = strconv.AppendUint(append(b, '|'), uint64(port.Number), 10)
		quote(port.Name, string(port.Protocol), port.Service)
		b = strconv.AppendBool(b, port.Conflict)
	}
	// Most pods have no settings of their own: the slow, exact encoding is for those that have.
	if !reflect.DeepEqual(p.Proxy, ProxySettings{Injected: p.Proxy.Injected}) {
		b = fmt.Appendf(b, "%+v", p.Proxy)
	}
	return string(strconv.AppendBool(append(b, '|'), p.Proxy.Injected))
}

// newWorkload makes a workload of pods that share a signature.
func newWorkload(sig string, pods []*Pod, services []Service, named map[string]bool) *Workload {
	first := pods[0]
	w := &Workload{
		Key: workloadKey(first, sig), Namespace: first.Namespace, Name: displayName(first), ServiceAccount: first.ServiceAccount,
		Labels: sharedLabels(first.Labels, named), Proxy: first.Proxy, HostNetwork: first.HostNetwork, Ports: podPorts(first, services), Pods: pods,
	}
	for _, p := range pods {
		w.Addresses = append(w.Addresses, p.Addresses...)
	}
	slices.SortFunc(w.Addresses, netip.Addr.Compare)
	w.Addresses = slices.Compact(w.Addresses)
	return w
}

// workloadKey is the key of the workload of a pod, which is the same for all pods of a signature.
func workloadKey(p *Pod, sig string) string {
	sum := sha256.Sum256([]byte(sig))
	return p.Namespace + "/" + displayName(p) + "/" + hex.EncodeToString(sum[:8])
}

// selects says whether a non-empty Service selector, which knows equality only, selects a pod.
func selects(selector, set map[string]string) bool {
	for k, v := range selector {
		if got, ok := set[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// podPorts lists the TCP ports of a pod with their protocols: those that containers declare and those that Services target.
func podPorts(p *Pod, services []Service) []WorkloadPort {
	ports := map[uint16]WorkloadPort{}
	byName := map[string]uint16{}
	for _, c := range p.Ports {
		if c.Protocol != TCP {
			continue
		}
		ports[c.Number] = WorkloadPort{Number: c.Number, Name: c.Name, Protocol: AppTCP}
		if c.Name != "" {
			byName[c.Name] = c.Number
		}
	}
	for i := range services {
		svc := &services[i]
		if !selects(svc.Selector, p.Labels) {
			continue
		}
		for _, sp := range svc.Ports {
			number := sp.TargetPort
			if sp.TargetName != "" {
				number = byName[sp.TargetName]
			}
			if sp.Protocol != TCP || number == 0 {
				continue
			}
			wp := ports[number]
			protocol := ServiceProtocol(sp)
			if wp.Service != "" && wp.Protocol != protocol {
				wp.Conflict, protocol = true, AppTCP
			}
			if wp.Service == "" || wp.Conflict {
				wp.Protocol = protocol
			}
			wp.Number = number
			if wp.Service == "" {
				wp.Service = svc.Name
			}
			ports[number] = wp
		}
	}
	return slices.SortedFunc(maps.Values(ports), func(a, b WorkloadPort) int { return cmp.Compare(a.Number, b.Number) })
}

// ServiceProtocol reads a Service port's protocol from its appProtocol, else from its name's prefix before the first dash.
func ServiceProtocol(sp ServicePort) AppProtocol {
	word := strings.ToLower(sp.AppProtocol)
	if word == "" {
		word, _, _ = strings.Cut(strings.ToLower(sp.Name), "-")
		if strings.ToLower(sp.Name) == "grpc-web" || strings.HasPrefix(strings.ToLower(sp.Name), "grpc-web-") {
			word = "grpc-web"
		}
	}
	switch word {
	case "http", "http2", "grpc", "h2c", "grpc-web", "kubernetes.io/h2c", "kubernetes.io/ws":
		return AppHTTP
	}
	return AppTCP
}
