package translate_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// startBehindProxy runs an application on port 8080 behind a proxy without policies, and returns where callers find it.
func startBehindProxy(t *testing.T, handler http.Handler, change func(*model.ProxySettings)) netip.AddrPort {
	t.Helper()
	app := httptest.NewUnstartedServer(handler)
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	port := freePort(t)
	p := startProxy(t, resourcesOf(t, new(translate.Translator), world(cart(func(pod *model.Pod) {
		pod.Proxy.Bound = []model.BoundPort{{Port: 8080, Listen: port, Application: netip.MustParseAddrPort(app.Listener.Addr().String())}}
		if change != nil {
			change(&pod.Proxy)
		}
	}))))
	p.Eventually("the slots have come", func() error {
		if resp, _ := friend().send(t, http.MethodGet, "http://"+port.String()+"/", nil); resp.StatusCode == http.StatusForbidden {
			return errorf("got %s", resp.Status)
		}
		return nil
	})
	return port
}

// The application is spoken to as its caller speaks, and trailers pass both ways: gRPC's status is a trailer.
func TestTrailersInEveryVersion(t *testing.T) {
	t.Parallel()
	port := startBehindProxy(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Verdict")
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
		w.Header().Set("Verdict", r.Proto+" "+r.Trailer.Get("Checksum"))
	}), nil)
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{DialContext: friend().connect, DisableKeepAlives: true, Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(version == "HTTP/1.1")
		transport.Protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
		// A body of unknown length is sent in chunks, which is what carries trailers in HTTP/1.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+port.String()+"/", io.MultiReader(strings.NewReader("body")))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"Checksum": {"abc"}}
		resp, err := (&http.Client{Transport: transport, Timeout: soon}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if got := resp.Trailer.Get("Verdict"); err != nil || got != version+" abc" {
			t.Errorf("%s: got trailer %q and %v", version, got, err)
		}
	}
}

// A websocket passes, and its bytes go both ways.
func TestWebsocket(t *testing.T) {
	t.Parallel()
	port := startBehindProxy(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" {
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}), nil)
	conn, err := friend().connect(t.Context(), "tcp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(soon))
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: cart\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	lines := bufio.NewReader(conn)
	resp, err := http.ReadResponse(lines, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %+v and %v", resp, err)
	}
	_, _ = io.WriteString(conn, "ping\n")
	if got, err := lines.ReadString('\n'); got != "ping\n" {
		t.Errorf("got %q and %v", got, err)
	}
}

// A response that takes for ever is cut where the pod bounds its streams, and only there.
func TestMaxStreamDuration(t *testing.T) {
	t.Parallel()
	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endless" {
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	port := startBehindProxy(t, endless, func(s *model.ProxySettings) { s.MaxStreamDuration = quiet })
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+port.String()+"/endless", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	resp, err := (&http.Client{Transport: &http.Transport{DialContext: friend().connect}}).Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("the stream was not cut: %v, %v", err, ctx.Err())
	}
}
