package prove_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A server that starts with a bad file serves nobody: a proxy that connects then has no listener, and gets one as soon as the file is repaired.
func TestShutBeforeTheFirstSnapshot(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": policy("cart", "ingresss: []")})
	s.serve()
	proxy := s.envoy("shop/cart")
	proxy.Eventually("the proxy asks for its listeners", func() error {
		if proxy.Stat("cluster_manager.cds.update_attempt") == 0 || proxy.Stat("control_plane.connected_state") == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	s.wantVerdicts("before the first snapshot", noSocket)
	s.eventually("readyz names what is wrong", func() error { // as soon as the file was read
		code, body, err := s.admin("/readyz")
		if err != nil {
			return err
		}
		if code != http.StatusServiceUnavailable {
			t.Errorf("readyz: %d", code)
		}
		for _, want := range []string{"a.yaml", "shop/cart", "ingresss"} {
			if !strings.Contains(body, want) {
				return fmt.Errorf("readyz does not name %q: %s", want, body)
			}
		}
		return nil
	})
	if n := proxy.Stat("listener_manager.lds.update_success"); n != 0 {
		t.Errorf("%d listener updates reached the proxy", n)
	}
	s.replace("a.yaml", onlyFront())
	s.eventuallyVerdicts("the file is repaired", frontOnly)
	if code, _, _ := s.admin("/readyz"); code != http.StatusOK {
		t.Errorf("readyz after the repair: %d", code)
	}
}

// A proxy whose pod nobody knows is shut, and is served when the pod appears; when the pod goes, it refuses everything.
func TestShutWhileNobodyKnowsThePod(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.replace("shop.yaml", strings.Join([]string{caller("front", front), caller("stranger", stranger), service}, "---\n"))
	s.serve()
	proxy := s.envoy("shop/cart")
	proxy.Eventually("status shows the stranger", func() error {
		if text, _ := s.status(); !strings.Contains(text, "no pod of that name is known") {
			return fmt.Errorf("status: %s", text)
		}
		return nil
	})
	s.wantVerdicts("while nobody knows the pod", noSocket)
	s.replace("shop.yaml", s.everything)
	s.eventuallyVerdicts("the pod appears", frontOnly)
	s.replace("shop.yaml", strings.Join([]string{caller("front", front), caller("stranger", stranger), service}, "---\n"))
	s.eventuallyVerdicts("the pod goes", nothing)
}

// A workload that no policy selects is open, on every port that it declares.
func TestOpenWithoutPolicy(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": strings.ReplaceAll(onlyFront(), "{app: cart}", "{app: another}")})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("no policy selects it", everyone)
}

// The application sees the Host that the caller sent: case, port and all. A policy compares the same host without them.
func TestHostIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": policy("cart", "ingress: [{http: [{hosts: [cart.shop]}]}]")})
	s.serve()
	s.envoy("shop/cart")
	const host = "CART.shop:8080"
	s.eventually("the host is allowed", func() error {
		if a := s.send(stranger, http.MethodGet, "/", host); a.status != http.StatusOK || a.host != host {
			return fmt.Errorf("got %+v, want the host %q", a, host)
		}
		return nil
	})
	if a := s.send(stranger, http.MethodGet, "/", "other.shop"); a.status != http.StatusForbidden {
		t.Errorf("another host: %+v", a)
	}
}

// A proxy that asks for the state of the world is served as one that asks for changes.
func TestStateOfTheWorld(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	proxy := s.envoy("shop/cart", "--state-of-the-world")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	counters := listenerStats(proxy)
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.eventuallyVerdicts("the edit holds", nothing)
	s.remove("a.yaml")
	s.eventuallyVerdicts("without a policy it is open", everyone)
	if got := listenerStats(proxy); got != counters {
		t.Errorf("counters: %s\nbefore:   %s", got, counters)
	}
	s.eventuallyEnforced("shop/cart")
}
