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
	pushes  [kinds]prometheus.Counter
	bytes   [kinds]prometheus.Counter
	acks    [kinds]prometheus.Counter
	nacks   [kinds]prometheus.Counter
	ended   *prometheus.CounterVec
	panics  prometheus.Counter
	expired prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) (ofKind [kinds]prometheus.Counter) {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pilot_lite_" + name, Help: help}, []string{"type"})
		r.MustRegister(vec)
		for k := range kinds {
			typeURL := k.typeURL()
			ofKind[k] = vec.WithLabelValues(typeURL[strings.LastIndexByte(typeURL, '.')+1:])
		}
		return ofKind
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
	r.MustRegister(m.proxies, m.streams, m.ended, m.panics, m.expired)
	return m
}

func (m *Metrics) pushed(k kind, f *flight) {
	if m == nil {
		return
	}
	n := 0
	for _, b := range f.bodies {
		n += b.size
	}
	m.pushes[k].Inc()
	m.bytes[k].Add(float64(n))
}

func (m *Metrics) acked(k kind) {
	if m != nil {
		m.acks[k].Inc()
	}
}

func (m *Metrics) nacked(k kind) {
	if m != nil {
		m.nacks[k].Inc()
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
