package main

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pilot-lite/pilot-lite/pkg/kube/access"
)

const (
	// metricsPath is where metrics stand, on every port that has them; it is also what the ClusterRole pilot-lite-metrics-reader lets read.
	metricsPath = "/metrics"
	// metricsAtOnce bounds how often they are gathered at a time, whoever asks.
	metricsAtOnce = 4
)

func metricsOf(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: metricsAtOnce})
}

// besides is the handler of a port of the network, with the metrics beside it, for callers whom the API server lets read them. Nothing else of the admin interface is.
func (s *clusterServer) besides(handler http.Handler) http.Handler {
	gate := access.New(access.Config{
		Tokens: s.clients.Client.AuthenticationV1().TokenReviews(), Reviews: s.clients.Client.AuthorizationV1().SubjectAccessReviews(),
		Logger: s.logger.With("component", "metrics"),
	})
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, gate.Guard(metricsPath, metricsOf(s.registry)))
	mux.Handle("/", handler)
	return mux
}
