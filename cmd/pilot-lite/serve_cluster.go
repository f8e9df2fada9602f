package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/podauth"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// Where a control plane in a cluster listens.
const (
	clusterXDSAddress    = "0.0.0.0:15012"
	defaultHealthAddress = "0.0.0.0:15020"
	defaultWebhooks      = "0.0.0.0:15017"
	defaultNamespace     = "pilot-lite-system"
)

const (
	controlPlaneName = "pilot-lite" // of its Service, account, Lease and webhooks
	tokenAudience    = "pilot-lite"
)

// clusterOptions are for serving a cluster.
type clusterOptions struct {
	kubeconfig, namespace string
	image, sidecarImage   string
	webhooks, health      string
	staleAfter            time.Duration // kube.StaleAfter; tests have less patience
}

func (o *clusterOptions) flags(f *pflag.FlagSet) {
	o.staleAfter = kube.StaleAfter
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "cluster to serve (default: the one that this process runs in, else kubectl's)")
	f.StringVar(&o.namespace, "system-namespace", envOr("POD_NAMESPACE", defaultNamespace), "the control plane's own namespace")
	f.StringVar(&o.image, "image", "", "this program's image, for the init container that captures")
	f.StringVar(&o.sidecarImage, "sidecar-image", "", "Envoy's image")
	f.StringVar(&o.webhooks, "webhook-address", defaultWebhooks, "where the API server calls the webhooks, and scrapers read /metrics with a token: HOST:PORT")
	f.StringVar(&o.health, "health-address", defaultHealthAddress, "where the kubelet asks for health: HOST:PORT")
}

// clusterFlags are the names of the flags of clusterOptions.
func clusterFlags() []string {
	var names []string
	f := pflag.NewFlagSet("cluster", pflag.ContinueOnError)
	new(clusterOptions).flags(f)
	f.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	return names
}

func envOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// serviceName is the name that sidecars and the API server know the control plane by.
func (o *clusterOptions) serviceName() string { return serviceName(o.namespace) }

func serviceName(namespace string) string { return controlPlaneName + "." + namespace + ".svc" }

// clusterServer serves a cluster.
type clusterServer struct {
	*core
	options  *serveOptions
	clients  *kube.Clients
	source   *kube.Source
	identity *identity.Manager
	trust    *identity.Metrics
}

// serveCluster serves a cluster.
func (o *serveOptions) serveCluster(ctx context.Context, logger *slog.Logger) error {
	clients, err := kube.Connect(o.cluster.kubeconfig, "pilot-lite/"+version)
	if err != nil {
		return orFiles(err, "--from")
	}
	registry := newRegistry()
	s := &clusterServer{options: o, clients: clients, source: kube.NewSource(kube.Config{
		Client: clients.Client, Policies: clients.Policies, Namespace: o.cluster.namespace, StaleAfter: o.cluster.staleAfter,
		Logger: logger.With("component", "kube"), Metrics: kube.NewMetrics(registry),
	})}
	if s.core, err = newCore(s.source, registry, logger); err != nil {
		return failure{err}
	}
	id := &url.URL{Scheme: "spiffe", Host: convert.DefaultMesh().TrustDomain, Path: "/ns/" + o.cluster.namespace + "/sa/" + controlPlaneName}
	service := o.cluster.serviceName()
	s.trust = identity.NewMetrics(registry)
	s.identity = identity.New(identity.Config{
		Secrets: clients.Client.CoreV1().Secrets(o.cluster.namespace), Namespace: o.cluster.namespace, Logger: logger.With("component", "identity"), ID: id,
		Metrics: s.trust,
		Names: []string{
			service, controlPlaneName + "." + o.cluster.namespace, service + "." + convert.ClusterDomain, controlPlaneName + "-replicas." + o.cluster.namespace + ".svc",
		},
	})
	if err := s.identity.Start(ctx); err != nil {
		return failure{err}
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := s.start(ctx, group); err != nil {
		return err
	}
	return ended(group)
}

func (s *clusterServer) start(ctx context.Context, group *errgroup.Group) error {
	ready := func() bool { return s.cache.Complete() && !s.loop.Degraded() && s.unready() == "" }
	health, err := newHealth(ctx, s.options.cluster.health, ready, func() bool { return hung(s.loop) })
	if err != nil {
		return failure{err}
	}
	hooks, err := s.newWebhooks(ctx)
	if err != nil {
		return failure{err}
	}
	writing, err := s.newWriters()
	if err != nil {
		return failure{err}
	}
	security := xds.ServerConfig{TLS: s.identity.PeerTLS(), Authenticator: s.authenticator(), IsPeer: identity.IsPeer}
	parts := adminParts{problems: s.source.Problems, unready: s.unready, proxies: s.everyProxy}
	if err := s.core.start(ctx, group, s.options, security, parts); err != nil {
		return err
	}
	group.Go(func() error { return s.identity.Run(ctx) })
	group.Go(health.serve)
	group.Go(hooks.serve)
	group.Go(func() error { return writing.run(ctx) })
	group.Go(func() error { s.tell(ctx, writing); return nil })
	group.Go(func() error {
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		return errors.Join(hooks.stop(stopping), health.stop(stopping))
	})
	return nil
}

// unready says why no new stream should be taken.
func (s *clusterServer) unready() string {
	if waiting := s.source.Waiting(); len(waiting) > 0 {
		return "not everything was listed yet: " + strings.Join(waiting, ", ")
	}
	if stale := s.source.Stale(time.Now()); len(stale) > 0 {
		return fmt.Sprintf("nothing was heard of %s for %s; what was read last is in force", strings.Join(stale, ", "), s.options.cluster.staleAfter)
	}
	return ""
}

// authenticator knows sidecars by their pods' tokens.
func (s *clusterServer) authenticator() xds.Authenticator {
	return &podAuthenticator{unready: s.unready, pods: podauth.New(podauth.Config{
		Audience: tokenAudience,
		Raw:      podauth.FromAPIServer(s.clients.Client.Discovery().RESTClient()),
		Review:   podauth.ReviewBy(s.clients.Client.AuthenticationV1().TokenReviews()),
		Account:  s.source.Account,
		Pod: func(namespace, name string) (podauth.Pod, bool) {
			p, found := s.source.Pod(namespace, name)
			return podauth.Pod{UID: p.UID, ServiceAccount: p.ServiceAccount, Ended: p.Ended}, found
		},
		Logger: s.logger.With("component", "podauth"),
	})}
}
