package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const (
	defaultXDSAddress   = "127.0.0.1:15010"
	defaultAdminAddress = "127.0.0.1:15014"
	// stopTime is how long a stop may take.
	stopTime = 10 * time.Second
)

type serveOptions struct {
	cluster                   clusterOptions
	paths                     []string
	meshConfig                string
	xdsAddress, adminAddress  string
	tlsCert, tlsKey, tokenKey string
	logFormat, logLevel       string
}

func newServeCmd(s streams) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve proxies from a cluster, or from files, and follow edits",
		Long: `Serves every proxy its workload's configuration over xDS, and follows edits. Nothing is served before everything was read once.

With --from it reads the YAML that kubectl apply takes. A file that turns bad keeps its last good state in force. Without --from it serves the cluster that it
runs in, or that of a kubeconfig: it also injects sidecars, applies the companion NetworkPolicies and writes the policies' status.

With --from and without a certificate the xDS address must be a loopback address or a UNIX socket. With one, every proxy needs the token that "pilot-lite bootstrap" writes.
The admin address has /healthz, /readyz, /metrics, /debug/pprof/ and the status service, and is never open to the network.`,
		Example: "  pilot-lite serve --from policies/\n  pilot-lite serve --from policies/ --xds-address 0.0.0.0:15012 --tls-cert cert.pem --tls-key key.pem --token-key token.key",
		Args:    takesNothing("name files with --from"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.paths) > 0 {
				if err := unused(cmd.Flags(), "with --from", clusterFlags()...); err != nil {
					return err
				}
			}
			// The other commands end at once when they are told to.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // whoever tells it twice does not want to wait
			return o.run(ctx, s)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.paths, "from", nil, "file or folder to serve; repeatable")
	f.StringArrayVarP(&o.paths, "filename", "f", nil, "the same as --from")
	f.StringVar(&o.meshConfig, "mesh-config", "", "file with the MeshConfig, if it is not among the files")
	f.StringVar(&o.xdsAddress, "xds-address", "", "where proxies connect: HOST:PORT or unix:PATH (default "+defaultXDSAddress+", in a cluster "+clusterXDSAddress+")")
	f.StringVar(&o.adminAddress, "admin-address", defaultAdminAddress, "health, metrics and status: a loopback HOST:PORT or unix:PATH")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM file of the certificate to serve xDS with; read again when it changes")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file of its key")
	f.StringVar(&o.tokenKey, "token-key", "", "file with at least 32 secret bytes, from which the proxies' tokens are made")
	o.cluster.flags(f)
	alias(cmd, "namespace", "system-namespace")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	return cmd
}

func (o *serveOptions) check() error {
	switch {
	case len(o.paths) == 0 && (o.tlsCert != "" || o.tokenKey != "" || o.meshConfig != ""):
		return errors.New("--tls-cert, --tls-key, --token-key and --mesh-config go with --from: in a cluster the control plane makes its own certificate, and reads the ConfigMap pilot-lite")
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case o.tlsCert != "" && o.tokenKey == "":
		return errors.New("--tls-cert without --token-key: any client could name itself any proxy; make a key with: head -c 32 /dev/urandom > token.key")
	}
	if o.xdsAddress == "" {
		o.xdsAddress = defaultXDSAddress
		if len(o.paths) == 0 {
			o.xdsAddress = clusterXDSAddress
		}
	}
	if slices.Contains(o.paths, "-") {
		return errors.New("standard input cannot be followed: name files or folders")
	}
	return cmp.Or(
		inputs(input{"--from", o.paths}), existing("--mesh-config", o.meshConfig), existing("--tls-cert", o.tlsCert), existing("--tls-key", o.tlsKey),
		existing("--token-key", o.tokenKey), existing("--kubeconfig", o.cluster.kubeconfig), o.addresses(),
	)
}

// addresses checks where to listen, before anything does.
func (o *serveOptions) addresses() error {
	open, err := socketAddress("--xds-address", o.xdsAddress)
	switch {
	case err != nil:
		return err
	case open && len(o.paths) > 0 && o.tlsCert == "":
		return fmt.Errorf("--xds-address %s without TLS: other machines could read and claim any proxy's configuration; listen on 127.0.0.1:PORT or unix:PATH, or give --tls-cert, --tls-key and --token-key", o.xdsAddress)
	}
	if open, err = socketAddress("--admin-address", o.adminAddress); err != nil {
		return err
	}
	if open {
		return errAdminOpen(o.adminAddress)
	}
	_, health := hostOf("--health-address", o.cluster.health, "HOST:PORT")
	_, webhooks := hostOf("--webhook-address", o.cluster.webhooks, "HOST:PORT")
	return cmp.Or(health, webhooks)
}

func (o *serveOptions) logger(s streams) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: choose debug, info, warn or error", o.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(s.err, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(s.err, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: choose text or json", o.logFormat)
}

func (o *serveOptions) security(logger *slog.Logger) (xds.ServerConfig, error) {
	var c xds.ServerConfig
	if o.tlsCert != "" {
		files, err := identity.NewFiles(o.tlsCert, o.tlsKey, logger.With("component", "identity"))
		if err != nil {
			return c, err
		}
		c.TLS = files.ServerTLS()
	}
	if o.tokenKey != "" {
		key, err := readKey(o.tokenKey)
		if err != nil {
			return c, err
		}
		if c.Authenticator, err = xds.NewTokenAuthenticator(key); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (o *serveOptions) run(ctx context.Context, s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	logger, err := o.logger(s)
	if err != nil {
		return err
	}
	if len(o.paths) == 0 {
		if s.clientGo != nil {
			s.clientGo(logger.With("component", "client-go"))
		}
		return o.serveCluster(ctx, logger)
	}
	return o.serveFiles(ctx, logger)
}

// serveFiles serves what stands in files.
func (o *serveOptions) serveFiles(ctx context.Context, logger *slog.Logger) error {
	security, err := o.security(logger)
	if err != nil {
		return err
	}
	paths := o.paths
	if o.meshConfig != "" {
		if _, err := readMeshConfig(o.meshConfig); err != nil {
			return err
		}
		paths = append(paths, o.meshConfig)
	}
	source := filesource.New(filesource.Config{Paths: paths, Logger: logger.With("component", "files")})
	c, err := newCore(source, newRegistry(), logger)
	if err != nil {
		return failure{err}
	}
	countProblems(c.registry, source.Problems)
	group, ctx := errgroup.WithContext(ctx)
	if err := c.start(ctx, group, o, security, adminParts{problems: source.Problems}); err != nil {
		return err
	}
	return ended(group)
}

func countProblems(r prometheus.Registerer, problems func() []model.Diagnostic) {
	r.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "pilot_lite_file_problems", Help: "Errors in files, whose last good state is in force instead, if they had one."},
		func() float64 { return float64(len(problems())) },
	))
}

// source is where snapshots come from.
type source interface {
	controlplane.Source
	Run(ctx context.Context) error
}

// core is what every server has: a source, the loop, the cache and the xDS server on it.
type core struct {
	logger   *slog.Logger
	registry *prometheus.Registry
	source   source
	cache    *xds.Cache
	loop     *controlplane.Loop
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func newCore(src source, registry *prometheus.Registry, logger *slog.Logger) (*core, error) {
	shut, err := shutSlots()
	if err != nil {
		return nil, err
	}
	cache := xds.NewCache(xds.Config{Salter: translate.Salt, Shut: shut, Logger: logger.With("component", "xds"), Metrics: xds.NewMetrics(registry)})
	loop := controlplane.New(src, cache, logger.With("component", "loop"), controlplane.NewMetrics(registry))
	return &core{logger: logger, registry: registry, source: src, cache: cache, loop: loop}, nil
}

// start opens both addresses, and starts everything in the group; it stops when ctx is done.
func (c *core) start(ctx context.Context, group *errgroup.Group, o *serveOptions, security xds.ServerConfig, parts adminParts) error {
	security.Logger = c.logger.With("component", "xds")
	server, err := xds.NewServer(c.cache, security)
	if err != nil {
		return err
	}
	listener, err := xds.Listen(ctx, o.xdsAddress)
	if err != nil {
		return failure{fmt.Errorf("--xds-address: %w", err)}
	}
	if security.TLS == nil { // a host's name may stand for any address
		if err := xds.LocalOnly(listener.Addr()); err != nil {
			return failure{errors.Join(fmt.Errorf("--xds-address %s: %w", o.xdsAddress, err), listener.Close())}
		}
	}
	parts.cache, parts.loop, parts.registry = c.cache, c.loop, c.registry
	admin, err := newAdmin(ctx, o.adminAddress, parts)
	if err != nil {
		return failure{errors.Join(err, listener.Close())}
	}
	c.logger.Info("serving", "version", version, "xds", listener.Addr().String(), "admin", admin.address())
	group.Go(func() error { return c.source.Run(ctx) })
	group.Go(func() error { c.loop.Run(ctx); return nil })
	group.Go(func() error { return server.Serve(listener) })
	group.Go(admin.serve)
	group.Go(func() error {
		<-ctx.Done()
		c.logger.Info("stopping")
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		server.Stop(stopping)
		return admin.stop(stopping)
	})
	return nil
}

func ended(group *errgroup.Group) error {
	if err := group.Wait(); err != nil {
		return failure{err}
	}
	return nil
}

// shutSlots are the slots of a proxy whose pod is gone: those of a workload that an Allow without rules isolates.
func shutSlots() ([]*xds.Resource, error) {
	slots := rbac.Compile(rbac.Input{Policies: []rbac.Policy{{Action: model.Allow}}})
	var out []*xds.Resource
	for _, slot := range []*translate.Resource{{Message: slots.HTTP}, {Message: slots.TCP}} {
		r, err := xds.NewResource(slot.Message, nil)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
