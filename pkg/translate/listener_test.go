package translate_test

import (
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

func listenerOf(t *testing.T, callee *model.Pod) *listenerv3.Listener {
	t.Helper()
	for _, r := range resourcesOf(t, new(translate.Translator), world(callee)) {
		if l, ok := r.Message.(*listenerv3.Listener); ok {
			return l
		}
	}
	t.Fatal("no listener")
	return nil
}

// In captured mode every one of the sidecar's own ports is closed, also where a container claims one; every other chain begins with its slot.
func TestReservedPortsAreClosed(t *testing.T) {
	t.Parallel()
	l := listenerOf(t, cart(func(p *model.Pod) {
		p.Ports = append(p.Ports, model.ContainerPort{Number: 15020, Protocol: model.TCP})
		p.Proxy.ServerFirst = []uint16{15030}
	}))
	closed := map[uint32]int{}
	for _, fc := range append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain()) {
		port := fc.GetFilterChainMatch().GetDestinationPort().GetValue()
		switch reserved := port >= 15000 && port <= 15099; {
		case reserved && len(fc.GetFilters()) == 0:
			closed[port]++
		case reserved:
			t.Errorf("chain %s leads somewhere", fc.GetName())
		case len(fc.GetFilters()) > 1 && fc.GetFilters()[0].GetName() != rbac.TCPSlot:
			t.Errorf("chain %s begins with %s", fc.GetName(), fc.GetFilters()[0].GetName())
		}
	}
	for port := uint32(15000); port <= 15099; port++ {
		if closed[port] != 1 {
			t.Errorf("port %d has %d chains that close it", port, closed[port])
		}
	}
}

// A listener takes IPv6 where the pods have it, and a port that the capture leaves alone has no chain.
func TestCapturedListenerFollowsThePods(t *testing.T) {
	t.Parallel()
	if l := listenerOf(t, cart(nil)); l.GetAdditionalAddresses() != nil {
		t.Errorf("an IPv4 pod's proxy also listens on %v", l.GetAdditionalAddresses())
	}
	l := listenerOf(t, cart(func(p *model.Pod) {
		p.Addresses = append(p.Addresses, addr("fd00::1"))
		p.Proxy.ExcludedInbound = []uint16{8080}
	}))
	if got := l.GetAdditionalAddresses()[0].GetAddress().GetSocketAddress(); got.GetAddress() != "::" || got.GetPortValue() != 15006 {
		t.Errorf("got %v", got)
	}
	for _, fc := range l.GetFilterChains() {
		if fc.GetFilterChainMatch().GetDestinationPort().GetValue() == 8080 {
			t.Errorf("chain %s stands for a port that never comes", fc.GetName())
		}
	}
}

// The slots of a workload that becomes governed arrive so that no caller is greeted before it is refused, and the other way round: connect mode
// before RBAC when it closes, after RBAC when it opens.
func TestSlotOrder(t *testing.T) {
	t.Parallel()
	names := func(policies ...*model.Policy) (out []string) {
		for _, r := range resourcesOf(t, new(translate.Translator), world(cart(nil), policies...)) {
			if slot, ok := r.Message.(interface{ GetName() string }); ok && r.Policies != nil {
				out = append(out, slot.GetName())
			}
		}
		return out
	}
	if got, want := names(), []string{rbac.HTTPSlot, rbac.TCPSlot, translate.ConnectSlot}; !slices.Equal(got, want) {
		t.Errorf("free: got %v, want %v", got, want)
	}
	if got, want := names(policy("shut", model.Allow)), []string{translate.ConnectSlot, rbac.HTTPSlot, rbac.TCPSlot}; !slices.Equal(got, want) {
		t.Errorf("governed: got %v, want %v", got, want)
	}
	tried := policy("tried", model.Allow)
	tried.DryRun = true
	if got := names(tried); got[2] != translate.ConnectSlot {
		t.Errorf("tried out: got %v: a DryRun policy must not change when connections are made", got)
	}
}
