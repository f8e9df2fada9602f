package identity

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics tell when certificates end, and when somebody should look.
type Metrics struct {
	authorityEnds, certificateEnds, unreadable prometheus.Gauge
	untrusted                                  *prometheus.GaugeVec
	repairs                                    *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_lite_" + name, Help: help})
	}
	m := &Metrics{
		authorityEnds:   gauge("authority_expiry_timestamp_seconds", "When the authority that signs ends. It has a successor long before."),
		certificateEnds: gauge("certificate_expiry_timestamp_seconds", "When this replica's certificate ends. It is replaced at two thirds of its time."),
		unreadable:      gauge("authority_unreadable", "1 while the Secret of the authority cannot be read, or holds something else: the authority that was read last is in use."),
		untrusted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pilot_lite_webhooks_untrusted", Help: "1 while a webhooks' configuration lacks the authority and cannot be repaired: pods that want a sidecar are refused.",
		}, []string{"kind"}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_lite_webhooks_repairs_total", Help: "How often a webhooks' configuration was given the authority, because it lacked it or somebody had changed it.",
		}, []string{"kind"}),
	}
	r.MustRegister(m.authorityEnds, m.certificateEnds, m.unreadable, m.untrusted, m.repairs)
	return m
}

func (m *Metrics) ends(authority, certificate time.Time) {
	if m != nil {
		m.authorityEnds.Set(float64(authority.Unix()))
		m.certificateEnds.Set(float64(certificate.Unix()))
	}
}

func (m *Metrics) readable(is bool) {
	if m != nil {
		m.unreadable.Set(oneIf(!is))
	}
}

func (m *Metrics) trusted(kind string, is bool) {
	if m != nil {
		m.untrusted.WithLabelValues(kind).Set(oneIf(!is))
	}
}

// notLooking is called by who does not lead any more: the next leader's word counts.
func (m *Metrics) notLooking() {
	if m != nil {
		m.untrusted.Reset()
	}
}

func (m *Metrics) repaired(kind string) {
	if m != nil {
		m.repairs.WithLabelValues(kind).Inc()
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
