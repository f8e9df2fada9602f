package translate_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// quiet is how long a test listens where nothing should come.
const quiet = 300 * time.Millisecond

// soon is how long a test waits for what should come.
const soon = 10 * time.Second

// boundApps is cart in bound mode, with an HTTP application and one that speaks first.
type boundApps struct {
	web             *httpApp
	db              *tcpApp
	webPort, dbPort netip.AddrPort
	callee          *model.Pod
}

func startBoundApps(t *testing.T) *boundApps {
	t.Helper()
	b := &boundApps{
		web: startHTTPApp(t, freeSocket), db: startTCPApp(t, freeSocket, "welcome\n"), webPort: freePort(t), dbPort: freePort(t),
	}
	b.callee = cart(func(p *model.Pod) {
		p.Proxy.Bound = []model.BoundPort{
			{Port: 8080, Listen: b.webPort, Application: b.web.address()}, {Port: 5432, Listen: b.dbPort, Application: b.db.address()},
		}
	})
	return b
}

func (b *boundApps) url(path string) string { return "http://" + b.webPort.String() + path }

// settle waits until a caller's request to "/" gets a status: the slots have come.
func (b *boundApps) settle(t *testing.T, p *proxy, c caller, status int) {
	t.Helper()
	p.Eventually("the policies hold", func() error {
		if resp, _ := c.send(t, http.MethodGet, b.url("/"), nil); resp.StatusCode != status {
			return errorf("got %s, want %d", resp.Status, status)
		}
		return nil
	})
}

// Before every slot has come, the proxy is not ready, accepts nobody, and no application is touched; however long that takes.
func TestNobodyIsServedBeforeSlotsCome(t *testing.T) {
	t.Parallel()
	b := startBoundApps(t)
	all := resourcesOf(t, new(translate.Translator), world(b.callee))
	p := launchProxy(t, withoutSlots(all))
	if body, err := p.Admin(http.MethodGet, "/ready"); err == nil {
		t.Errorf("the proxy is ready: %s", body)
	}
	for _, address := range []netip.AddrPort{b.webPort, b.dbPort} {
		if conn, err := friend().connect(t.Context(), "tcp", address.String()); err == nil {
			t.Errorf("%s accepts", address)
			_ = conn.Close()
		}
	}
	if b.web.count.Load()+b.db.connections.Load() != 0 {
		t.Error("an application was reached before any policy had come")
	}
	p.set(all)
	p.Eventually("the proxy is ready", func() error { _, err := p.Admin(http.MethodGet, "/ready"); return err })
	b.settle(t, p, friend(), http.StatusOK)
}

// Policies come and go while a connection is open: no listener changes, the connection stays, and whom the policy does not name gets not one byte
// from an application that speaks first, whether that caller speaks or not.
func TestPoliciesComeAndGo(t *testing.T) {
	t.Parallel()
	b := startBoundApps(t)
	tr := new(translate.Translator)
	open := resourcesOf(t, tr, world(b.callee))
	governed := resourcesOf(t, tr, world(b.callee, policy("friends", model.Allow, model.Rule{Name: "all", Peers: friends()})))
	p := startProxy(t, open)
	b.settle(t, p, stranger(), http.StatusOK)

	// Nothing governs: the silent caller of an application that speaks first is greeted.
	p.Eventually("the silent caller is greeted", func() error {
		if got := stranger().talk(t, b.dbPort, "", len("welcome\n"), soon); got.got != "welcome\n" {
			return errorf("got %+v", got)
		}
		return nil
	})
	standing := stranger().open(t, b.dbPort)
	standing.expect(t, "welcome\n")

	p.set(governed)
	b.settle(t, p, stranger(), http.StatusForbidden)
	p.Eventually("a stranger is not greeted any more", func() error {
		if got := stranger().talk(t, b.dbPort, "", 1, quiet); got.got != "" {
			return errorf("got %+v", got)
		}
		return nil
	})
	connections := b.db.connections.Load()
	for _, say := range []string{"", "hello\n"} {
		if got := stranger().talk(t, b.dbPort, say, 1, quiet); got.got != "" || (say != "") != got.closed {
			t.Errorf("the stranger, saying %q, got %+v", say, got)
		}
	}
	if n := b.db.connections.Load(); n != connections {
		t.Errorf("the stranger caused %d connections", n-connections)
	}
	if got := friend().talk(t, b.dbPort, "hello\n", len("welcome\nhello\n"), soon); got.got != "welcome\nhello\n" {
		t.Errorf("the friend got %+v", got)
	}

	p.set(open)
	b.settle(t, p, stranger(), http.StatusOK)
	standing.say(t, "still here\n")
	standing.expect(t, "still here\n")
	for _, stat := range []string{"listener_modified", "listener_in_place_updated", "total_listeners_draining"} {
		if n := p.Stat("listener_manager." + stat); n != 0 {
			t.Errorf("%s is %d", stat, n)
		}
	}
}

// On a port where the application is known to speak first, an allowed caller is greeted at once. The bytes of one that is not allowed never reach
// the application.
func TestServerFirstPort(t *testing.T) {
	t.Parallel()
	b := startBoundApps(t)
	b.callee.Proxy.ServerFirst = []uint16{5432}
	ix := world(b.callee, policy("friends", model.Allow, model.Rule{Name: "all", Peers: friends()}))
	out := translate.Translate(ix)
	p := startProxy(t, resourcesOf(t, new(translate.Translator), ix))
	b.settle(t, p, stranger(), http.StatusForbidden)
	if got := friend().talk(t, b.dbPort, "", len("welcome\n"), soon); got.got != "welcome\n" {
		t.Errorf("the friend got %+v", got)
	}
	if got := stranger().talk(t, b.dbPort, "hello\n", len("welcome\nhello\n"), soon); strings.Contains(got.got, "hello") || !got.closed {
		t.Errorf("the stranger got %+v", got)
	}
	if !hasCode(out.Diagnostics, "server-first-port") {
		t.Errorf("nobody is told that L4 alone stands before the greeting: %v", out.Diagnostics)
	}
}

// The access log names who decided: the rule that allowed, the rule that denied, or the outcome where no rule matched.
func TestAccessLogNamesTheDecider(t *testing.T) {
	t.Parallel()
	b := startBoundApps(t)
	tried := policy("tried", model.Deny, model.Rule{Name: "everyone"})
	tried.DryRun = true
	p := startProxy(t, resourcesOf(t, new(translate.Translator), world(b.callee,
		policy("allow", model.Allow, model.Rule{Name: "friends", Peers: friends()}),
		policy("deny", model.Deny, model.Rule{
			Name: "secrets", Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
			HTTP: []model.HTTPMatch{{Paths: []model.PathMatch{{Type: model.Prefix, Value: "/secret"}}}},
		}),
		tried,
	)))
	b.settle(t, p, friend(), http.StatusOK)
	friend().send(t, http.MethodGet, b.url("/secret"), nil)
	stranger().send(t, http.MethodGet, b.url("/hello?password=1"), nil)
	stranger().talk(t, b.dbPort, "hello\n", 1, soon)
	friend().talk(t, b.dbPort, "hello\n", 1, soon)
	for _, want := range []string{
		`"rule":"shop/allow/friends"`, `"rule":"shop/deny/secrets"`, `"rule":"default-deny"`, `rbac_access_denied_matched_policy[default-deny]`,
		`"dry_run":"shop/tried/everyone","flags":"-","host"`,
		`"dry_run":"shop/tried/everyone","flags":"-","ms"`,
	} {
		p.Eventually("the access log holds "+want, func() error {
			if !strings.Contains(p.Log(), want) {
				return errorf("it does not")
			}
			return nil
		})
	}
	if strings.Contains(p.Log(), "password") {
		t.Error("the access log holds a query, which may hold secrets")
	}
}

// Policies name ports, whatever socket the proxy listens on: also where the number of one port is the number of another one's socket.
func TestBoundPortsAreNotSockets(t *testing.T) {
	t.Parallel()
	one, two := startTCPApp(t, freeSocket, ""), startTCPApp(t, freeSocket, "")
	first, second := freePort(t), freePort(t)
	callee := cart(func(p *model.Pod) {
		p.Proxy.Bound = []model.BoundPort{
			{Port: 80, Listen: first, Application: one.address()}, {Port: first.Port(), Listen: second, Application: two.address()},
		}
	})
	ports := []model.PortRange{{Protocol: model.TCP, From: first.Port(), To: first.Port()}}
	allowed := policy("allow", model.Allow, model.Rule{Name: "one port", Ports: ports})
	p := startProxy(t, resourcesOf(t, new(translate.Translator), world(callee, allowed)))
	p.Eventually("the policy's port is open", func() error {
		if got := friend().talk(t, second, "hello\n", len("hello\n"), soon); got.got != "hello\n" {
			return errorf("got %+v", got)
		}
		return nil
	})
	if got := friend().talk(t, first, "hello\n", 1, soon); got.got != "" || one.connections.Load() != 0 {
		t.Errorf("port 80, whose socket has the number that the policy names, is open: %+v", got)
	}
}

func hasCode(list []model.Diagnostic, code string) bool {
	for _, d := range list {
		if d.Code == code {
			return true
		}
	}
	return false
}
