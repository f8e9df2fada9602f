package xds

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// guard stands before every stream: it authenticates first, and survives a panic.
type guard struct {
	authenticator Authenticator
	logger        *sparseLogger
	metrics       *Metrics
	isPeer        func(tls.ConnectionState) bool
}

func (g *guard) unary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unimplemented, "only streams are served")
}

func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	err := g.serve(srv, ss, info, handler)
	code := status.Code(err)
	if code != codes.OK && code != codes.Canceled {
		g.metrics.streamEnded(code)
	}
	switch code {
	case codes.OK, codes.Canceled, codes.Unavailable:
	default:
		from := ""
		if p, ok := peer.FromContext(ss.Context()); ok {
			from = p.Addr.String()
		}
		g.logger.warn("a stream was ended", "peer", from, "error", err)
	}
	return err
}

func (g *guard) serve(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.FullMethod == reportsMethod {
		if err := g.checkPeer(ss.Context()); err != nil {
			return err
		}
		return g.survive(func() error { return handler(srv, ss) })
	}
	return g.run(srv, ss, handler)
}

func (g *guard) run(srv any, ss grpc.ServerStream, handler grpc.StreamHandler) error {
	ctx := ss.Context()
	var claim Claim
	if g.authenticator != nil {
		var err error
		if claim, err = g.authenticator.Authenticate(ctx); err != nil {
			return err
		}
		ctx = context.WithValue(ctx, claimKey{}, claim)
	}
	return g.survive(func() error { return handler(srv, provenStream{ss, ctx}) })
}

// provenStream carries what its credentials prove.
type provenStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a stream's context is the stream's
}

// Context carries the claim.
func (s provenStream) Context() context.Context { return s.ctx }

// survive makes an error of a panic.
func (g *guard) survive(handle func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			g.metrics.panicked()
			g.logger.logger.Error("a stream panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = status.Error(codes.Internal, "internal error")
		}
	}()
	return handle()
}

// sparseLogger writes one line a second: what is logged is what strangers do, who can do it as often as they like.
type sparseLogger struct {
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	last    time.Time
	skipped int
}

func (l *sparseLogger) warn(message string, attrs ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.Sub(l.last) >= time.Second {
		l.logger.Warn(message, append(attrs, "skipped", l.skipped)...)
		l.last, l.skipped = now, 0
		return
	}
	l.skipped++
}
