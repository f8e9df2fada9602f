package bootstrap_test

import (
	"fmt"
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
	t.Logf("%d NACKs", c.Refused())
}
