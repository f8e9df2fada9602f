package kube

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what goes wrong between the API server and here.
type Metrics struct {
	watchFailures *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{watchFailures: prometheus.NewCounterVec(
		prometheus.CounterOpts{Name: "pilot_lite_watch_failures_total", Help: "Lists and watches of the API server that failed, by kind."}, []string{"kind"},
	)}
	r.MustRegister(m.watchFailures)
	return m
}

func (m *Metrics) watchFailed(kind string) {
	if m != nil {
		m.watchFailures.WithLabelValues(kind).Inc()
	}
}
