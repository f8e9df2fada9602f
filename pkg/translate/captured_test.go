//go:build netns

package translate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/netnstest"
	"github.com/pilot-lite/pilot-lite/pkg/capture"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Captured mode needs network namespaces and a redirect, so these tests have a build tag: where it is given they run or fail, and never skip.
func TestCaptured(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	callers := outside{from(pod, netnstest.FriendIPv4), from(pod, netnstest.StrangerIPv4), from(pod, netnstest.StrangerIPv6)}
	t.Run("open", func(t *testing.T) { testCapturedOpen(t, callers) })
	t.Run("governed", func(t *testing.T) { testCapturedGoverned(t, callers) })
}

// outside are callers in a network namespace of their own.
type outside struct{ friend, stranger, stranger6 caller }

func from(pod *netnstest.Pod, source string) caller {
	return caller{address: source, dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return pod.Dial(ctx, source, network, address)
	}}
}

// capturedCart is cart at the pod's addresses.
func capturedCart(change func(*model.Pod)) *model.Pod {
	return cart(func(p *model.Pod) {
		p.Addresses = []netip.Addr{addr(netnstest.PodIPv4), addr(netnstest.PodIPv6)}
		if change != nil {
			change(p)
		}
	})
}

func at(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(ip), port) }

// A workload that no policy governs answers on every port as before, declared or not, over IPv4 and IPv6, also where the application speaks first.
// The sidecar's own ports are refused.
func testCapturedOpen(t *testing.T, from outside) {
	t.Helper()
	web := startHTTPApp(t, ":8080")
	startTCPApp(t, ":5432", "welcome\n")
	startTCPApp(t, ":7777", "undeclared\n")
	admin := startTCPApp(t, ":15000", "")
	p := startProxy(t, resourcesOf(t, new(translate.Translator), world(capturedCart(nil))))
	for _, ip := range []string{netnstest.PodIPv4, netnstest.PodIPv6} {
		who := from.stranger
		if ip == netnstest.PodIPv6 {
			who = from.stranger6
		}
		p.Eventually("HTTP is open", func() error {
			resp, _ := who.send(t, http.MethodGet, "http://"+at(ip, 8080).String()+"/x?q=1", func(r *http.Request) { r.Host = "Cart.Shop:80" })
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("got %s", resp.Status)
			}
			return nil
		})
		if last := web.last.Load(); last.Host != "Cart.Shop:80" || last.Target != "/x?q=1" {
			t.Errorf("the application saw host %q and target %q", last.Host, last.Target)
		}
		for port, want := range map[uint16]string{5432: "welcome\n", 7777: "undeclared\n"} {
			if got := who.talk(t, at(ip, port), "", len(want), 5*time.Second); got.got != want {
				t.Errorf("port %d over %s: got %+v", port, ip, got)
			}
		}
		for _, port := range []uint16{15000, 15006, 15099} {
			if conn, err := who.connect(t.Context(), "tcp", at(ip, port).String()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("port %d over %s: got %v, %v, want it refused", port, ip, conn, err)
			}
		}
	}
	if n := admin.connections.Load(); n != 0 {
		t.Errorf("%d connections to a port of the sidecar's own", n)
	}
}

// Policies hold by the port and the address that the caller has, on declared and on other ports.
func testCapturedGoverned(t *testing.T, from outside) {
	t.Helper()
	web := startHTTPApp(t, ":8080")
	db := startTCPApp(t, ":5432", "welcome\n")
	other := startTCPApp(t, ":7777", "undeclared\n")
	ix := model.NewIndex(&model.Snapshot{
		Pods:     []*model.Pod{capturedCart(nil), client("friend", netnstest.FriendIPv4), client("stranger", netnstest.StrangerIPv4)},
		Services: world(cart(nil)).Snapshot.Services,
		Policies: []*model.Policy{policy("friends", model.Allow, model.Rule{Name: "all", Peers: friends()})},
	})
	p := startProxy(t, resourcesOf(t, new(translate.Translator), ix))
	url := "http://" + at(netnstest.PodIPv4, 8080).String() + "/"
	p.Eventually("the friend is let in", func() error {
		if resp, _ := from.friend.send(t, http.MethodGet, url, nil); resp.StatusCode != http.StatusOK {
			return fmt.Errorf("got %s", resp.Status)
		}
		return nil
	})
	requests := web.count.Load()
	if resp, _ := from.stranger.send(t, http.MethodGet, url, nil); resp.StatusCode != http.StatusForbidden || web.count.Load() != requests {
		t.Errorf("the stranger got %s", resp.Status)
	}
	for port, app := range map[uint16]*tcpApp{5432: db, 7777: other} {
		for _, say := range []string{"", "hello\n"} {
			if got := from.stranger.talk(t, at(netnstest.PodIPv4, port), say, 1, 300*time.Millisecond); got.got != "" {
				t.Errorf("port %d: the stranger, saying %q, got %+v", port, say, got)
			}
		}
		if n := app.connections.Load(); n != 0 {
			t.Errorf("port %d: the stranger caused %d connections", port, n)
		}
		if got := from.friend.talk(t, at(netnstest.PodIPv4, port), "hello\n", len("x\n"), 5*time.Second); got.got == "" {
			t.Errorf("port %d: the friend got nothing", port)
		}
	}
}
