package kube

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what goes wrong between the API server and here.
type Metrics struct {
	watchFailures, gone *prometheus.CounterVec
	undefined           *prometheus.GaugeVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	kind := []string{"kind"}
	m := &Metrics{
		watchFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_lite_watch_failures_total", Help: "Lists and watches of the API server that failed, by kind.",
		}, kind),
		gone: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_lite_objects_gone_total", Help: "Objects that a new list lacked although nobody had told of their deletion, by kind.",
		}, kind),
		undefined: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pilot_lite_kind_undefined", Help: "1 while the API server does not know a kind."}, kind),
	}
	r.MustRegister(m.watchFailures, m.gone, m.undefined)
	return m
}

func (m *Metrics) watchFailed(kind string) {
	if m != nil {
		m.watchFailures.WithLabelValues(kind).Inc()
	}
}

func (m *Metrics) vanished(kind string, n int) {
	if m != nil {
		m.gone.WithLabelValues(kind).Add(float64(n))
	}
}

func (m *Metrics) defined(kind string, is bool) {
	if m == nil {
		return
	}
	value := 1.0
	if is {
		value = 0
	}
	m.undefined.WithLabelValues(kind).Set(value)
}
