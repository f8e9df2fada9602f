package bootstrap_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

const (
	scraper, stranger = "127.0.0.7", "127.0.0.8"
	scrape            = "GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
)

// readableBy is the slot that lets addresses read a sidecar's metrics.
func readableBy(addresses ...string) proto.Message {
	var s rbac.Sources
	for _, a := range addresses {
		s.Addresses = append(s.Addresses, netip.MustParseAddr(a))
	}
	return new(rbac.Compiler).Metrics(&s)
}

// startScraped is a sidecar under a policy that lets nobody in, whose metrics the scraper may read.
func startScraped(t *testing.T) *sidecartest.Pod {
	t.Helper()
	c := sidecartest.NewControl(t)
	p := sidecartest.Start(t, c, newAddress())
	listeners, slots := shut(t, p.IP)
	c.Give(append(append(listeners, slots...), readableBy(scraper))...)
	p.Becomes("/ready", 200)
	p.Eventually("the scraper is let in", func() error { return wantAnswer(t, p, scraper, scrape, "200") })
	return p
}

// wantAnswer asks, and says what came in place of the status that is wanted.
func wantAnswer(t *testing.T, p *sidecartest.Pod, from, request, want string) error {
	t.Helper()
	if got, _ := answer(t, p, from, request); got != want {
		return fmt.Errorf("got %s, want %s", got, want)
	}
	return nil
}

// dial opens a connection to the port of the metrics, from an address.
func dial(t *testing.T, p *sidecartest.Pod, from string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", p.IP, bootstrap.MetricsPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// answer sends bytes and reads one answer.
func answer(t *testing.T, p *sidecartest.Pod, from, request string) (status, body string) {
	t.Helper()
	conn := dial(t, p, from)
	if _, err := io.WriteString(conn, request); err != nil {
		return err.Error(), ""
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return err.Error(), ""
	}
	text, err := io.ReadAll(resp.Body)
	_ = conn.Close()
	if err != nil {
		return err.Error(), ""
	}
	return strconv.Itoa(resp.StatusCode), string(text)
}

// The port of the metrics leads to one page of the admin interface: whoever may read it may do nothing else there, however the request is spelled.
func TestMetricsPortOpensNothingElse(t *testing.T) {
	t.Parallel()
	p := startScraped(t)
	if _, body := answer(t, p, scraper, scrape); !strings.Contains(body, "envoy_http_rbac_denied{") || strings.Contains(body, "BEGIN CERTIFICATE") {
		t.Errorf("the page is not that of the statistics:\n%.500s", body)
	}
	before := p.Stat("cluster.metrics.upstream_rq_total")
	for _, c := range []struct{ request, want string }{
		{"GET / HTTP/1.1\r\nHost: x", "404"},
		{"GET /config_dump HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats HTTP/1.1\r\nHost: x", "404"},
		{"GET /ready HTTP/1.1\r\nHost: x", "404"},
		{"POST /quitquitquit HTTP/1.1\r\nHost: x\r\nContent-Length: 0", "404"},
		{"POST /healthcheck/fail HTTP/1.1\r\nHost: x\r\nContent-Length: 0", "404"},
		{"POST /stats/prometheus HTTP/1.1\r\nHost: x\r\nContent-Length: 0", "404"},
		{"HEAD /stats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"OPTIONS /stats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"OPTIONS * HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus?usedonly HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus? HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus/ HTTP/1.1\r\nHost: x", "404"},
		{"GET //stats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats//prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats%2Fprometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /%73tats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/%2e/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/./prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus/../../config_dump HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus/%2e%2e/%2e%2e/quitquitquit HTTP/1.1\r\nHost: x", "404"},
		{"GET /stats/prometheus;x HTTP/1.1\r\nHost: x", "404"},
		{"GET /Stats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"GET stats/prometheus HTTP/1.1\r\nHost: x", "400"},
		{"GET /stats/prometheus#x HTTP/1.1\r\nHost: x", "400"},
		{"GET http://x/config_dump HTTP/1.1\r\nHost: x", "404"},
		{"GET http://x/stats/prometheus HTTP/1.1\r\nHost: x", "404"},
		{"CONNECT /config_dump HTTP/1.1\r\nHost: x", "400"},
		{"CONNECT x:80 HTTP/1.1\r\nHost: x", "404"},
		{"GET /config_dump HTTP/1.1\r\nHost: x\r\nX-Envoy-Original-Path: /stats/prometheus\r\nX-Rewrite-Url: /stats/prometheus", "404"},
		{"GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade", "403"},
		{"GET /stats/prometheus HTTP/1.0", "426"},
		{"GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 16<<10), "431"},
		{"PRI * HTTP/2.0\r\n\r\nSM", "400"},
	} {
		if err := wantAnswer(t, p, scraper, c.request+"\r\n\r\n", c.want); err != nil {
			t.Errorf("%.80q: %v", c.request, err)
		}
	}
	if after := p.Stat("cluster.metrics.upstream_rq_total"); before == 0 || after != before {
		t.Errorf("%d requests reached the admin interface, of %d that should", after-before, before)
	}
	p.Becomes("/ready", 200) // as it would not be after /healthcheck/fail, nor after /quitquitquit
}

// Nobody reads the metrics unless the control plane says who may, and nobody else then, nor when it takes that back.
func TestMetricsAreForScrapersAlone(t *testing.T) {
	t.Parallel()
	c := sidecartest.NewControl(t)
	p := sidecartest.Start(t, c, newAddress())
	listeners, slots := shut(t, p.IP)
	all := append(listeners, slots...)
	c.Give(all...)
	p.Becomes("/ready", 200) // without scrapers
	if err := wantAnswer(t, p, scraper, scrape, "403"); err != nil {
		t.Errorf("without scrapers: %v", err)
	}
	c.Give(append(all, readableBy(scraper))...)
	p.Eventually("the scraper is let in", func() error { return wantAnswer(t, p, scraper, scrape, "200") })
	for _, forged := range []string{"", "X-Forwarded-For: " + scraper + "\r\n", "X-Envoy-External-Address: " + scraper + "\r\n"} {
		if err := wantAnswer(t, p, stranger, strings.Replace(scrape, "Host: x\r\n", "Host: x\r\n"+forged, 1), "403"); err != nil {
			t.Errorf("a stranger with %q: %v", forged, err)
		}
	}
	c.Give(all...)
	p.Eventually("the scraper is let in no more", func() error { return wantAnswer(t, p, scraper, scrape, "403") })
}

// Whoever asks again and again is told to wait: the statistics are written by the thread that takes up configuration.
func TestMetricsAreBounded(t *testing.T) {
	t.Parallel()
	p := startScraped(t)
	got := map[string]int{}
	for range 100 {
		status, _ := answer(t, p, scraper, scrape)
		got[status]++
	}
	if got["429"] == 0 {
		t.Errorf("answers by status: %v; want some of a hundred to be 429", got)
	}
	p.Eventually("connections are refused when there are too many", func() error {
		dial(t, p, stranger)
		if p.Stat("listener.metrics.downstream_cx_overflow") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	p.Becomes("/ready", 200)
	p.Eventually("who sends nothing is hung up on", func() error { return wantAnswer(t, p, stranger, scrape, "403") })
}
