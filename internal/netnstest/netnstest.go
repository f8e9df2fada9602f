//go:build linux

// Package netnstest gives tests a network namespace that stands for a pod, with callers in another one beyond a cable. Input: a test. Output: a Pod,
// whose callers dial from addresses of their own. Entry points: Inside, then NewPod. It needs the program ip, and a kernel that lets this user make
// user namespaces.
package netnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Addresses of the pod and of its callers, on the two ends of one cable.
const (
	PodIPv4      = "10.99.0.1"
	PodIPv6      = "fd99::1"
	FriendIPv4   = "10.99.0.2"
	FriendIPv6   = "fd99::2"
	StrangerIPv4 = "10.99.0.3"
	StrangerIPv6 = "fd99::3"
)

const insideVariable = "PILOT_LITE_TEST_INSIDE_NAMESPACE"

// Inside runs the test again, in a user and a network namespace of its own, and there returns true. The caller returns where it is false.
func Inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=120s") //nolint:gosec // this test itself
	cmd.Env = append(os.Environ(), insideVariable+"="+t.Name())
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
	return false
}

// Pod is this process's network namespace, with the callers' beyond its interface eth0.
type Pod struct {
	t         testing.TB
	namespace int
}

// NewPod makes this process's namespace a pod's. Its callers' interface is caller0.
func NewPod(t testing.TB) *Pod {
	t.Helper()
	p := &Pod{t: t, namespace: newNamespace(t)}
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.namespace)
	Run(t, "ip link set lo up")
	Run(t, "ip link add eth0 type veth peer name caller0 netns "+path)
	Run(t, "ip address add "+PodIPv4+"/24 dev eth0")
	Run(t, "ip -6 address add "+PodIPv6+"/64 dev eth0 nodad")
	Run(t, "ip link set eth0 up")
	for _, a := range []string{FriendIPv4, StrangerIPv4} {
		p.RunOutside("ip address add " + a + "/24 dev caller0")
	}
	for _, a := range []string{FriendIPv6, StrangerIPv6} {
		p.RunOutside("ip -6 address add " + a + "/64 dev caller0 nodad")
	}
	p.RunOutside("ip link set caller0 up")
	return p
}

// Run runs a command, without a shell, in this process's namespace.
func Run(t testing.TB, line string) {
	t.Helper()
	if err := run(line); err != nil {
		t.Fatal(err)
	}
}

// RunOutside runs a command in the callers' namespace.
func (p *Pod) RunOutside(line string) {
	p.t.Helper()
	if err := p.Outside(func() error { return run(line) }); err != nil {
		p.t.Fatal(err)
	}
}

func run(line string) error {
	fields := strings.Fields(line)
	if out, err := exec.Command(fields[0], fields[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// Dial connects from one of the callers' addresses.
func (p *Pod) Dial(ctx context.Context, source, network, address string) (conn net.Conn, err error) {
	d := net.Dialer{}
	switch ip := net.ParseIP(source); network {
	case "udp":
		d.LocalAddr = &net.UDPAddr{IP: ip}
	default:
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	failed := p.Outside(func() error { conn, err = d.DialContext(ctx, network, address); return nil })
	return conn, errors.Join(err, failed)
}

// Outside runs f on a thread in the callers' namespace, and takes the thread back afterwards: Envoy ends when the thread that started it does.
// Sockets that f makes, and processes that it starts, belong to that namespace.
func (p *Pod) Outside(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the own network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(p.namespace, unix.CLONE_NEWNET); err != nil {
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

// newNamespace returns a new network namespace. The thread that made it is given up.
func newNamespace(t testing.TB) int {
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
