package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// labelPrefix is what pilot-lite's own labels begin with.
const labelPrefix = "policy.pilot-lite.io/"

// companions prints a line for each NetworkPolicy.
func (o *output) companions(all []networkingv1.NetworkPolicy) {
	t := tabwriter.NewWriter(o.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  NAME\tSELECTS\tLETS PASS")
	for i := range all {
		spec := &all[i].Spec
		in, out := make([]string, 0, len(spec.Ingress)), make([]string, 0, len(spec.Egress))
		for _, r := range spec.Ingress {
			in = append(in, shortPeers(r.From)+shortPorts(r.Ports))
		}
		for _, r := range spec.Egress {
			out = append(out, shortPeers(r.To)+shortPorts(r.Ports))
		}
		var lets []string
		if slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			lets = append(lets, "in "+shortRules(in))
		}
		if slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			lets = append(lets, "out "+shortRules(out))
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", all[i].Name, shortSelector(&spec.PodSelector), strings.Join(lets, "; "))
	}
	_ = t.Flush()
}

func shortRules(rules []string) string {
	if len(rules) == 0 {
		return "nothing"
	}
	return strings.Join(rules, ", ")
}

func shortPeers(peers []networkingv1.NetworkPolicyPeer) string {
	if len(peers) == 0 {
		return "anybody"
	}
	out := make([]string, 0, len(peers))
	for _, p := range peers {
		if p.IPBlock != nil {
			out = append(out, p.IPBlock.CIDR)
			continue
		}
		selector := &metav1.LabelSelector{}
		if p.PodSelector != nil {
			selector = p.PodSelector
		}
		pods := shortSelector(selector)
		if p.NamespaceSelector != nil {
			pods = p.NamespaceSelector.MatchLabels[corev1.LabelMetadataName] + "/" + pods
		}
		out = append(out, pods)
	}
	return strings.Join(out, " or ")
}

func shortPorts(ports []networkingv1.NetworkPolicyPort) string {
	out := make([]string, 0, len(ports))
	for _, p := range ports {
		port := p.Port.String()
		if p.EndPort != nil {
			port += fmt.Sprintf("-%d", *p.EndPort)
		}
		if p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			port += "/" + string(*p.Protocol)
		}
		out = append(out, port)
	}
	if len(out) == 0 {
		return ""
	}
	return ":" + strings.Join(out, "+")
}

func shortSelector(s *metav1.LabelSelector) string {
	out := make([]string, 0, len(s.MatchLabels)+len(s.MatchExpressions))
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		out = append(out, s.MatchLabels[key])
	}
	for _, e := range s.MatchExpressions {
		out = append(out, fmt.Sprintf("%s %s (%s)", strings.TrimPrefix(e.Key, labelPrefix), strings.ToLower(string(e.Operator)), strings.Join(e.Values, ", ")))
	}
	if len(out) == 0 {
		return "every pod"
	}
	return strings.Join(out, " + ")
}
