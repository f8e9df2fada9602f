package xds_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A UNIX socket is its owner's alone, replaces what a dead process left, and takes nothing from a live one or from a file that is no socket.
func TestListenOnASocket(t *testing.T) {
	t.Parallel()
	address := socket(t)
	path := strings.TrimPrefix(address, "unix:")
	l, err := xds.Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %s", info.Mode())
	}
	if _, err := xds.Listen(t.Context(), address); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("beside a live process: %v", err)
	}

	l.(*net.UnixListener).SetUnlinkOnClose(false) // as SIGKILL does
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := xds.Listen(t.Context(), "unix://"+path)
	if err != nil {
		t.Fatalf("after a dead process: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}

	file := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := xds.Listen(t.Context(), "unix:"+file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("on a file: %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "content" {
		t.Errorf("the file is now %q, %v", content, err)
	}
}

func TestLocalOnly(t *testing.T) {
	t.Parallel()
	for _, local := range []net.Addr{
		&net.UnixAddr{Name: "/run/x", Net: "unix"}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.TCPAddr{IP: net.IPv4(127, 8, 8, 8)}, &net.TCPAddr{IP: net.IPv6loopback},
	} {
		if err := xds.LocalOnly(local); err != nil {
			t.Errorf("%s: %v", local, err)
		}
	}
	for _, open := range []net.Addr{
		&net.TCPAddr{}, &net.TCPAddr{IP: net.IPv4zero}, &net.TCPAddr{IP: net.IPv6unspecified}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
	} {
		if err := xds.LocalOnly(open); err == nil {
			t.Errorf("%s was taken for local", open)
		}
	}
}
