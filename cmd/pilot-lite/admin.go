package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const adminTimeout = 10 * time.Second

// adminParts are what the admin interface shows.
type adminParts struct {
	cache    *xds.Cache
	proxies  func(context.Context) []xds.ProxyStatus // nil: those of the cache
	loop     *controlplane.Loop
	problems func() []model.Diagnostic
	// unready says why nothing can be served, "" when it can; nil where nothing but the cache decides.
	unready  func() string
	registry *prometheus.Registry
}

// admin serves health, metrics, profiles and the status service on one address, which only this machine can reach: it shows every proxy's state.
type admin struct {
	listener net.Listener
	server   *http.Server
	grpc     *grpc.Server
}

func errAdminOpen(address string) error {
	return fmt.Errorf("--admin-address %s: other machines could read every proxy's state and profile this process, and no certificate guards it; listen on 127.0.0.1:PORT or unix:PATH", address)
}

func newAdmin(ctx context.Context, address string, parts adminParts) (*admin, error) {
	l, err := xds.Listen(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("--admin-address: %w", err)
	}
	if xds.LocalOnly(l.Addr()) != nil {
		return nil, errors.Join(errAdminOpen(address), l.Close())
	}
	a := &admin{listener: l, grpc: grpc.NewServer()}
	if parts.proxies == nil {
		parts.proxies = func(context.Context) []xds.ProxyStatus { return parts.cache.Status() }
	}
	statusv3.RegisterClientStatusDiscoveryServiceServer(a.grpc, xds.NewStatusService(parts.proxies))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, !hung(parts.loop), textHung) })
	mux.HandleFunc("GET /readyz", parts.ready)
	mux.Handle("GET /metrics", metricsOf(parts.registry))
	// Where the time and the memory go: what a profile shows is of the program, not of its input.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC in clear text, on a socket that stays on this machine
	a.server = &http.Server{
		Protocols: protocols, ReadHeaderTimeout: adminTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
				a.grpc.ServeHTTP(w, r)
				return
			}
			mux.ServeHTTP(w, r)
		}),
	}
	return a, nil
}

// ready: proxies can be served. What turned bad is named, and is no reason to take the server away from them.
func (p adminParts) ready(w http.ResponseWriter, _ *http.Request) {
	problems, why := p.problems(), p.why()
	switch {
	case why != "":
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, why)
	case len(problems) > 0:
		fmt.Fprintln(w, "ok, but the last good state is in force, and not what stands here:")
	default:
		fmt.Fprintln(w, "ok")
	}
	for _, problem := range problems {
		fmt.Fprintln(w, problem.String())
	}
}

// why is the reason why proxies cannot be served; "" where they can.
func (p adminParts) why() string {
	if p.unready != nil {
		if why := p.unready(); why != "" {
			return "not ready: " + why
		}
	}
	switch {
	case !p.cache.Complete():
		return "not ready: not everything was read without an error yet"
	case p.loop.Degraded():
		return "degraded: the last rebuild failed, and an older configuration is in force; see the log"
	}
	return ""
}

func (a *admin) address() string { return a.listener.Addr().String() }

func (a *admin) serve() error {
	if err := a.server.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

func (a *admin) stop(ctx context.Context) error {
	a.grpc.Stop()
	if err := a.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop admin: %w", err)
	}
	return nil
}
