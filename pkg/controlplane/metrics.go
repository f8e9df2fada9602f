package controlplane

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Metrics measures the loop.
type Metrics struct {
	seconds     prometheus.Histogram
	failures    prometheus.Counter
	degraded    prometheus.Gauge
	diagnostics *prometheus.GaugeVec
	listed      []model.Diagnostic // that are counted there
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pilot_lite_rebuild_seconds", Help: "Time from a change to the complete new configuration.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		failures:    prometheus.NewCounter(prometheus.CounterOpts{Name: "pilot_lite_rebuild_failures_total", Help: "Rebuilds that failed and left the configuration as it was."}),
		degraded:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_lite_degraded", Help: "1 while the last rebuild failed."}),
		diagnostics: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pilot_lite_diagnostics", Help: "Findings in the present configuration, by code."}, []string{"code"}),
	}
	r.MustRegister(m.seconds, m.failures, m.degraded, m.diagnostics)
	return m
}

func (m *Metrics) rebuilt(took time.Duration, output *translate.Output, err error) {
	if m == nil {
		return
	}
	if err != nil {
		m.failures.Inc()
		m.degraded.Set(1)
		return
	}
	m.degraded.Set(0)
	if output == nil {
		return
	}
	m.seconds.Observe(took.Seconds())
	if m.listed != nil && model.SameSlice(m.listed, output.Diagnostics) {
		return // the very same list
	}
	m.listed = output.Diagnostics
	m.diagnostics.Reset()
	for _, d := range output.Diagnostics {
		m.diagnostics.WithLabelValues(d.Code).Inc()
	}
}
