package v1alpha1_test

import (
	"encoding/json"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// The spec of a NetworkPolicy is the spec of an L7Policy: every field of it is known, and arrives.
func TestNetworkPolicySpecIsPolicySpec(t *testing.T) {
	t.Parallel()
	protocol, port, name, end := corev1.ProtocolUDP, intstr.FromInt32(53), intstr.FromString("dns"), int32(54)
	selector := metav1.LabelSelector{
		MatchLabels:      map[string]string{"app": "a"},
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"b", ""}}},
	}
	peers := []networkingv1.NetworkPolicyPeer{
		{PodSelector: &selector, NamespaceSelector: &selector}, {IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
	}
	ports := []networkingv1.NetworkPolicyPort{{Protocol: &protocol, Port: &port, EndPort: &end}, {Port: &name}}
	written, err := json.Marshal(networkingv1.NetworkPolicySpec{
		PodSelector: selector, PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}},
		Egress:  []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var spec v1alpha1.L7PolicySpec
	if err := yaml.UnmarshalStrict(written, &spec); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(written, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("written:\n%s\nread:\n%s", written, again)
	}
}
