package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// Limits of the server. A sidecar needs little; what asks for more is not one.
const (
	maxMessageBytes   = 4 << 20
	maxHeaderBytes    = 16 << 10
	maxStreamsPerConn = 1_000
	maxConnections    = 20_000
	handshakeTimeout  = 10 * time.Second
	keepaliveInterval = 30 * time.Second
	keepaliveTimeout  = 10 * time.Second
	minClientPing     = 10 * time.Second
	sendTimeout       = 20 * time.Second
)

// ServerConfig configures a Server.
type ServerConfig struct {
	TLS           *tls.Config   // nil: clear text, which only loopback and UNIX sockets may carry
	Authenticator Authenticator // required with TLS, unless TLS itself proves the node
	Logger        *slog.Logger
	SendTimeout   time.Duration // how long a stream's reader may stall; 20 s where 0
}

// Server serves a cache over ADS.
type Server struct {
	grpc   *grpc.Server
	cancel context.CancelFunc
	secure bool
}

// NewServer returns a server; Serve starts it.
func NewServer(c *Cache, config ServerConfig) (*Server, error) {
	if config.TLS != nil && config.Authenticator == nil {
		return nil, errors.New("serve over TLS without an authenticator: any client could name itself any node; give a token key")
	}
	if config.SendTimeout == 0 {
		config.SendTimeout = sendTimeout
	}
	guard := &guard{authenticator: config.Authenticator, logger: config.Logger, sendTimeout: config.SendTimeout}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.ConnectionTimeout(handshakeTimeout),
		// A half-open connection is noticed, and a client that floods pings is dropped.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.StreamInterceptor(guard.stream),
		grpc.UnaryInterceptor(guard.unary),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{grpc: grpc.NewServer(options...), cancel: cancel, secure: config.TLS != nil}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, serverv3.NewServer(ctx, c, callbacks{cache: c}))
	return s, nil
}

// Serve accepts connections until Stop. A listener that the network can reach is refused without TLS.
func (s *Server) Serve(l net.Listener) error {
	if !s.secure {
		if err := LocalOnly(l.Addr()); err != nil {
			return err
		}
	}
	return s.grpc.Serve(netutil.LimitListener(l, maxConnections))
}

// Stop accepts nothing new, ends the streams, and returns when they have ended or ctx is done.
func (s *Server) Stop(ctx context.Context) {
	// The streams of sidecars never end by themselves: cancelling is what lets a graceful stop finish.
	s.cancel()
	done := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// guard stands before every stream: it authenticates first, survives a panic, and drops a reader that stalls.
type guard struct {
	authenticator Authenticator
	logger        *slog.Logger
	sendTimeout   time.Duration
}

func (g *guard) unary(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unimplemented, "only streams are served")
}

func (g *guard) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx := ss.Context()
	if g.authenticator != nil {
		node, err := g.authenticator.Authenticate(ctx)
		if err != nil {
			return err
		}
		ctx = context.WithValue(ctx, identityKey{}, node)
	}
	guarded := &guardedStream{ServerStream: ss, ctx: ctx, timeout: g.sendTimeout, stalled: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				if g.logger != nil {
					g.logger.Error("a stream panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				}
				done <- status.Error(codes.Internal, "internal error")
			}
		}()
		done <- handler(srv, guarded)
	}()
	select {
	case err := <-done:
		return err
	case <-guarded.stalled:
		// Returning ends the stream, which frees the goroutine that is stuck in its Send.
		return status.Errorf(codes.DeadlineExceeded, "the proxy did not read for %s", g.sendTimeout)
	}
}

// guardedStream notices a Send that does not return.
type guardedStream struct {
	grpc.ServerStream
	ctx     context.Context //nolint:containedctx // a stream's context is the stream's
	timeout time.Duration
	stalled chan struct{}
}

// Context carries the node that the stream proved.
func (s *guardedStream) Context() context.Context { return s.ctx }

// SendMsg sends, or reports a stall.
func (s *guardedStream) SendMsg(m any) error {
	t := time.AfterFunc(s.timeout, func() {
		select {
		case s.stalled <- struct{}{}:
		default:
		}
	})
	defer t.Stop()
	return s.ServerStream.SendMsg(m)
}
