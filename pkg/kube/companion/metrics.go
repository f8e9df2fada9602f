package companion

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts companions and what was written of them.
type Metrics struct {
	companions *prometheus.GaugeVec
	writes     *prometheus.CounterVec
	repairs    prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		companions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pilot_lite_companions", Help: "Companion NetworkPolicies by how they stand; the leader's count."}, []string{"phase"}),
		writes: prometheus.NewCounterVec(
			prometheus.CounterOpts{Name: "pilot_lite_companion_writes_total", Help: "Writes of companion NetworkPolicies, by verb and result."}, []string{"verb", "result"},
		),
		repairs: prometheus.NewCounter(prometheus.CounterOpts{Name: "pilot_lite_companion_repairs_total", Help: "Companions that somebody else had changed or deleted, and that were put back."}),
	}
	r.MustRegister(m.companions, m.writes, m.repairs)
	return m
}

func (m *Metrics) counted(counts map[Phase]int) {
	if m == nil {
		return
	}
	for _, p := range []Phase{Stands, Pending, Foreign, Failed} {
		m.companions.WithLabelValues(string(p)).Set(float64(counts[p]))
	}
}

func (m *Metrics) wrote(a *action) {
	if m == nil {
		return
	}
	verb, result := "apply", "ok"
	if a.desired == nil {
		verb = "delete"
	}
	switch {
	case a.outcome.conflict:
		result = "conflict"
	case a.outcome.refused:
		result = "refused"
	case a.outcome.message != "":
		result = "failed"
	case a.repair:
		m.repairs.Inc()
	}
	m.writes.WithLabelValues(verb, result).Inc()
}
