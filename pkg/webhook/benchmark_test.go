package webhook_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

// BenchmarkInject asks over TLS and HTTP/2, as an API server does, with several pods at once, and tells how many were answered in a second and how long the slowest
// hundredth took at least.
func BenchmarkInject(b *testing.B) {
	handler := webhook.Handler(webhook.Config{Injection: injection})
	s := httptest.NewUnstartedServer(handler)
	s.Config = webhook.NewServer(handler, nil, webhook.Timeout, slog.New(slog.DiscardHandler))
	s.EnableHTTP2 = true
	s.StartTLS()
	b.Cleanup(s.Close)
	container := `{"name":"web","image":"web:1","ports":[{"name":"http","containerPort":8080}],"env":[` + strings.Repeat(`{"name":"A","value":"b"},`, 30) + `{"name":"A","value":"b"}],
		"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"livenessProbe":{"httpGet":{"path":"/live?a=b","port":"http"}},"readinessProbe":{"httpGet":{"path":"/ready","port":"http"}}}`
	body := podReview + `{"metadata":{"generateName":"web-","labels":{"app":"web"}},"spec":{"containers":[` + container + `,` + strings.Replace(container, "web", "side", 1) + `]}}` + reviewEnd
	var mu sync.Mutex
	var took []time.Duration
	b.SetParallelism(8)
	b.ReportAllocs()
	began := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		var mine []time.Duration
		for pb.Next() {
			sent := time.Now()
			resp, err := s.Client().Post(s.URL+webhook.InjectPath, "application/json", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				b.Errorf("%d %v", resp.StatusCode, err)
			}
			_ = resp.Body.Close()
			mine = append(mine, time.Since(sent))
		}
		mu.Lock()
		took = append(took, mine...)
		mu.Unlock()
	})
	elapsed := time.Since(began)
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/elapsed.Seconds(), "req/s")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
