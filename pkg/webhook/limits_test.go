package webhook_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

const (
	podReview = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"7","operation":"CREATE","namespace":"shop","kind":{"group":"","version":"v1","kind":"Pod"},"object":`
	reviewEnd = `}}`
)

// What would take hours to read, or all memory, is refused before it is read.
func TestWhatCostsTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	for name, object := range map[string]string{
		"a quantity that no time suffices for": `{"spec":{"containers":[{"name":"web","resources":{"limits":{"cpu":"1234567890123456789012e1000000"}}}]}}`,
		"two million containers":               `{"spec":{"containers":[` + strings.Repeat("{},", 1<<21-1000) + `{}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", object); r.Allowed || r.Result.Code != http.StatusRequestEntityTooLarge {
				t.Errorf("%+v", r)
			}
		})
	}
	rules := policy + `{"ingress":[` + strings.Repeat("{},", 600_000) + `{}]}}`
	if r := ask(t, s, webhook.ValidatePath, "CREATE", group, "L7Policy", rules); r.Allowed || r.Result.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a policy of 600,000 rules: %+v", r)
	}
}

// held is a request's body that says when all of it was read, and ends when it is let go.
type held struct {
	text io.Reader
	read chan<- struct{}
	end  <-chan struct{}
	once sync.Once
}

func (h *held) Read(p []byte) (int, error) {
	n, err := h.text.Read(p)
	if errors.Is(err, io.EOF) {
		h.once.Do(func() { h.read <- struct{}{} })
		<-h.end
	}
	return n, err
}

// Whoever sends much at once, and does not finish, is held to a fixed amount: others are told to come back, and are served as soon as there is room.
func TestManyLargeRequests(t *testing.T) {
	t.Parallel()
	handler := webhook.Handler(webhook.Config{Injection: injection})
	post := func(body io.Reader) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, webhook.InjectPath, body)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	const most = 4
	read, end := make(chan struct{}, most), make(chan struct{})
	var senders sync.WaitGroup
	for range most {
		senders.Go(func() { post(&held{text: strings.NewReader(strings.Repeat(" ", 6<<20)), read: read, end: end}) })
	}
	for range most {
		<-read
	}
	if w := post(strings.NewReader(podReview + pod + reviewEnd)); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one more is answered with %d: %s", w.Code, w.Body)
	}
	close(end)
	senders.Wait()
	if w := post(strings.NewReader(podReview + pod + reviewEnd)); w.Code != http.StatusOK {
		t.Errorf("when there is room, it is answered with %d: %s", w.Code, w.Body)
	}
}

// One answer that panics is one answer.
func TestPanic(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	first := true
	s := serve(t, webhook.Config{Metrics: webhook.NewMetrics(registry), Injection: func() (inject.Config, error) {
		if first {
			first = false
			panic("a bug")
		}
		return injection()
	}})
	if status, answer := post(t, s, webhook.InjectPath, "application/json", podReview+pod+reviewEnd); status != http.StatusInternalServerError || strings.Contains(answer, "a bug") {
		t.Errorf("%d: %s", status, answer)
	}
	if r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", pod); !r.Allowed {
		t.Errorf("%+v", r)
	}
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range gathered {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == "pilot_lite_webhook_answers_total" && l.GetName() == "result" {
					got[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]float64{"allowed": 1, "failed": 1}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// A DryRun policy shuts nobody out, and a policy that shuts none of the pods without sidecar has nothing to warn of.
func TestDryRunWarnsOfNoPods(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{Unprotected: func(*model.Policy) []string { return []string{"naked"} }})
	if r := ask(t, s, webhook.ValidatePath, "CREATE", group, "L7Policy", policy+`{"enforcement":"DryRun","ingress":[{}]}}`); !r.Allowed || len(r.Warnings) > 0 {
		t.Errorf("%+v", r)
	}
	if r := ask(t, s, webhook.ValidatePath, "CREATE", group, "L7Policy", policy+`{"ingress":[{}]}}`); !r.Allowed || len(r.Warnings) != 1 {
		t.Errorf("%+v", r)
	}
}

// Whoever is slow is hung up on, wherever they stop, and keeps nobody else waiting.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	handler := webhook.Handler(webhook.Config{Injection: injection})
	const soon = 200 * time.Millisecond
	s := httptest.NewUnstartedServer(handler)
	s.Config = webhook.NewServer(handler, nil, soon, slog.New(slog.DiscardHandler))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	half := podReview + pod
	for name, sent := range map[string]string{
		"says nothing":     "",
		"half a head":      "POST /inject HTTP/1.1\r\nHost: a\r\nContent-Ty",
		"half a body":      fmt.Sprintf("POST /inject HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(half)+1, half),
		"a body of chunks": "POST /inject HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"api\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if _, err := io.WriteString(conn, sent); err != nil {
				t.Fatal(err)
			}
			// Nothing more is sent. That this ends is the test.
			if answer, err := io.ReadAll(conn); err == nil && strings.Contains(string(answer), "200 OK") {
				t.Errorf("answered: %s", answer)
			}
			if r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", pod); !r.Allowed {
				t.Errorf("others are refused: %+v", r)
			}
		})
	}
}

// An API server asks over HTTP/2, and over one connection many times.
func TestLimitBoundsConnections(t *testing.T) {
	t.Parallel()
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := webhook.Limit(inner)
	t.Cleanup(func() { _ = l.Close() })
	accepted := make(chan net.Conn, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	const most = 256
	var first net.Conn
	dial := func() {
		c, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	for i := range most {
		dial()
		c := <-accepted
		if i == 0 {
			first = c
		}
	}
	dial() // one more waits
	if len(accepted) > 0 {
		t.Error("more than the limit are accepted")
	}
	_ = first.Close() // until one of the others is gone
	<-accepted
}
