package bootstrap_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
)

// The kubelet replaces a token long before the pod ends: each stream carries the present one.
func TestEachStreamCarriesThePresentToken(t *testing.T) {
	t.Parallel()
	c := sidecartest.NewControl(t)
	ip := newAddress()
	listeners, slots := shut(t, ip)
	c.Give(append(listeners, slots...)...)
	p := sidecartest.Start(t, c, ip)
	p.Becomes("/ready", 200)
	var want []string
	arrives := func(token string) {
		t.Helper()
		want = append(want, "Bearer "+token)
		p.Eventually("the stream comes", func() error {
			if n := len(c.Authorizations()); n < len(want) {
				return fmt.Errorf("%d streams, want %d", n, len(want))
			}
			return nil
		})
	}
	arrives("first")
	for _, token := range []string{"second", "third", "fourth"} {
		p.WriteToken(token)
		c.Restart()
		arrives(token)
	}
	if diff := cmp.Diff(want, c.Authorizations()); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
}
