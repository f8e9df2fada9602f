package prove_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// What a proxy refuses is shown with its own text, by an exit code and in the log; the configuration that it had stays in force, and it takes the
// next one.
func TestRefusalIsShown(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	s.eventuallyEnforced("shop/cart")

	taken, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.79.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	s.replace("shop.yaml", strings.Replace(s.everything, s.cart, s.pod(netip.MustParseAddrPort(taken.Addr().String())), 1))
	s.eventually("the refusal is shown", func() error {
		text, code := s.status()
		for line := range strings.Lines(text) {
			if code == 1 && strings.HasPrefix(line, "shop/cart ") && strings.Contains(line, "inbound/8080") && strings.Contains(line, " refused ") && strings.Contains(line, "cannot bind") {
				return nil
			}
		}
		return fmt.Errorf("exit code %d: %s", code, text)
	})
	if !strings.Contains(s.log(), "cannot bind") {
		t.Error("the log does not have the proxy's text")
	}
	s.wantVerdicts("after the refusal", frontOnly)
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.eventuallyVerdicts("an edit of a policy still gets through", nothing)
	s.replace("shop.yaml", s.everything)
	s.eventuallyEnforced("shop/cart")
	s.wantVerdicts("after the repair", nothing)
}
