package netpoltest

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// NetworkPolicies draws objects that somebody else made, of everything that the API server takes: in the namespaces, on the labels and ports that World gives its pods.
func NetworkPolicies(t *rapid.T, most int) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for i := range rapid.IntRange(0, most).Draw(t, "networkPolicies") {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: rapid.SampledFrom([]string{"shop", "shop", "web"}).Draw(t, "namespace"), Name: fmt.Sprintf("np%d", i)}}
		np.Spec.PodSelector = *drawPodSelector(t)
		np.Spec.PolicyTypes = rapid.SampledFrom([][]networkingv1.PolicyType{nil, {"Ingress"}, {"Egress"}, {"Ingress", "Egress"}}).Draw(t, "policyTypes")
		for range rapid.IntRange(0, 2).Draw(t, "ingress") {
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: drawAPIPeers(t), Ports: drawAPIPorts(t)})
		}
		for range rapid.IntRange(0, 2).Draw(t, "egress") {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: drawAPIPeers(t), Ports: drawAPIPorts(t)})
		}
		out = append(out, np)
	}
	return out
}

func requirement(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
}

func drawPodSelector(t *rapid.T) *metav1.LabelSelector {
	return rapid.SampledFrom([]*metav1.LabelSelector{
		{},
		{MatchLabels: map[string]string{"app": "a"}},
		{MatchLabels: map[string]string{"app": "b"}},
		{MatchLabels: map[string]string{"app": "a", "tier": "1"}},
		{MatchLabels: map[string]string{"app": "nobody"}},
		requirement("app", metav1.LabelSelectorOpIn, "a", "b"),
		requirement("app", metav1.LabelSelectorOpNotIn, "a"),
		requirement("tier", metav1.LabelSelectorOpExists),
		requirement("tier", metav1.LabelSelectorOpDoesNotExist),
	}).Draw(t, "podSelector")
}

func drawAPIPeers(t *rapid.T) []networkingv1.NetworkPolicyPeer {
	return rapid.SliceOfN(rapid.Custom(drawAPIPeer), 0, 2).Draw(t, "peers")
}

func drawAPIPeer(t *rapid.T) networkingv1.NetworkPolicyPeer {
	namespaces := rapid.SampledFrom([]*metav1.LabelSelector{
		{},
		{MatchLabels: map[string]string{"team": "a"}},
		{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "web"}},
		requirement("kubernetes.io/metadata.name", metav1.LabelSelectorOpNotIn, "web"),
		requirement("team", metav1.LabelSelectorOpDoesNotExist),
	}).Draw(t, "namespaceSelector")
	switch rapid.IntRange(0, 3).Draw(t, "peer") {
	case 0:
		return networkingv1.NetworkPolicyPeer{PodSelector: drawPodSelector(t)}
	case 1:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaces}
	case 2:
		return networkingv1.NetworkPolicyPeer{NamespaceSelector: namespaces, PodSelector: drawPodSelector(t)}
	}
	return networkingv1.NetworkPolicyPeer{IPBlock: rapid.SampledFrom([]*networkingv1.IPBlock{
		{CIDR: "203.0.113.0/24"},
		{CIDR: "203.0.113.0/24", Except: []string{"203.0.113.192/26", "203.0.113.8/29"}},
		{CIDR: "0.0.0.0/0"},
		{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8"}},
		{CIDR: "10.244.0.0/16"},
		{CIDR: "10.244.0.2/31"},
		{CIDR: "2001:db8::/32"},
		{CIDR: "2001:db8::/32", Except: []string{"2001:db8::1/128"}},
	}).Draw(t, "ipBlock")}
}

func drawAPIPorts(t *rapid.T) []networkingv1.NetworkPolicyPort {
	return rapid.SliceOfN(rapid.Custom(drawAPIPort), 0, 2).Draw(t, "ports")
}

func drawAPIPort(t *rapid.T) networkingv1.NetworkPolicyPort {
	p := networkingv1.NetworkPolicyPort{}
	if protocol := rapid.SampledFrom([]corev1.Protocol{"", corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}).Draw(t, "protocol"); protocol != "" {
		p.Protocol = &protocol
	}
	if port := rapid.SampledFrom([]intstr.IntOrString{
		{},
		intstr.FromInt32(80),
		intstr.FromInt32(8081),
		intstr.FromInt32(14990),
		intstr.FromString("web"),
		intstr.FromString("none"),
	}).Draw(t, "number"); port != (intstr.IntOrString{}) {
		p.Port = &port
		if end := rapid.SampledFrom([]int32{0, 0, port.IntVal, port.IntVal + 1, 15050, 65535}).Draw(t, "endPort"); end != 0 && port.StrVal == "" {
			p.EndPort = &end
		}
	}
	return p
}
