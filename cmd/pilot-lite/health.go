package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// health answers the kubelet. It is open to the network, so it says whether and nothing else: why stands at the admin address.
type health struct {
	listener net.Listener
	server   *http.Server
}

const (
	healthTimeout = 5 * time.Second
	// hungAfter is how long a rebuild may take: the largest takes seconds. One that never ends keeps every edit back, and only another process helps.
	hungAfter = time.Minute
	textHung  = "a rebuild does not end"
)

// say answers "ok", or with 503 what is not.
func say(w http.ResponseWriter, ok bool, otherwise string) {
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, otherwise)
		return
	}
	fmt.Fprintln(w, "ok")
}

// hung says whether the process should be ended. Nothing that comes from outside is a reason: a replica that lost the API server serves what it has.
func hung(loop interface{ Rebuilding() time.Duration }) bool { return loop.Rebuilding() > hungAfter }

func newHealth(ctx context.Context, address string, ready, hung func() bool) (*health, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--health-address: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, !hung(), textHung) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { say(w, ready(), "not ready") })
	return &health{listener: l, server: &http.Server{
		Handler: mux, ReadHeaderTimeout: healthTimeout, ReadTimeout: healthTimeout, WriteTimeout: healthTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	}}, nil
}

func (h *health) serve() error {
	if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("health: %w", err)
	}
	return nil
}

func (h *health) stop(ctx context.Context) error {
	if err := h.server.Shutdown(ctx); err != nil {
		return fmt.Errorf("stop health: %w", err)
	}
	return nil
}
