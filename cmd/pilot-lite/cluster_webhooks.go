package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/guard"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

// controlPort is that of the Service that sidecars connect to.
const controlPort = 15012

// webhooks answers the API server, and scrapers.
type webhooks struct {
	listener net.Listener
	server   *http.Server
}

func (s *clusterServer) newWebhooks(ctx context.Context) (*webhooks, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.options.cluster.webhooks)
	if err != nil {
		return nil, fmt.Errorf("--webhook-address: %w", err)
	}
	logger := s.logger.With("component", "webhook")
	handler := webhook.Handler(webhook.Config{
		Injection: s.injection, Unprotected: s.unprotected, Guard: guard.New(s.source), Logger: logger, Metrics: webhook.NewMetrics(s.registry),
	})
	return &webhooks{listener: webhook.Limit(l), server: webhook.NewServer(s.besides(handler), s.identity.ServerTLS(), webhook.Timeout, logger)}, nil
}

func (w *webhooks) serve() error {
	if err := w.server.ServeTLS(w.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("webhooks: %w", err)
	}
	return nil
}

func (w *webhooks) stop(ctx context.Context) error {
	if err := w.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop the webhooks: %w", err)
	}
	return nil
}

// injection is what a pod is given now.
func (s *clusterServer) injection() (inject.Config, error) {
	o := &s.options.cluster
	if o.image == "" || o.sidecarImage == "" {
		return inject.Config{}, errors.New("the control plane was started without --image and --sidecar-image")
	}
	mesh, known := s.source.Mesh()
	if !known {
		return inject.Config{}, errors.New("the mesh's settings were not read yet")
	}
	own, _ := netip.ParseAddr(os.Getenv("POD_IP"))
	return injectionConfig(injectionSettings{
		image: o.image, sidecarImage: o.sidecarImage, namespace: o.namespace, authority: s.identity.Bundle(), ipv6: own.Is6(), optOut: mesh.OptOutNamespaces,
	}), nil
}

// injectionSettings are what a control plane knows, and whoever injects in its place must be told.
type injectionSettings struct {
	image, sidecarImage string
	namespace           string // the control plane's
	authority           []byte
	ipv6                bool
	optOut              []string
}

// injectionConfig is what a pod is given, by the webhook and by the command alike.
func injectionConfig(s injectionSettings) inject.Config {
	service := serviceName(s.namespace)
	return inject.Config{
		Image: s.image, SidecarImage: s.sidecarImage, Server: net.JoinHostPort(service, strconv.Itoa(controlPort)), ServerName: service,
		CABundle: s.authority, Audience: tokenAudience, IPv6: s.ipv6, OptOutNamespaces: s.optOut,
		// As the webhook's configuration has it.
		ExemptNamespaces: []string{metav1.NamespaceSystem, s.namespace},
	}
}

// unprotected are the running pods that a policy selects and that have no sidecar.
func (s *clusterServer) unprotected(p *model.Policy) []string {
	snapshot, complete := s.source.Snapshot()
	if !complete {
		return nil
	}
	var out []string
	for _, pod := range snapshot.Pods {
		if pod.Namespace == p.Namespace && pod.Expected && pod.Labels[v1alpha1.LabelProxy] != v1alpha1.ProxyInjected && p.Selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, pod.Name)
		}
	}
	return out
}
