package rbac_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// hit is a request as it reached an application, with nothing interpreted.
type hit struct {
	Method, Target, Host string
	Headers              http.Header
}

// path is the target without its query.
func (h hit) path() string {
	p, _, _ := strings.Cut(h.Target, "?")
	return p
}

// app is an application that writes down every request that reaches it, over HTTP/1 read by hand (a server of the library would refuse some
// requests, and a refused one must not pass for one that never came) or HTTP/2.
type app struct {
	listener net.Listener
	mu       sync.Mutex
	hits     []hit
}

func startApp(t testing.TB) *app {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &app{listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go a.serve(conn)
		}
	}()
	return a
}

func (a *app) address() netip.AddrPort { return netip.MustParseAddrPort(a.listener.Addr().String()) }

func (a *app) record(h hit) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hits = append(a.hits, h)
}

// seen returns the requests that came so far.
func (a *app) seen() []hit {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]hit(nil), a.hits...)
}

func (a *app) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	if start, err := r.Peek(3); err == nil && string(start) == "PRI" {
		a.serveHTTP2(conn, r)
		return
	}
	for a.serveHTTP1(conn, r) {
	}
}

// serveHTTP2 answers every stream, and leaves it to the client to end the connection.
func (a *app) serveHTTP2(conn net.Conn, r io.Reader) {
	if _, err := io.CopyN(io.Discard, r, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, r)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch fr := frame.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			h := hit{Method: fr.PseudoValue("method"), Target: fr.PseudoValue("path"), Host: fr.PseudoValue("authority"), Headers: http.Header{}}
			for _, f := range fr.RegularFields() {
				h.Headers[f.Name] = append(h.Headers[f.Name], f.Value)
			}
			a.record(h)
			block.Reset()
			_ = encoder.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: fr.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
	}
}

// serveHTTP1 answers one request, and says whether to go on.
func (a *app) serveHTTP1(w io.Writer, r *bufio.Reader) bool {
	line, err := r.ReadString('\n')
	if err != nil {
		return false
	}
	h := hit{Headers: http.Header{}}
	h.Method, h.Target, _ = strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	h.Target = strings.TrimSuffix(h.Target, " HTTP/1.1")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		if name == "host" {
			h.Host = value
		} else {
			h.Headers[name] = append(h.Headers[name], value)
		}
	}
	a.record(h)
	head := &http.Request{Method: h.Method, Header: http.Header{}}
	if n := h.Headers["content-length"]; n != nil {
		_, _ = io.CopyN(io.Discard, r, int64(atoi(n[0])))
	}
	if te := h.Headers["transfer-encoding"]; te != nil {
		// Read the chunks up to the last one's empty line; trailers are not sent here.
		for {
			size, err := r.ReadString('\n')
			if err != nil {
				return false
			}
			n := unhex(strings.TrimSpace(size))
			_, _ = io.CopyN(io.Discard, r, int64(n)+2)
			if n == 0 {
				break
			}
		}
	}
	body := "ok"
	if head.Method == http.MethodHead {
		body = ""
	}
	_, err = io.WriteString(w, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"+body)
	return err == nil
}

func atoi(s string) int {
	n := 0
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

func unhex(s string) int {
	n := 0
	for _, c := range strings.ToLower(s) {
		n = n*16 + strings.IndexRune("0123456789abcdef", c)
	}
	return n
}
