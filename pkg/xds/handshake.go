package xds

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// handshakes secures connections in turns, and tells of those that end before there is a stream: clear text, an old TLS, a certificate that is not the control
// plane's own.
type handshakes struct {
	credentials.TransportCredentials
	turns  turns
	logger *sparseLogger
}

// ServerHandshake secures a connection.
func (h handshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.inTurn(raw)
	if err != nil && !errors.Is(err, io.EOF) { // who connects and leaves was only looking whether somebody is there
		h.logger.warn("a connection was refused", "peer", raw.RemoteAddr().String(), "error", err)
	}
	return conn, info, err
}

func (h handshakes) inTurn(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	end, err := h.turns.take()
	if err != nil {
		return nil, nil, err
	}
	defer end()
	return h.TransportCredentials.ServerHandshake(raw)
}

// Clone copies the credentials, as gRPC wants.
func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.turns, h.logger}
}

const (
	// Those who say nothing would have to come at more than 2,500 a second to hold up others; they reach maxConnections before.
	handshakesAtOnce = 128
	// turnTime is how long a handshake keeps its place: whoever is slow, or says nothing, holds up nobody for longer.
	turnTime = 50 * time.Millisecond
	// turnWait is how long a connection waits for its turn: sidecars wait no longer, and come again later.
	turnWait = 5 * time.Second
)

// turns has the first who come be the first who are done. When thousands of sidecars come at once, and each of their handshakes went on beside all others, they would
// all take as long as all of them take together: many would give up, and what was worked out for them would be worked out again.
type turns chan struct{}

// take waits for a turn; end ends it.
func (t turns) take() (end func(), err error) {
	wait := time.NewTimer(turnWait)
	defer wait.Stop()
	select {
	case t <- struct{}{}:
	case <-wait.C:
		return nil, errors.New("too many connections are being secured: it waited for " + turnWait.String())
	}
	leave := sync.OnceFunc(func() { <-t })
	late := time.AfterFunc(turnTime, leave)
	return func() { late.Stop(); leave() }, nil
}
