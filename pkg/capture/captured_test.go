//go:build netns

package capture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/internal/netnstest"
	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/capture"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// The ports of the pod under test. Of the first two nothing but the sidecar may reach the application; the third is excluded from capture.
const webPort, otherPort, excludedPort = 8080, 7777, 9090

// app counts what reaches it, by whatever way.
type app struct{ web, other, excluded atomic.Int64 }

func startApp(t *testing.T) *app {
	t.Helper()
	a := new(app)
	for port, count := range map[int]*atomic.Int64{webPort: &a.web, excludedPort: &a.excluded} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { count.Add(1) }))
		_ = server.Listener.Close()
		server.Listener = listen(t, port)
		server.Start()
		t.Cleanup(server.Close)
	}
	echo := listen(t, otherPort)
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			a.other.Add(1)
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return a
}

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// friendsOnly is what the sidecar is given: one caller may do everything, and read its metrics; it is tried out whether another may.
func friendsOnly() []proto.Message {
	app := func(name string) map[string]string { return map[string]string{"app": name} }
	pod := func(name string, addresses ...string) *model.Pod {
		p := model.Pod{Namespace: "shop", Name: name, Labels: app(name), Owner: name}
		for _, a := range addresses {
			p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
		}
		return &p
	}
	cart := pod("cart-1", netnstest.PodIPv4, netnstest.PodIPv6)
	cart.Ports = []model.ContainerPort{{Number: webPort, Protocol: model.TCP}}
	cart.Proxy.Injected = true
	allow := func(caller string, dryRun bool) *model.Policy {
		return &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: caller + "s", UID: caller, Generation: 1}, Action: model.Allow, IsolatesIngress: true, Accepted: true,
			DryRun: dryRun, Selector: labels.SelectorFromSet(cart.Labels),
			Ingress: []model.Rule{{Name: "all", Peers: []model.Peer{{Pods: labels.SelectorFromSet(app(caller))}}}},
		}
	}
	ix := model.NewIndex(&model.Snapshot{
		Mesh: model.Mesh{
			Metrics: []model.Peer{{Namespaces: labels.Everything(), Pods: labels.SelectorFromSet(app("friend"))}}, MetricsPorts: []uint16{model.MetricsPort},
		},
		Pods: []*model.Pod{cart, pod("friend", netnstest.FriendIPv4, netnstest.FriendIPv6), pod("stranger", netnstest.StrangerIPv4, netnstest.StrangerIPv6)},
		Services: []model.Service{{
			Namespace: "shop", Name: "cart", Selector: cart.Labels, Ports: []model.ServicePort{{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: webPort}},
		}},
		Policies: []*model.Policy{allow("friend", false), allow("stranger", true)},
	})
	var out []proto.Message
	for _, w := range translate.Translate(ix).Workloads {
		if w.Workload == ix.WorkloadOf("shop", "cart-1") {
			for _, r := range w.Resources {
				out = append(out, r.Message)
			}
		}
	}
	return out
}

// caller is a source address and what it finds at the pod's address of the same family.
type caller struct {
	pod          *netnstest.Pod
	source, dest string
}

func (c caller) dial(t *testing.T, network string, port int) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.pod.Dial(ctx, c.source, network, net.JoinHostPort(c.dest, fmt.Sprint(port)))
}

// get is the status code of a request.
func (c caller) get(t *testing.T, port int, path string) (int, error) {
	t.Helper()
	code, _, err := c.read(t, port, path)
	return code, err
}

// read is the status code of a request, and what came with it.
func (c caller) read(t *testing.T, port int, path string) (int, string, error) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return c.dial(t, "tcp", port) },
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cart.shop"+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// echo is what comes back from a TCP port; the error of a connection that is refused or reset.
func (c caller) echo(t *testing.T, port int) (string, error) {
	t.Helper()
	conn, err := c.dial(t, "tcp", port)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return "", err
	}
	buffer := make([]byte, len("hello"))
	n, err := io.ReadFull(conn, buffer)
	return string(buffer[:n]), err
}

func (c caller) refused(t *testing.T, port int) {
	t.Helper()
	conn, err := c.dial(t, "tcp", port)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s, port %d: got %v, %v, want the connection refused", c.dest, port, conn, err)
	}
}

// families are the friend and the stranger over IPv4 and over IPv6: everything holds in both.
func families(pod *netnstest.Pod, test func(friend, stranger caller)) {
	test(caller{pod, netnstest.FriendIPv4, netnstest.PodIPv4}, caller{pod, netnstest.StrangerIPv4, netnstest.PodIPv4})
	test(caller{pod, netnstest.FriendIPv6, netnstest.PodIPv6}, caller{pod, netnstest.StrangerIPv6, netnstest.PodIPv6})
}

// What goes through the sidecar, and what goes around it: nothing that is TCP and comes from outside, but to excluded ports.
func TestCapturedPod(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	app := startApp(t)
	if err := capture.Apply(capture.Config{ExcludedInbound: []uint16{excludedPort}}); err != nil {
		t.Fatal(err)
	}
	families(pod, func(friend, _ caller) { // before the sidecar is up
		for _, port := range []int{webPort, otherPort} {
			friend.refused(t, port)
		}
	})
	control := sidecartest.NewControl(t)
	control.Give(friendsOnly()...)
	sidecar := sidecartest.Start(t, control, netnstest.PodIPv4, bootstrap.Probe{Name: "web/liveness", Kind: bootstrap.ProbeTCP, Port: webPort})
	sidecar.Becomes(bootstrap.ReadyPath, http.StatusOK)
	testThrough(t, pod, app)
	testAround(t, pod, app, sidecar)
	testMetrics(t, pod, sidecar)

	// The sidecar is killed: the rules stay, so nobody gets past where it was.
	web, other := app.web.Load(), app.other.Load()
	sidecar.Stop()
	families(pod, func(friend, _ caller) {
		for _, port := range []int{webPort, otherPort, int(bootstrap.HealthPort), int(bootstrap.MetricsPort)} {
			friend.refused(t, port)
		}
	})
	if app.web.Load() != web || app.other.Load() != other {
		t.Error("the application was reached without its sidecar")
	}
}

func testThrough(t *testing.T, pod *netnstest.Pod, app *app) {
	t.Helper()
	families(pod, func(friend, stranger caller) {
		if code, err := friend.get(t, webPort, "/"); code != http.StatusOK {
			t.Errorf("%s: the friend got %d, %v", friend.dest, code, err)
		}
		if got, err := friend.echo(t, otherPort); got != "hello" {
			t.Errorf("%s: the friend heard %q, %v", friend.dest, got, err)
		}
		web, other := app.web.Load(), app.other.Load()
		if code, err := stranger.get(t, webPort, "/"); code != http.StatusForbidden {
			t.Errorf("%s: the stranger got %d, %v", stranger.dest, code, err)
		}
		if got, err := stranger.echo(t, otherPort); got != "" || err == nil {
			t.Errorf("%s: the stranger heard %q, %v", stranger.dest, got, err)
		}
		if app.web.Load() != web || app.other.Load() != other {
			t.Errorf("%s: the stranger reached the application", stranger.dest)
		}
	})
}

func testAround(t *testing.T, pod *netnstest.Pod, app *app, sidecar *sidecartest.Pod) {
	t.Helper()
	// Something in the pod listens on a port of the sidecar's range: it is nobody's either.
	reserved := listen(t, 15000)
	go func() {
		if conn, err := reserved.Accept(); err == nil {
			t.Errorf("port 15000 was reached from %v", conn.RemoteAddr())
		}
	}()
	web, other := app.web.Load(), app.other.Load()
	families(pod, func(friend, stranger caller) {
		for _, port := range []int{15000, 15001, int(model.InboundPort), 15020, 15099} {
			friend.refused(t, port)
		}
		if code, err := stranger.get(t, excludedPort, "/"); code != http.StatusOK {
			t.Errorf("%s: the excluded port gave %d, %v", stranger.dest, code, err)
		}
	})
	if app.web.Load() != web || app.other.Load() != other {
		t.Error("the application was reached past its sidecar")
	}
	// The kubelet's port answers at the pod's address, to anyone, and the admin interface is a socket of the proxy's own.
	stranger := caller{pod, netnstest.StrangerIPv4, netnstest.PodIPv4}
	for path, want := range map[string]int{bootstrap.ReadyPath: http.StatusOK, "/config_dump": http.StatusNotFound, "/quitquitquit": http.StatusNotFound} {
		if code, err := stranger.get(t, int(bootstrap.HealthPort), path); code != want {
			t.Errorf("%s: got %d, %v", path, code, err)
		}
	}
	sidecar.Becomes(bootstrap.ProbePath("web/liveness"), http.StatusOK)
	if info, err := os.Stat(sidecar.AdminSocket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin socket: %v, %v", info, err)
	}
	// What a pod's processes send to each other is not captured.
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", webPort)) //nolint:noctx // within the pod
	if err != nil {
		t.Fatalf("within the pod: %v", err)
	}
	_ = resp.Body.Close()
}

// The scraper reads how often each rule, and the default, decided or would have, at the pod's first address; and nobody else does.
func testMetrics(t *testing.T, pod *netnstest.Pod, sidecar *sidecartest.Pod) {
	t.Helper()
	friend, stranger := caller{pod, netnstest.FriendIPv4, netnstest.PodIPv4}, caller{pod, netnstest.StrangerIPv4, netnstest.PodIPv4}
	sidecar.Eventually("the scraper reads the metrics", func() error {
		code, page, err := friend.read(t, int(bootstrap.MetricsPort), bootstrap.MetricsPath)
		if err != nil || code != http.StatusOK {
			return fmt.Errorf("got %d, %w", code, err)
		}
		for _, want := range []string{
			`envoy_http_rbac_policy_allowed{envoy_rbac_policy_name="shop/friends/all",envoy_http_conn_manager_prefix="inbound_http"}`,
			`envoy_http_rbac_policy_denied{envoy_rbac_policy_name="default-deny",envoy_http_conn_manager_prefix="inbound_http"}`,
			`envoy_http_rbac_policy_shadow_allowed{envoy_rbac_policy_name="shop/strangers/all",envoy_rbac_http_prefix="dry_run_",envoy_http_conn_manager_prefix="inbound_http"}`,
			`envoy_rbac_denied{envoy_rbac_prefix="l7policy"}`,
		} {
			_, after, _ := strings.Cut(page, want+" ")
			if n, _, _ := strings.Cut(after, "\n"); n == "" || n == "0" {
				return fmt.Errorf("%s is %q", want, n)
			}
		}
		return nil
	})
	for _, path := range []string{bootstrap.MetricsPath, "/config_dump"} {
		if code, err := stranger.get(t, int(bootstrap.MetricsPort), path); code != http.StatusForbidden {
			t.Errorf("a stranger who asks for %s got %d, %v", path, code, err)
		}
	}
	if code, err := friend.get(t, int(bootstrap.MetricsPort), "/config_dump"); code != http.StatusNotFound {
		t.Errorf("the scraper who asks for the configuration got %d, %v", code, err)
	}
}

// What other rules of the pod keep from being redirected is refused, rather than let through to the application.
func TestCapturedBesideOtherRules(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	app := startApp(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	for name, rules := range map[string]string{
		"without connection tracking": "type filter hook prerouting priority raw ; notrack ;",
		"another redirect first":      fmt.Sprintf("type nat hook prerouting priority dstnat - 10 ; tcp dport %d redirect to :%d ;", webPort, otherPort),
	} {
		netnstest.Run(t, "nft table inet theirs { chain first { "+rules+" } ; }")
		families(pod, func(friend, _ caller) {
			if conn, err := friend.dial(t, "tcp", webPort); err == nil {
				t.Errorf("%s: connected to %v", name, conn.RemoteAddr())
				_ = conn.Close()
			}
		})
		netnstest.Run(t, "nft delete table inet theirs")
	}
	if n := app.web.Load() + app.other.Load(); n != 0 {
		t.Errorf("the application was reached %d times", n)
	}
}

// In a cluster whose pods have IPv6 addresses first, or alone, the kubelet asks there, and the sidecar asks the application there.
func TestCapturedHealthOverIPv6(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	hosts := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case hosts <- r.Host:
		default:
		}
	}))
	_ = server.Listener.Close()
	server.Listener = listen(t, webPort)
	server.Start()
	defer server.Close()
	control := sidecartest.NewControl(t)
	control.Give(friendsOnly()...)
	probe := bootstrap.Probe{Name: "web/liveness", Kind: bootstrap.ProbeHTTP, Port: webPort, Path: "/"}
	sidecar := sidecartest.Start(t, control, netnstest.PodIPv6, probe)
	sidecar.Becomes(bootstrap.ProbePath(probe.Name), http.StatusOK)
	if got, want := <-hosts, net.JoinHostPort(netnstest.PodIPv6, fmt.Sprint(webPort)); got != want {
		t.Errorf("the application was asked as %q, want %q", got, want)
	}
	if code, err := (caller{pod, netnstest.StrangerIPv6, netnstest.PodIPv6}).get(t, int(bootstrap.HealthPort), bootstrap.ReadyPath); code != http.StatusOK {
		t.Errorf("from outside: got %d, %v", code, err)
	}
}

// The kubelet is answered although callers hold all the connections that the proxy allows: an application must not be restarted for that.
func TestCapturedHealthWhenFull(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	startApp(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	control := sidecartest.NewControl(t)
	control.Give(friendsOnly()...)
	sidecar := sidecartest.StartSidecar(t, control, netnstest.PodIPv4, bootstrap.Sidecar{MaxConnections: 1})
	sidecar.Becomes(bootstrap.ReadyPath, http.StatusOK)
	friend := caller{pod, netnstest.FriendIPv4, netnstest.PodIPv4}
	for range 3 {
		conn, err := friend.dial(t, "tcp", otherPort)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	sidecar.Eventually("the limit is reached", func() error {
		if sidecar.Stat("listener.inbound.downstream_global_cx_overflow") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	for range 5 {
		if got := sidecar.Ask(bootstrap.ReadyPath); got != http.StatusOK {
			t.Errorf("got %d", got)
		}
	}
}

// UDP is not captured: the NetworkPolicy beside the pod decides about it.
func TestCapturedLeavesUDP(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", fmt.Sprintf(":%d", webPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	families(pod, func(_, stranger caller) {
		conn, err := stranger.dial(t, "udp", webPort)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = l.SetDeadline(time.Now().Add(10 * time.Second))
		buffer := make([]byte, 10)
		if n, _, err := l.ReadFrom(buffer); string(buffer[:n]) != "hello" {
			t.Errorf("%s: got %q, %v", stranger.dest, buffer[:n], err)
		}
	})
}

// A neighbour on the link may send any destination. The sidecar dials the destination, so only the pod's own addresses may get there: neither another
// machine's, which would make it a relay, nor 127.0.0.1, where applications listen that mean to be alone.
func TestCapturedOwnAddressesOnly(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	captured := listen(t, int(model.InboundPort)) // in the sidecar's place
	go func() {
		for {
			conn, err := captured.Accept()
			if err != nil {
				return
			}
			t.Errorf("captured a connection from %v", conn.RemoteAddr())
			_ = conn.Close()
		}
	}()
	pod.RunOutside("ip route add 203.0.113.7/32 via " + netnstest.PodIPv4)
	pod.RunOutside("ip route add 127.0.0.1/32 via " + netnstest.PodIPv4 + " src " + netnstest.StrangerIPv4)
	pod.RunOutside("ip -6 route add 2001:db8::7/128 via " + netnstest.PodIPv6)
	if err := pod.Outside(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o600) }); err != nil {
		t.Fatal(err)
	}
	for source, dests := range map[string][]string{netnstest.StrangerIPv4: {"203.0.113.7", "127.0.0.1"}, netnstest.StrangerIPv6: {"2001:db8::7"}} {
		for _, dest := range dests {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond) // it is dropped without an answer
			conn, err := pod.Dial(ctx, source, "tcp", net.JoinHostPort(dest, fmt.Sprint(webPort)))
			cancel()
			if err == nil {
				t.Errorf("%s: connected to %v", dest, conn.RemoteAddr())
			}
		}
	}
}
