package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo/graph"
)

// shownPolicy is the policy whose companions are shown as YAML.
const shownPolicy = "ratings"

// showCompanions prints the NetworkPolicies that the node's kernel enforces beside the sidecars, and says which connections they would let pass: here
// there is no such fence, so they are read as Kubernetes defines them.
func (w *world) showCompanions(ctx context.Context, out *output) (bool, error) {
	text, err := w.command(ctx, "translate", "-f", filepath.Join(w.dir, "yaml"), "--companions")
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(w.companionsFile(), []byte(text), 0o600); err != nil {
		return false, fmt.Errorf("keep the companions: %w", err)
	}
	var companions []networkingv1.NetworkPolicy
	var shown strings.Builder
	for _, document := range splitYAML([]byte(text)) {
		var np networkingv1.NetworkPolicy
		if err := yaml.UnmarshalStrict(document, &np); err != nil {
			return false, fmt.Errorf("read the companions: %w", err)
		}
		companions = append(companions, np)
		if np.Labels[labelPrefix+"policy"] != shownPolicy {
			continue
		}
		compact, err := compactYAML(document)
		if err != nil {
			return false, fmt.Errorf("print the companions: %w", err)
		}
		shown.WriteString("---\n" + compact)
	}
	out.head("Companion NetworkPolicies, the fence outside the pods, which knows connections only")
	out.companions(companions)
	out.text("\n  Those of " + shownPolicy + ", as pilot-lite translate --companions prints them all:")
	out.text(shown.String())
	out.text("\n  By all of them together:")
	return w.compareLayers(companions, out), nil
}

func (w *world) companionsFile() string { return filepath.Join(w.dir, "companions.yaml") }

// compareLayers compares what the companions let pass with the graph.
func (w *world) compareLayers(companions []networkingv1.NetworkPolicy, out *output) bool {
	needed := graph.Connections()
	open := map[string][]string{} // callees by caller
	wrong := 0
	pairs := w.pairs()
	for _, c := range pairs {
		passes := connects(companions, w.endpoint(c.From), w.endpoint(c.To), c.Port)
		if passes {
			open[c.From] = append(open[c.From], fmt.Sprintf("%s:%d", c.To, c.Port))
		}
		if passes != needed[c] {
			wrong++
			out.check(false, "%s to %s:%d: open is %t", c.From, c.To, c.Port, passes)
		}
	}
	for _, from := range w.callers() {
		if len(open[from]) > 0 {
			out.check(true, "%-15s may connect to %s", from, strings.Join(open[from], ", "))
		}
	}
	out.check(wrong == 0, "%d of %d pairs of caller and port are open or shut as the graph needs it", len(pairs)-wrong, len(pairs))
	return wrong == 0
}

// callers are all workloads and the outsider.
func (w *world) callers() []string {
	out := []string{outsider}
	for _, each := range w.workloads {
		out = append(out, each.name)
	}
	return out
}

// pairs are all connections that could be tried.
func (w *world) pairs() []graph.Connection {
	var out []graph.Connection
	for _, from := range w.callers() {
		for _, to := range w.workloads {
			for _, port := range to.ports() {
				if from != to.name {
					out = append(out, graph.Connection{From: from, To: to.name, Port: port})
				}
			}
		}
	}
	return out
}

// endpoint is a workload's, or that of somebody outside the cluster.
func (w *world) endpoint(name string) endpoint {
	each, err := w.named(name)
	if err != nil {
		return endpoint{}
	}
	return endpoint{labels: each.pod().Labels}
}

// endpoint is a pod of the example's namespace; without labels, somebody outside the cluster.
type endpoint struct{ labels map[string]string }

// connects says whether NetworkPolicies let a TCP connection pass: the caller's must let it out and the callee's must let it in.
func connects(policies []networkingv1.NetworkPolicy, from, to endpoint, port uint16) bool {
	return permits(policies, networkingv1.PolicyTypeEgress, from, to, port) && permits(policies, networkingv1.PolicyTypeIngress, to, from, port)
}

// permits says whether the policies that govern one side permit the other. A side that none of them selects is open.
func permits(policies []networkingv1.NetworkPolicy, direction networkingv1.PolicyType, governed, other endpoint, port uint16) bool {
	isolated := false
	for i := range policies {
		spec := &policies[i].Spec
		if governed.labels == nil || !selects(&spec.PodSelector, governed.labels) || !slices.Contains(spec.PolicyTypes, direction) {
			continue
		}
		isolated = true
		if direction == networkingv1.PolicyTypeIngress {
			for _, r := range spec.Ingress {
				if matchesPeer(r.From, other) && matchesPort(r.Ports, port) {
					return true
				}
			}
			continue
		}
		for _, r := range spec.Egress {
			if matchesPeer(r.To, other) && matchesPort(r.Ports, port) {
				return true
			}
		}
	}
	return !isolated
}

func matchesPeer(peers []networkingv1.NetworkPolicyPeer, other endpoint) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil || other.labels == nil {
			return false // addresses of pods are not what CIDRs mean, and bookinfo has none
		}
		if p.NamespaceSelector != nil && !selects(p.NamespaceSelector, map[string]string{corev1.LabelMetadataName: namespace}) {
			return false
		}
		return p.PodSelector == nil || selects(p.PodSelector, other.labels)
	})
}

func matchesPort(ports []networkingv1.NetworkPolicyPort, port uint16) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			return false
		}
		if p.Port == nil {
			return true
		}
		first, last := p.Port.IntVal, p.Port.IntVal
		if p.EndPort != nil {
			last = *p.EndPort
		}
		return first <= int32(port) && int32(port) <= last
	})
}

func selects(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(maps.Clone(set)))
}
