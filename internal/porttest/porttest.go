// Package porttest gives tests ports of their own. Input: a loopback address. Output: a port that nobody else is given until the test ends. Entry points: Free and Address.
package porttest

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Free returns a TCP port of a loopback address that stays this test's. A socket that is bound to it and does not listen keeps everybody from being given it who asks
// for any; whoever names it, with SO_REUSEADDR as Envoy and package net do, may listen (socket(7)).
func Free(t testing.TB, address string) int {
	t.Helper()
	port, socket, err := reserve(netip.MustParseAddr(address))
	if err != nil {
		t.Fatalf("find a free port of %s: %v", address, err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	return port
}

// Address is 127.0.0.1 with such a port.
func Address(t testing.TB) string {
	t.Helper()
	const loopback = "127.0.0.1"
	return net.JoinHostPort(loopback, strconv.Itoa(Free(t, loopback)))
}

func reserve(a netip.Addr) (port, socket int, err error) {
	family, any4, any6 := unix.AF_INET, &unix.SockaddrInet4{}, &unix.SockaddrInet6{}
	var at unix.Sockaddr = any4
	if a.Is4() {
		any4.Addr = a.As4()
	} else {
		family, any6.Addr, at = unix.AF_INET6, a.As16(), any6
	}
	if socket, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("make a socket: %w", err)
	}
	if err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		if err = unix.Bind(socket, at); err == nil {
			at, err = unix.Getsockname(socket)
		}
	}
	if err != nil {
		_ = unix.Close(socket)
		return 0, 0, fmt.Errorf("bind: %w", err)
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		port = at.Port
	case *unix.SockaddrInet6:
		port = at.Port
	}
	return port, socket, nil
}
