package xds

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// Limits of the server. A sidecar needs little; what asks for more is not one.
const (
	maxMessageBytes   = 4 << 20
	maxHeaderBytes    = 16 << 10
	bufferBytes       = 8 << 10
	windowBytes       = 256 << 10
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
	Authenticator Authenticator // required with TLS
	// IsPeer knows the control plane's other replicas, who may follow what proxies run; nil where there are none.
	IsPeer        func(tls.ConnectionState) bool
	Logger        *slog.Logger
	SendTimeout   time.Duration // how long a proxy may take to read and answer a response; 20 s where 0
	ClaimInterval time.Duration // how often an open stream's credentials are looked at again; 10 s where 0
}

// Server serves a cache over ADS.
type Server struct {
	grpc   *grpc.Server
	patrol patrol
	done   <-chan struct{}
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
	if config.ClaimInterval == 0 {
		config.ClaimInterval = claimInterval
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	strangers := &sparseLogger{logger: config.Logger, now: time.Now}
	guard := &guard{authenticator: config.Authenticator, logger: strangers, metrics: c.metrics, isPeer: config.IsPeer}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreamsPerConn),
		grpc.ConnectionTimeout(handshakeTimeout),
		// Of a size that most slots fit in: a buffer is taken from a pool for each write, and the collector empties pools.
		grpc.WriteBufferSize(bufferBytes),
		// A window that never grows: to find out how far it should, gRPC would ping the proxy after every answer.
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(windowBytes),
		// A half-open connection is noticed, and a client that floods pings is dropped.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.StreamInterceptor(guard.stream),
		grpc.UnaryInterceptor(guard.unary),
	}
	if config.TLS != nil {
		// TLS holds what it has decrypted of a record: another buffer would save nothing, and most connections are idle most of the time.
		options = append(options, grpc.Creds(handshakes{credentials.NewTLS(config.TLS), make(turns, handshakesAtOnce), strangers}), grpc.ReadBufferSize(0))
	} else {
		options = append(options, grpc.ReadBufferSize(bufferBytes))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{grpc: grpc.NewServer(options...), patrol: patrol{c, config.SendTimeout, config.ClaimInterval}, done: ctx.Done(), cancel: cancel, secure: config.TLS != nil}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, &ads{cache: c, guard: guard, done: ctx.Done()})
	if config.IsPeer != nil {
		(&reports{c, ctx.Done()}).register(s.grpc)
	}
	return s, nil
}

// Serve accepts connections until Stop. A listener that the network can reach is refused without TLS.
func (s *Server) Serve(l net.Listener) error {
	if !s.secure {
		if err := LocalOnly(l.Addr()); err != nil {
			return err
		}
	}
	go s.patrol.walk(s.done)
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
