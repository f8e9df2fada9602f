package translate_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// rawApp is an application that keeps every request's head as it came over the wire, and answers with a head of its own.
type rawApp struct {
	listener net.Listener
	heads    chan string
}

const rawAnswer = "HTTP/1.1 200 Very Fine\r\nX-CamelCase: A\r\nServer: app\r\nDate: today\r\nContent-Length: 2\r\n\r\n"

func startRawApp(t *testing.T) *rawApp {
	t.Helper()
	app := &rawApp{listener: listen(t, freeSocket), heads: make(chan string, 100)}
	t.Cleanup(func() { _ = app.listener.Close() })
	go func() {
		for {
			conn, err := app.listener.Accept()
			if err != nil {
				return
			}
			go app.serve(conn)
		}
	}()
	return app
}

func (a *rawApp) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	lines := bufio.NewReader(conn)
	var head strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		head.WriteString(line)
		if line != "\r\n" {
			continue
		}
		a.heads <- head.String()
		head.Reset()
		if _, err := io.WriteString(conn, rawAnswer+"ok"); err != nil {
			return
		}
	}
}

// raw sends bytes to a proxy and returns what comes back.
func raw(t *testing.T, address netip.AddrPort, request string, read func(io.Reader) ([]byte, error)) string {
	t.Helper()
	conn, err := friend().connect(t.Context(), "tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(soon))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := read(conn)
	if err != nil {
		t.Fatalf("after %q: %v", answer, err)
	}
	return string(answer)
}

func startRaw(t *testing.T, change func(*model.ProxySettings)) (*rawApp, netip.AddrPort) {
	t.Helper()
	app, port := startRawApp(t), freePort(t)
	callee := cart(func(p *model.Pod) {
		p.Proxy.Bound = []model.BoundPort{{Port: 8080, Listen: port, Application: netip.MustParseAddrPort(app.listener.Addr().String())}}
		if change != nil {
			change(&p.Proxy)
		}
	})
	p := startProxy(t, resourcesOf(t, new(translate.Translator), world(callee)))
	p.Eventually("the slots have come", func() error {
		if resp, _ := friend().send(t, http.MethodGet, "http://"+port.String()+"/", nil); resp.StatusCode != http.StatusOK {
			return errorf("got %s", resp.Status)
		}
		return nil
	})
	for len(app.heads) > 0 {
		<-app.heads
	}
	return app, port
}

// The application sees what its caller sent, and the caller what the application answered: names as they were spelt, no header added. Only what
// could steer Envoy, or hide the real path, is taken away.
func TestApplicationSeesWhatWasSent(t *testing.T) {
	t.Parallel()
	app, port := startRaw(t, nil)
	kept := []string{
		"Host: CaRt.Shop.:80", "X-CamelCase: V", "User-Agent: test", "X-Forwarded-For: 192.0.2.1", "X-Request-Id: abc", "Expect: 100-continue",
		"X-Forwarded-Proto: https",
	}
	removed := []string{
		"x-envoy-upstream-rq-timeout-ms: 1", "x-envoy-original-path: /", "x-original-url: /", "x-rewrite-url: /", "x-envoy-internal: true",
		"x-envoy-external-address: 127.0.0.1", "x-envoy-retry-on: 5xx", "x-forwarded-client-cert: By=spiffe://x/y",
		"x-pilot-lite-forwarded-proto: gopher", "Connection: close",
	}
	answer := raw(t, port, "GET /a/b?x=%2F&y HTTP/1.1\r\n"+strings.Join(append(kept, removed...), "\r\n")+"\r\n\r\n", io.ReadAll)
	want := "GET /a/b?x=%2F&y HTTP/1.1\r\n" + strings.Join(kept, "\r\n") + "\r\n\r\n"
	if got := <-app.heads; got != want {
		t.Errorf("the application saw\n%s\nwant\n%s", got, want)
	}
	if want := strings.Replace(rawAnswer, "\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1) + "ok"; answer != want {
		t.Errorf("the caller got\n%s\nwant\n%s", answer, want)
	}
	raw(t, port, "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n", io.ReadAll)
	if got, want := <-app.heads, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n"; got != want {
		t.Errorf("the application saw\n%s\nwant\n%s", got, want)
	}
}

// What has more than one reading is refused, unless the pod says that its application needs it.
func TestHardening(t *testing.T) {
	t.Parallel()
	strict, relaxed := hardened(t, nil), hardened(t, func(s *model.ProxySettings) {
		s.AllowEscapedSlashes, s.AllowUnderscoreHeader, s.AllowHTTP10 = true, true, true
	})
	for _, c := range []struct {
		name, request   string
		strict, relaxed string // the status, and what the application saw of the request line, where it saw anything
	}{
		{"dot segments", "GET /a/../b HTTP/1.1\r\nHost: cart\r\n", "200 GET /b", "200 GET /b"},
		{"slashes", "GET //a///b HTTP/1.1\r\nHost: cart\r\n", "200 GET /a/b", "200 GET /a/b"},
		{"escaped slash", "GET /a%2Fb HTTP/1.1\r\nHost: cart\r\n", "400", "200 GET /a/b"},
		{"escaped backslash", "GET /a%5cb HTTP/1.1\r\nHost: cart\r\n", "400", "200 GET /a/b"},
		{"underscore", "GET /a HTTP/1.1\r\nHost: cart\r\nx_y: z\r\n", "400", "200 GET /a"},
		{"HTTP/1.0", "GET /a HTTP/1.0\r\nHost: cart\r\n", "426", "200 GET /a"},
		{"fragment", "GET /a#b HTTP/1.1\r\nHost: cart\r\n", "400", "400"},
		{"two lengths", "GET /a HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n", "400", "400"},
		{"CONNECT", "CONNECT cart:80 HTTP/1.1\r\nHost: cart:80\r\n", "404", "404"},
		{"an upgrade other than websocket", "GET /a HTTP/1.1\r\nHost: cart\r\nConnection: upgrade\r\nUpgrade: foo\r\n", "403", "403"},
		{"websocket", "GET /a HTTP/1.1\r\nHost: cart\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", "200 GET /a", "200 GET /a"},
		{"100 headers and more", "GET /a HTTP/1.1\r\nHost: cart\r\n" + strings.Repeat("a: b\r\n", 101), "431", "431"},
	} {
		if got := strict(c.request); got != c.strict {
			t.Errorf("%s: got %q, want %q", c.name, got, c.strict)
		}
		if got := relaxed(c.request); got != c.relaxed {
			t.Errorf("%s, relaxed: got %q, want %q", c.name, got, c.relaxed)
		}
	}
}

// hardened returns a function that sends a request and says what came of it.
func hardened(t *testing.T, change func(*model.ProxySettings)) func(string) string {
	t.Helper()
	app, port := startRaw(t, change)
	return func(request string) string {
		t.Helper()
		answer := raw(t, port, request+"Connection: close\r\n\r\n", statusLine)
		_, status, _ := strings.Cut(answer, " ")
		status, _, _ = strings.Cut(status, " ")
		select {
		case head := <-app.heads:
			line, _, _ := strings.Cut(head, " HTTP/")
			return status + " " + line
		default:
			return status
		}
	}
}

// statusLine reads no further: Envoy lets a refused connection linger for a second.
func statusLine(r io.Reader) ([]byte, error) { return bufio.NewReader(r).ReadBytes('\n') }
