//go:build netns

package translate_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Captured mode needs network namespaces, a redirect and two programs (ip, nft), so these tests have a build tag: where it is given they run or
// fail, and never skip. The test runs itself again in a user and a network namespace of its own, which stands for the pod.
const insideVariable = "PILOT_LITE_TEST_INSIDE_NAMESPACE"

func TestCaptured(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		runInNamespace(t)
		return
	}
	callers := newPod(t)
	t.Run("open", func(t *testing.T) { testCapturedOpen(t, callers) })
	t.Run("governed", func(t *testing.T) { testCapturedGoverned(t, callers) })
}

func runInNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCaptured$", "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	t.Logf("inside:\n%s", out)
	if err != nil {
		t.Errorf("inside the namespace: %v", err)
	}
}

// Addresses of the pod and of its callers, on the two ends of one cable.
const (
	podIPv4, podIPv6 = "10.99.0.1", "fd99::1"
	friendIPv4       = "10.99.0.2"
	strangerIPv4     = "10.99.0.3"
	strangerIPv6     = "fd99::3"
)

// outside are callers in a network namespace of their own.
type outside struct{ friend, stranger, stranger6 caller }

// newPod makes this process's namespace a pod's: a redirect of everything that comes in to the sidecar, and callers beyond a cable.
func newPod(t *testing.T) outside {
	t.Helper()
	namespace := newNamespace(t)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), namespace)
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "caller0", "netns", path)
	run(t, "ip", "address", "add", podIPv4+"/24", "dev", "eth0")
	run(t, "ip", "-6", "address", "add", podIPv6+"/64", "dev", "eth0", "nodad")
	run(t, "ip", "link", "set", "eth0", "up")
	err := within(namespace, func() error {
		for _, line := range []string{
			"address add " + friendIPv4 + "/24 dev caller0", "address add " + strangerIPv4 + "/24 dev caller0",
			"-6 address add " + strangerIPv6 + "/64 dev caller0 nodad", "link set caller0 up",
		} {
			if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %w: %s", line, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, "nft", "table inet capture { chain in { type nat hook prerouting priority dstnat; iifname eth0 meta l4proto tcp redirect to :15006; }; }")
	dial := func(source string) caller {
		c := caller{address: source}
		c.dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			err = within(namespace, func() error { conn, err = c.dialer().DialContext(ctx, network, address); return err })
			return conn, err
		}
		return c
	}
	return outside{dial(friendIPv4), dial(strangerIPv4), dial(strangerIPv6)}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// newNamespace returns a new network namespace. The thread that made it is given up.
func newNamespace(t *testing.T) int {
	t.Helper()
	type made struct {
		fd  int
		err error
	}
	result := make(chan made)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- made{err: err}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		result <- made{fd, err}
	}()
	m := <-result
	if m.err != nil {
		t.Fatalf("make a network namespace: %v", m.err)
	}
	t.Cleanup(func() { _ = unix.Close(m.fd) })
	return m.fd
}

// within runs f on a thread in the namespace, and takes the thread back afterwards: Envoy ends when the thread that started it does. Sockets that f
// makes, and processes that it starts, belong to the namespace.
func within(namespace int, f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace: %w", err)
	}
	failed := f()
	// A thread that cannot go home stays locked, so that no other goroutine gets it.
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leave the network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return failed
}

// capturedCart is cart at the pod's addresses.
func capturedCart(change func(*model.Pod)) model.Pod {
	return cart(func(p *model.Pod) {
		p.Addresses = []netip.Addr{addr(podIPv4), addr(podIPv6)}
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
	for _, ip := range []string{podIPv4, podIPv6} {
		who := from.stranger
		if ip == podIPv6 {
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
			if got := who.talk(t, at(ip, port), "", 1, 5*time.Second); !got.closed {
				t.Errorf("port %d over %s: got %+v, want it closed", port, ip, got)
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
		Pods:     []model.Pod{capturedCart(nil), client("friend", friendIPv4), client("stranger", strangerIPv4)},
		Services: world(cart(nil)).Snapshot.Services,
		Policies: []model.Policy{policy("friends", model.Allow, model.Rule{Name: "all", Peers: friends()})},
	})
	p := startProxy(t, resourcesOf(t, new(translate.Translator), ix))
	url := "http://" + at(podIPv4, 8080).String() + "/"
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
			if got := from.stranger.talk(t, at(podIPv4, port), say, 1, 300*time.Millisecond); got.got != "" {
				t.Errorf("port %d: the stranger, saying %q, got %+v", port, say, got)
			}
		}
		if n := app.connections.Load(); n != 0 {
			t.Errorf("port %d: the stranger caused %d connections", port, n)
		}
		if got := from.friend.talk(t, at(podIPv4, port), "hello\n", len("x\n"), 5*time.Second); got.got == "" {
			t.Errorf("port %d: the friend got nothing", port)
		}
	}
}
