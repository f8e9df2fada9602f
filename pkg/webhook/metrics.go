package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what was asked and how long the answers took.
type Metrics struct {
	answers *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_lite_webhook_answers_total", Help: "Answers of the webhooks, by webhook (inject, validate) and result (allowed, refused, malformed, failed).",
		}, []string{"webhook", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pilot_lite_webhook_seconds", Help: "How long the webhooks took to answer.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}, []string{"webhook"}),
	}
	r.MustRegister(m.answers, m.seconds)
	return m
}

func (m *Metrics) answered(webhook, result string, began time.Time) {
	if m == nil {
		return
	}
	m.answers.WithLabelValues(webhook, result).Inc()
	m.seconds.WithLabelValues(webhook).Observe(time.Since(began).Seconds())
}
