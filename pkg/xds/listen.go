package xds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// LocalOnly refuses an address that other machines can reach: what is served in clear text stays on this one.
func LocalOnly(a net.Addr) error {
	switch a := a.(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if a.IP.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("listen on %s without TLS: other machines could read and claim any proxy's configuration; listen on 127.0.0.1 or a UNIX socket, or give a certificate", a)
}

// Listen opens "unix:///PATH" or "HOST:PORT". A UNIX socket is for its owner alone (mode 0600); one that a dead process left is replaced, one that is
// answered is not.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, "unix:")
	if !isUnix {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %q: %w", address, err)
		}
		return l, nil
	}
	path = strings.TrimPrefix(path, "//")
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{Control: ownerOnly}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", address, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %q: %w", address, err), l.Close())
	}
	return l, nil
}

// ownerOnly makes the socket's file private from its first moment on: bind takes its mode from that of the socket.
func ownerOnly(_, _ string, raw syscall.RawConn) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); e != nil {
		return e
	}
	return err
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on %q: %w", path, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("listen on %q: a file of that name is there, and it is no socket: remove it or choose another path", path)
	}
	if c, err := (&net.Dialer{}).DialContext(ctx, "unix", path); err == nil {
		return errors.Join(fmt.Errorf("listen on %q: another process answers there", path), c.Close())
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("listen on %q: remove the socket that a dead process left: %w", path, err)
	}
	return nil
}
