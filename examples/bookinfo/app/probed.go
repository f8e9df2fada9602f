package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Where the role "probed" listens: one port for each kind of probe, and one on loopback where its own pod makes it ill or well.
const (
	probedHTTP    = ":8080"
	probedGRPC    = ":8081"
	probedTCP     = ":8082"
	probedControl = "127.0.0.1:8090"
)

// probed answers probes of every kind, and fails those that it is told to. It is no part of the shop: tests hold kubelet and sidecar against it.
type probed struct {
	sickHTTP, sickGRPC atomic.Bool

	mu  sync.Mutex
	tcp net.Listener // nil while that port is shut
}

func serveProbed(ctx context.Context, logger *slog.Logger) error {
	p := &probed{}
	if err := p.open(ctx); err != nil {
		return err
	}
	defer p.shut()
	return serve(ctx, []listener{
		listener{address: probedHTTP, handler: http.HandlerFunc(p.http)}.named(roleProbed),
		listener{address: probedGRPC, handler: http.HandlerFunc(p.grpc), clearHTTP2: true}.named(roleProbed),
		listener{address: probedControl, handler: p.control()}.named(roleProbed),
	}, logger)
}

// http wants the query that the probe has: a probe that lost it on its way fails.
func (p *probed) http(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/healthz" || r.URL.Query().Get("check") != "full":
		writeProblem(w, http.StatusBadRequest, "want /healthz?check=full")
	case p.sickHTTP.Load():
		writeProblem(w, http.StatusInternalServerError, "told to fail")
	default:
		fmt.Fprintln(w, "ok")
	}
}

// grpc is grpc.health.v1.Health/Check: a message of one field, the status.
func (p *probed) grpc(w http.ResponseWriter, r *http.Request) {
	const serving, notServing = 1, 2
	status := byte(serving)
	if p.sickGRPC.Load() {
		status = notServing
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	if r.URL.Path != "/grpc.health.v1.Health/Check" {
		w.Header().Set("Grpc-Status", "12")
		return
	}
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, status}) // a caller that is gone needs no answer
	w.Header().Set("Grpc-Status", "0")
}

func (p *probed) control() http.Handler {
	mux := http.NewServeMux()
	for state, sick := range map[string]bool{"ill": true, "well": false} {
		mux.HandleFunc("POST /http/"+state, func(http.ResponseWriter, *http.Request) { p.sickHTTP.Store(sick) })
		mux.HandleFunc("POST /grpc/"+state, func(http.ResponseWriter, *http.Request) { p.sickGRPC.Store(sick) })
	}
	mux.HandleFunc("POST /tcp/ill", func(http.ResponseWriter, *http.Request) { p.shut() })
	mux.HandleFunc("POST /tcp/well", func(w http.ResponseWriter, r *http.Request) {
		if err := p.open(context.WithoutCancel(r.Context())); err != nil {
			writeProblem(w, http.StatusInternalServerError, err.Error())
		}
	})
	return mux
}

func (p *probed) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tcp != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", probedTCP)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", probedTCP, err)
	}
	p.tcp = l
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_ = c.Close()
			}
		}
	}()
	return nil
}

func (p *probed) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tcp != nil {
		_ = p.tcp.Close()
		p.tcp = nil
	}
}
