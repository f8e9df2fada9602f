package xds

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// Metrics counts what is served. No series names a proxy: ten thousand of them would.
type Metrics struct {
	proxies prometheus.Gauge
	streams prometheus.Gauge
	pushes  *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	acks    *prometheus.CounterVec
	nacks   *prometheus.CounterVec
	ended   *prometheus.CounterVec
	panics  prometheus.Counter
	expired prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_lite_" + name, Help: help}, []string{"type"})
	}
	m := &Metrics{
		proxies: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_lite_proxies", Help: "Connected proxies."}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pilot_lite_streams", Help: "Open xDS streams."}),
		pushes:  counter("pushes_total", "Responses sent to proxies, by resource type."),
		bytes:   counter("push_bytes_total", "Bytes of resources sent to proxies, by resource type."),
		acks:    counter("acks_total", "Responses that proxies acknowledged, by resource type."),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilot_lite_streams_ended_total", Help: "xDS streams that were refused, or ended for a reason other than that the proxy left, by gRPC status.",
		}, []string{"code"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "pilot_lite_xds_panics_total", Help: "Panics that one stream's handling was stopped by."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pilot_lite_holds_expired_total", Help: "New proxies that were served before every other had acknowledged their address.",
		}),
		nacks: counter("nacks_total", "Responses that proxies refused, by resource type."),
	}
	r.MustRegister(m.proxies, m.streams, m.pushes, m.bytes, m.acks, m.nacks, m.ended, m.panics, m.expired)
	return m
}

// shortType is the last part of a served type's URL; only those come here, since each is a series.
func shortType(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

func (m *Metrics) pushed(typeURL string, f *flight) {
	if m == nil {
		return
	}
	n := 0
	for _, b := range f.bodies {
		n += b.size
	}
	m.pushes.WithLabelValues(shortType(typeURL)).Inc()
	m.bytes.WithLabelValues(shortType(typeURL)).Add(float64(n))
}

func (m *Metrics) acked(typeURL string) {
	if m != nil {
		m.acks.WithLabelValues(shortType(typeURL)).Inc()
	}
}

func (m *Metrics) nacked(typeURL string) {
	if m != nil {
		m.nacks.WithLabelValues(shortType(typeURL)).Inc()
	}
}

func (m *Metrics) opened() {
	if m != nil {
		m.streams.Inc()
	}
}

func (m *Metrics) closed() {
	if m != nil {
		m.streams.Dec()
	}
}

func (m *Metrics) setProxies(n int) {
	if m != nil {
		m.proxies.Set(float64(n))
	}
}

func (m *Metrics) panicked() {
	if m != nil {
		m.panics.Inc()
	}
}

func (m *Metrics) streamEnded(code codes.Code) {
	if m != nil {
		m.ended.WithLabelValues(code.String()).Inc()
	}
}

func (m *Metrics) holdExpired() {
	if m != nil {
		m.expired.Inc()
	}
}
