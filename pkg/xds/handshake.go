package xds

import (
	"errors"
	"io"
	"net"

	"google.golang.org/grpc/credentials"
)

// loggedHandshakes tells of connections that end before there is a stream: clear text, an old TLS, a certificate that is not the control plane's own.
type loggedHandshakes struct {
	credentials.TransportCredentials
	logger *sparseLogger
}

// ServerHandshake secures a connection.
func (c loggedHandshakes) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil && !errors.Is(err, io.EOF) { // who connects and leaves was only looking whether somebody is there
		c.logger.warn("a connection was refused", "peer", raw.RemoteAddr().String(), "error", err)
	}
	return conn, info, err
}

// Clone copies the credentials, as gRPC wants.
func (c loggedHandshakes) Clone() credentials.TransportCredentials {
	return loggedHandshakes{c.TransportCredentials.Clone(), c.logger}
}
