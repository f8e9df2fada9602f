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

// guard stands before every stream: it authenticates first, survives a panic, and drops a proxy that does not read or answer.
type guard struct {
	authenticator Authenticator
	logger        *sparseLogger
	metrics       *Metrics
	isPeer        func(tls.ConnectionState) bool
	sendTimeout   time.Duration
	claimInterval time.Duration
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
		return g.survive(func() error { return handler(srv, ss) }) // which is owed no answers
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
	guarded := &guardedStream{ServerStream: ss, ctx: ctx, timeout: g.sendTimeout, stalled: make(chan struct{}, 1)}
	defer guarded.stop()
	done := make(chan error, 1)
	go func() { done <- g.survive(func() error { return handler(srv, guarded) }) }()
	look := time.NewTicker(g.claimInterval)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-guarded.stalled:
			// Returning ends the stream, which frees the goroutine that is stuck in its Send.
			return status.Errorf(codes.DeadlineExceeded, "the proxy did not read and answer for %s", g.sendTimeout)
		case now := <-look.C:
			if err := claim.check(now); err != nil {
				return err
			}
		}
	}
}

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

// guardedStream notices a proxy that takes too long for a response. A Send that returned proves nothing: it may have filled a buffer.
type guardedStream struct {
	grpc.ServerStream
	ctx     context.Context //nolint:containedctx // a stream's context is the stream's
	timeout time.Duration
	stalled chan struct{}

	mu         sync.Mutex
	unanswered int
	timer      *time.Timer // runs while there is something unanswered
}

// Context carries the node that the stream proved.
func (s *guardedStream) Context() context.Context { return s.ctx }

// SendMsg sends a response, which wants an answer.
func (s *guardedStream) SendMsg(m any) error {
	s.count(1)
	return s.ServerStream.SendMsg(m)
}

// RecvMsg receives what may be an answer.
func (s *guardedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.count(-1)
	}
	return err
}

// count adds to what is unanswered, and times what is left.
func (s *guardedStream) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.unanswered
	s.unanswered = max(0, before+n)
	switch {
	case s.unanswered == 0:
		if s.timer != nil {
			s.timer.Stop()
		}
	case n > 0 && before > 0:
		// The timer of the one before runs.
	case s.timer == nil:
		s.timer = time.AfterFunc(s.timeout, func() {
			select {
			case s.stalled <- struct{}{}:
			default:
			}
		})
	default:
		s.timer.Reset(s.timeout)
	}
}

func (s *guardedStream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
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
