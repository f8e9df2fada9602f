//go:build netns

package capture_test

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/pilot-lite/pilot-lite/internal/netnstest"
	"github.com/pilot-lite/pilot-lite/pkg/capture"
)

func listed(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return string(out)
}

// However often it is applied, and whatever stood there, the kernel holds exactly what --dry-run prints, and others' tables are left alone.
func TestCapturedRules(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	config := capture.Config{ExcludedInbound: []uint16{9091, 9090, 9091}}
	if err := capture.Verify(config); err == nil {
		t.Error("there is nothing, and it is verified")
	}
	netnstest.Run(t, "nft add table inet theirs")
	foreign := listed(t)
	want, err := capture.Ruleset(config)
	if err != nil {
		t.Fatal(err)
	}
	spoil := []string{
		"",
		"nft delete rule inet pilot_lite capture handle 3",
		"nft add rule inet pilot_lite guard accept",
		"nft insert rule inet pilot_lite capture tcp dport 22 accept",
		"nft add chain inet pilot_lite more",
		"nft delete table inet pilot_lite",
		"nft flush chain inet pilot_lite guard",
		"nft chain inet pilot_lite guard { policy drop; }",
	}
	for i, line := range spoil {
		if i > 0 {
			netnstest.Run(t, line)
			if err := capture.Verify(config); err == nil {
				t.Errorf("%s: it is verified all the same", line)
			}
		}
		for range 2 {
			if err := capture.Apply(config); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(foreign+want, listed(t)); diff != "" {
				t.Errorf("after %q (-want +got):\n%s", line, diff)
			}
		}
	}
	for _, other := range []capture.Config{{}, {ExcludedInbound: []uint16{9090}}, {ExcludedInbound: []uint16{9090, 9092}}} {
		if err := capture.Verify(other); err == nil {
			t.Errorf("%v: rules for other ports are verified", other)
		}
	}
}

// Without the capability nothing changes, what is missing is named, and what was applied cannot be taken away.
func TestCapturedNeedsCapability(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	config := capture.Config{}
	if err := capture.Apply(config); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends without its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Errorf("drop the capabilities: %v", err)
		}
		done <- capture.Apply(capture.Config{ExcludedInbound: []uint16{1}})
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "NET_ADMIN") {
		t.Errorf("got %v, want an error that names NET_ADMIN", err)
	}
	if err := capture.Verify(config); err != nil {
		t.Error(err)
	}
}
