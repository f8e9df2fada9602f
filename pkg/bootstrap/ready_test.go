package bootstrap_test

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
)

// A sidecar is ready when its first configuration is complete, and not before: the application must not start in front of, or behind, a proxy that
// does not know its policies yet.
func TestReadyWhenComplete(t *testing.T) {
	t.Parallel()
	c := sidecartest.NewControl(t)
	p := sidecartest.Start(t, c, newAddress())
	listeners, slots := shut(t, p.IP)
	stays := func(why string) {
		t.Helper()
		if got := p.Ask("/ready"); got != 0 && got != 503 {
			t.Errorf("%s: %d", why, got)
		}
	}
	stays("no configuration")
	c.Give(listeners...)
	p.Eventually("the slots are asked for", func() error {
		if n := p.Stat("listener_manager.lds.update_success"); n == 0 {
			return fmt.Errorf("no listeners yet")
		}
		return nil
	})
	stays("listeners without slots")
	for i := range slots {
		c.Give(append(listeners, slots[:i]...)...)
		stays(fmt.Sprintf("%d of %d slots", i, len(slots)))
	}
	c.Give(append(listeners, slots...)...)
	p.Becomes("/ready", 200)
	if n := c.Refused(); n != 0 {
		t.Errorf("%d refusals", n)
	}
}

// Without its control plane a sidecar stays ready with what it has; one that is killed meanwhile comes back in the folders that it left as they were,
// accepts nobody, and is ready when it has its configuration again.
func TestReadyWithoutControlPlane(t *testing.T) {
	t.Parallel()
	c := sidecartest.NewControl(t)
	ip := newAddress()
	listeners, slots := shut(t, ip)
	c.Give(append(listeners, slots...)...)
	p := sidecartest.Start(t, c, ip)
	p.Becomes("/ready", 200)
	c.Stop()
	p.Eventually("the stream is lost", func() error {
		if p.Stat("control_plane.connected_state") != 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if got := p.Ask("/ready"); got != 200 {
		t.Errorf("without its control plane: %d", got)
	}
	p.Restart()
	if got := p.Ask("/ready"); got != 0 {
		t.Errorf("without any configuration: %d", got)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(ip, "15006")); err == nil {
		t.Error("without any configuration, connections are accepted")
		_ = conn.Close()
	}
	c.Restart()
	p.Becomes("/ready", 200)
}

// One who fills the port of the probes meets a limit of its own.
func TestHealthPortHasALimit(t *testing.T) {
	t.Parallel()
	p := startShutPod(t, newAddress())
	for range 4200 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", net.JoinHostPort(p.IP, "15021"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	p.Eventually("the limit is reached", func() error {
		if p.Stat("listener.health.downstream_cx_overflow") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	p.Becomes("/ready", 200) // once the connections that say nothing have been closed
}
