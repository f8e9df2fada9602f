package kernel_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Whatever a NetworkPolicy says, it is read without a panic, and the ways to ask about it give one answer.
func FuzzNetworkPolicy(f *testing.F) {
	for _, seed := range []string{
		"podSelector: {}",
		"podSelector: {matchLabels: {app: cart}}\ningress: [{from: [{podSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.4/32]}}], ports: [{port: web}, {port: 80, endPort: 90}]}]",
		"podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [front]}]}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {}, podSelector: {}}], ports: [{protocol: UDP}]}]",
		"ingress: [{from: [{}], ports: [{endPort: 3}]}]",
	} {
		f.Add(seed, uint16(80))
	}
	f.Fuzz(func(t *testing.T, text string, port uint16) {
		np := &networkingv1.NetworkPolicy{}
		np.Namespace, np.Name = "shop", "np"
		if port == 0 || yaml.Unmarshal([]byte(text), &np.Spec) != nil {
			t.Skip()
		}
		set, _ := kernel.New([]*networkingv1.NetworkPolicy{np})
		ix := cluster()
		for _, from := range []string{"shop/cart-1", "shop/front", "data/front", "192.0.2.1", ""} {
			for _, to := range []string{"shop/cart-1", "shop/cart-2", "data/front", "10.9.9.9"} {
				a, b := find(t, ix, from), find(t, ix, to)
				for _, protocol := range []model.Protocol{model.TCP, model.UDP} {
					want := set.Allows(a, b, port, protocol)
					if got := set.Decide(a, b, port, protocol); got.Allowed() != want {
						t.Errorf("%s to %s, %s %d: Allows says %t, Decide %+v", from, to, protocol, port, want, got)
					}
					if got := set.Ports(a, b); got.Contains(port, protocol) != want {
						t.Errorf("%s to %s, %s %d: Allows says %t, Ports %s", from, to, protocol, port, want, got)
					}
				}
			}
		}
	})
}
