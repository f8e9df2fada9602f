package translate_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// caller is a client with an address of its own.
type caller struct {
	address string
	dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: from this network namespace
}

// Callers on the loopback device.
func friend() caller   { return caller{address: "127.0.0.2"} }
func stranger() caller { return caller{address: "127.0.0.3"} }

func (c caller) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if c.dial != nil {
		return c.dial(ctx, network, address)
	}
	return c.dialer().DialContext(ctx, network, address)
}

func (c caller) dialer() *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.address)}, Timeout: 5 * time.Second}
}

// send makes a request and returns the response, its body read.
func (c caller) send(t *testing.T, method, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: c.connect, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// seen is a request as the application got it.
type seen struct {
	Host, Target string
	Header       http.Header
}

// httpApp is an application that remembers the last request.
type httpApp struct {
	*httptest.Server
	last  atomic.Pointer[seen]
	count atomic.Int64
}

func startHTTPApp(t *testing.T, address string) *httpApp {
	t.Helper()
	app := &httpApp{}
	app.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		app.count.Add(1)
		app.last.Store(&seen{r.Host, r.RequestURI, r.Header.Clone()})
		_, _ = io.WriteString(w, "hello")
	}))
	_ = app.Listener.Close()
	app.Listener = listen(t, address)
	app.Start()
	t.Cleanup(app.Close)
	return app
}

func (a *httpApp) address() netip.AddrPort {
	return netip.MustParseAddrPort(a.Listener.Addr().String())
}

// tcpApp greets where it has a greeting, then echoes lines, and counts its connections.
type tcpApp struct {
	listener    net.Listener
	connections atomic.Int64
}

func startTCPApp(t *testing.T, address, greeting string) *tcpApp {
	t.Helper()
	l := listen(t, address)
	app := &tcpApp{listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			app.connections.Add(1)
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.WriteString(conn, greeting)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return app
}

func (a *tcpApp) address() netip.AddrPort { return netip.MustParseAddrPort(a.listener.Addr().String()) }

const freeSocket = "127.0.0.1:0"

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// conversation is what a caller of a TCP port got.
type conversation struct {
	got    string
	closed bool // by the proxy
}

// talk dials, says something where there is something to say, and reads until want bytes have come, the proxy closes, or the wait is over. A
// silent caller cannot be told from an unanswered one without a wait: that is what the wait is for.
func (c caller) talk(t *testing.T, address netip.AddrPort, say string, want int, wait time.Duration) conversation {
	t.Helper()
	conn, err := c.connect(t.Context(), "tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, say); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, want)
	n, err := io.ReadFull(bufio.NewReader(conn), buffer)
	var netErr net.Error
	isNet := errors.As(err, &netErr)
	return conversation{got: string(buffer[:n]), closed: err != nil && (!isNet || !netErr.Timeout())}
}

// freePort is a socket for a proxy to listen on.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("127.79.4.1"), uint16(porttest.Free(t, "127.79.4.1")))
}

// standing is a connection that stays open.
type standing struct{ conn net.Conn }

func (c caller) open(t *testing.T, address netip.AddrPort) standing {
	t.Helper()
	conn, err := c.connect(t.Context(), "tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return standing{conn}
}

func (s standing) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(s.conn, text); err != nil {
		t.Fatal(err)
	}
}

func (s standing) expect(t *testing.T, text string) {
	t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(soon))
	buffer := make([]byte, len(text))
	if n, err := io.ReadFull(s.conn, buffer); err != nil || string(buffer) != text {
		t.Fatalf("got %q and %v, want %q", buffer[:n], err, text)
	}
}
