package prove_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

// Who calls cart: its policies name front, and nobody names the stranger.
const (
	front    = "127.79.0.2"
	stranger = "127.79.0.3"
)

// shop is the world of most tests: cart behind a proxy, with a port for HTTP and one for TCP, and two callers.
type shop struct {
	*stage
	web, db    netip.AddrPort // where cart's proxy listens
	webApp     *application
	dbApp      netip.AddrPort
	cart       string // cart's YAML
	everything string // the YAML of all but the policies
}

// newShop lays out the files, without a policy unless files has one.
func newShop(t testing.TB, files map[string]string) *shop {
	t.Helper()
	s := &shop{stage: newStage(t, files), web: freeSocket(t), db: freeSocket(t), webApp: startApplication(t), dbApp: startEcho(t)}
	s.cart = s.pod(s.web)
	s.everything = strings.Join([]string{s.cart, caller("front", front), caller("stranger", stranger), service}, "---\n")
	s.replace("shop.yaml", s.everything)
	return s
}

// pod is cart, with its HTTP port on a socket of choice.
func (s *shop) pod(web netip.AddrPort) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: cart
  namespace: shop
  labels: {app: cart}
  annotations:
    policy.pilot-lite.io/bound: '[{"port":8080,"listen":%q,"application":%q},{"port":5432,"listen":%q,"application":%q}]'
spec: {nodeName: node, containers: [{name: cart, ports: [{name: web, containerPort: 8080}, {name: db, containerPort: 5432}]}]}
status: {phase: Running, podIP: 127.79.1.1, podIPs: [{ip: 127.79.1.1}]}
`, web, s.webApp.address, s.db, s.dbApp)
}

func caller(name, address string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: shop, labels: {app: %[1]s}}
spec: {nodeName: node, containers: [{name: %[1]s}]}
status: {phase: Running, podIP: %[2]s, podIPs: [{ip: %[2]s}]}
`, name, address)
}

const service = `apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80, targetPort: web}]}
`

// policy is an L7Policy for cart with the given rest of its spec.
func policy(name, spec string) string {
	return fmt.Sprintf("apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: %s, namespace: shop}\nspec: {podSelector: {matchLabels: {app: cart}}, %s}\n", name, spec)
}

// onlyFront lets front do everything.
func onlyFront() string {
	return policy("cart", "ingress: [{name: front, from: [{podSelector: {matchLabels: {app: front}}}]}]")
}

// answer is what a caller got: a status, or an error where no answer came.
type answer struct {
	status int
	host   string // the Host that the application saw
	err    error
}

// send asks cart's HTTP port. A host other than "" goes out as it is.
func (s *shop) send(from, method, path, host string) answer {
	client := http.Client{Timeout: 5 * time.Second, Transport: transport(from)}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+s.web.String()+path, http.NoBody)
	if err != nil {
		return answer{err: err}
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return answer{status: resp.StatusCode, host: resp.Header.Get("x-host"), err: err}
}

func transport(from string) *http.Transport {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	return &http.Transport{DisableKeepAlives: true, DialContext: d.DialContext}
}

// echoes says whether cart's TCP port gives back what a caller sends.
func (s *shop) echoes(from string) bool {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	c, err := d.DialContext(context.Background(), "tcp", s.db.String())
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(c, "hello")
	b := make([]byte, len("hello"))
	n, _ := io.ReadFull(c, b)
	return string(b[:n]) == "hello"
}

// verdicts is one line about who may do what.
func (s *shop) verdicts() string {
	var out []string
	for _, from := range []struct{ name, address string }{{"front", front}, {"stranger", stranger}} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := s.send(from.address, method, "/", "")
			switch {
			case a.err != nil:
				out = append(out, fmt.Sprintf("%s %s fails", from.name, method))
			case a.status != http.StatusForbidden:
				out = append(out, fmt.Sprintf("%s %s %d", from.name, method, a.status))
			}
		}
		if s.echoes(from.address) {
			out = append(out, from.name+" TCP")
		}
	}
	return strings.Join(out, ", ")
}

// Lines of verdicts: only what is allowed stands in one.
const (
	nothing   = ""
	frontOnly = "front GET 200, front POST 200, front TCP"
	everyone  = frontOnly + ", stranger GET 200, stranger POST 200, stranger TCP"
	noSocket  = "front GET fails, front POST fails, stranger GET fails, stranger POST fails"
)

// eventuallyVerdicts waits until the verdicts are those.
func (s *shop) eventuallyVerdicts(what, want string) {
	s.t.Helper()
	s.eventually(what, func() error {
		if got := s.verdicts(); got != want {
			return fmt.Errorf("allowed: %q, want %q", got, want)
		}
		return nil
	})
}

func (s *shop) wantVerdicts(what, want string) {
	s.t.Helper()
	if got := s.verdicts(); got != want {
		s.t.Errorf("%s: allowed: %q, want %q", what, got, want)
	}
}

// application answers every request with the Host that it saw. GET /ticks never ends: it sends a byte for each value of tick.
type application struct {
	address netip.AddrPort
	tick    chan struct{}
}

func startApplication(t testing.TB) *application {
	t.Helper()
	a := &application{tick: make(chan struct{})}
	l := listen(t)
	a.address = netip.MustParseAddrPort(l.Addr().String())
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-host", r.Host)
		if r.URL.Path != "/ticks" {
			return
		}
		for {
			_, _ = io.WriteString(w, ".")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-a.tick:
			case <-r.Context().Done():
				return
			}
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return a
}

func startEcho(t testing.TB) netip.AddrPort {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// freeSocket is a socket that no other test uses: callers have other addresses.
func freeSocket(t testing.TB) netip.AddrPort {
	t.Helper()
	const address = "127.79.1.1"
	return netip.AddrPortFrom(netip.MustParseAddr(address), uint16(porttest.Free(t, address)))
}

// listenerStats are the counters that a policy edit must leave alone.
func listenerStats(e *envoytest.Envoy) string {
	var out []string
	for _, name := range []string{
		"listener_added", "listener_modified", "listener_removed", "listener_in_place_updated", "listener_create_failure", "listener_stopped",
		"total_listeners_draining", "total_filter_chains_draining", "lds.update_success", "lds.update_rejected",
	} {
		out = append(out, fmt.Sprintf("%s=%d", name, e.Stat("listener_manager."+name)))
	}
	for _, name := range []string{"cluster_added", "cluster_modified", "cluster_removed", "cds.update_success"} {
		out = append(out, fmt.Sprintf("%s=%d", name, e.Stat("cluster_manager."+name)))
	}
	return strings.Join(out, " ")
}
