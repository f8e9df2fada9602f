package rbac_test

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Callers over IPv6 are known by their address, by block and by exception; blocks of IPv4-mapped addresses mean the IPv4 caller.
func TestCallersOverIPv6(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name           string
		listen, source string
		block, except  string
		want           bool
	}{
		{"address", "::1", "::1", "::1/128", "", true},
		{"block", "::1", "::1", "::/64", "", true},
		{"exception", "::1", "::1", "::/64", "::1/128", false},
		{"other block", "::1", "::1", "fd00::/8", "", false},
		{"every IPv4 address is not IPv6", "::1", "::1", "0.0.0.0/0", "", false},
		{"every IPv4 address", "127.0.0.1", "127.0.1.1", "0.0.0.0/0", "", true},
		{"mapped block", "127.0.0.1", "127.0.1.1", "::ffff:127.0.0.0/104", "", true},
		{"mapped exception", "127.0.0.1", "127.0.1.1", "127.0.0.0/8", "::ffff:127.0.1.0/120", false},
	}
	snapshot := &model.Snapshot{}
	var callees []*callee
	for i, c := range cases {
		port := firstPort + uint16(i)
		f := newFixture(t, snapshot, c.name, port)
		a := netip.MustParseAddr(c.listen)
		listen := netip.AddrPortFrom(a, uint16(porttest.Free(t, a.String())))
		snapshot.Pods[i].Proxy.Bound[0].Listen = listen
		callees = append(callees, &callee{app: f.app, listen: map[uint16]netip.AddrPort{port: listen}})
		block := &model.IPBlock{CIDR: netip.MustParsePrefix(c.block)}
		if c.except != "" {
			block.Except = []netip.Prefix{netip.MustParsePrefix(c.except)}
		}
		snapshot.Policies = append(snapshot.Policies, &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: f.namespace, Name: "p"}, Action: model.Allow, IsolatesIngress: true, Accepted: true,
			Selector: labels.SelectorFromSet(labels.Set{"app": "callee"}), Ingress: []model.Rule{{Name: "r", Peers: []model.Peer{{Block: block}}}},
		})
	}
	startProxy(t, model.NewIndex(snapshot))
	for i, c := range cases {
		got, err := callees[i].ask(t, model.Request{
			Source: netip.MustParseAddr(c.source), Port: firstPort + uint16(i), HTTP: &model.HTTPRequest{Method: "GET", Host: "a", Path: "/"},
		}, false)
		if err != nil || got != c.want {
			t.Errorf("%s: got %t and %v, want %t", c.name, got, err, c.want)
		}
	}
}
