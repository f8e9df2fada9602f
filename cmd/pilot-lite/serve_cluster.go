package main

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// Where a control plane in a cluster listens.
const (
	clusterXDSAddress    = "0.0.0.0:15012"
	defaultHealthAddress = "0.0.0.0:15020"
	defaultWebhooks      = "0.0.0.0:15017"
	defaultNamespace     = "pilot-lite-system"
)

// clusterOptions are for serving a cluster.
type clusterOptions struct {
	kubeconfig, namespace  string
	image, sidecarImage    string
	webhooks, health       string
	podName, podIP, server string
}

func (o *clusterOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "cluster to serve (default: the one that this process runs in, else kubectl's)")
	f.StringVar(&o.namespace, "namespace", envOr("POD_NAMESPACE", defaultNamespace), "the control plane's own namespace")
	f.StringVar(&o.image, "image", "", "this program's image, for the init container that captures")
	f.StringVar(&o.sidecarImage, "sidecar-image", "", "Envoy's image")
	f.StringVar(&o.webhooks, "webhook-address", defaultWebhooks, "where the API server calls the webhooks: HOST:PORT")
	f.StringVar(&o.health, "health-address", defaultHealthAddress, "where the kubelet asks for health: HOST:PORT")
}

func envOr(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// serveCluster serves a cluster.
func (o *serveOptions) serveCluster(ctx context.Context, logger *slog.Logger) error {
	clients, err := kube.Connect(o.cluster.kubeconfig, "pilot-lite/"+version)
	if err != nil {
		return failure{err}
	}
	registry := newRegistry()
	src := kube.NewSource(kube.Config{
		Client: clients.Client, Dynamic: clients.Dynamic, Namespace: o.cluster.namespace, Logger: logger.With("component", "kube"), Metrics: kube.NewMetrics(registry),
	})
	c, err := newCore(src, registry, logger)
	if err != nil {
		return failure{err}
	}
	group, ctx := errgroup.WithContext(ctx)
	unready := func() string {
		if waiting := src.Waiting(); len(waiting) > 0 {
			return "not everything was listed yet: " + strings.Join(waiting, ", ")
		}
		if stale := src.Stale(time.Now()); len(stale) > 0 {
			return "nothing was heard of " + strings.Join(stale, ", ") + " for a minute; what was read last is in force"
		}
		return ""
	}
	if err := c.start(ctx, group, o, xds.ServerConfig{}, adminParts{problems: src.Problems, unready: unready}); err != nil {
		return err
	}
	return ended(group)
}
