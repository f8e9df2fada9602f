package webhook

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of what strangers can hold. The API server has a connection or a few, and many requests on each.
const (
	Timeout = 10 * time.Second // as long as the API server waits at most

	maxConnections = 256
	maxStreams     = 100
	maxHeaderBytes = 16 << 10
	idleTime       = time.Minute
	// maxHeld is how many bytes of requests are held at once. Each costs about ten times its size while it is answered.
	maxHeld = 4 * maxBody
)

// NewServer serves a Handler. Whoever sends slowly, or does not read, is hung up on after the timeout. What strangers do wrong is for debugging only.
func NewServer(handler http.Handler, t *tls.Config, timeout time.Duration, logger *slog.Logger) *http.Server {
	return &http.Server{
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		Handler:  handler, TLSConfig: t, ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: idleTime, MaxHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
}

// Limit bounds the connections of a listener. Those that come then wait; an API server's own stay.
func Limit(l net.Listener) net.Listener { return netutil.LimitListener(l, maxConnections) }

// errBusy is the answer while more is held than may be.
var errBusy = errors.New("too many large requests at once: try again")

// budget counts the bytes that are held.
type budget struct{ held atomic.Int64 }

// reader counts what is read from a request's body until it is given back.
func (b *budget) reader(body io.Reader) *counted { return &counted{budget: b, body: body} }

type counted struct {
	budget *budget
	body   io.Reader
	bytes  int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.bytes += int64(n)
	if c.budget.held.Add(int64(n)) > maxHeld {
		return n, errBusy
	}
	return n, err //nolint:wrapcheck // a reader's io.EOF is compared
}

func (c *counted) giveBack() { c.budget.held.Add(-c.bytes) }
