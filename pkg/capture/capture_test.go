//go:build linux

package capture_test

import (
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/capture"
)

// The sidecar's own ports cannot be excluded: that would open its listeners to the network.
func TestExcludedPorts(t *testing.T) {
	t.Parallel()
	for _, port := range []uint16{0, 15000, 15006, 15099} {
		if _, err := capture.Ruleset(capture.Config{ExcludedInbound: []uint16{port}}); err == nil {
			t.Errorf("port %d is excluded", port)
		}
	}
	rules, err := capture.Ruleset(capture.Config{ExcludedInbound: []uint16{9090, 9090}})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(rules, "tcp dport 9090 accept"); n != 2 {
		t.Errorf("port 9090 comes %d times, want once in each chain:\n%s", n, rules)
	}
}
