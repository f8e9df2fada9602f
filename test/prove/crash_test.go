package prove_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
)

// updates counts what reached the proxy: every response that it took or refused.
func updates(e *envoytest.Envoy) string {
	var out []string
	for _, name := range []string{
		"listener_manager.lds.update_success", "listener_manager.lds.update_rejected", "cluster_manager.cds.update_success", "cluster_manager.cds.update_rejected",
	} {
		out = append(out, fmt.Sprintf("%s=%d", name, e.Stat(name)))
	}
	text, err := e.Admin("GET", "/stats?filter=^extension_config_discovery.*(config_reload|config_fail|config_conflict)$")
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, "\n") + "\n" + text
}

// Killing the control plane changes no verdict. When it comes back with the same files, the proxy has everything and is sent nothing; the next edit
// reaches it.
func TestEnforcementOutlivesTheControlPlane(t *testing.T) {
	t.Parallel()
	for _, mode := range []struct {
		name string
		args []string
	}{{"delta", nil}, {"state of the world", []string{"--state-of-the-world"}}} {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, map[string]string{"a.yaml": onlyFront()})
			s.serve()
			proxy := s.envoy("shop/cart", mode.args...)
			s.eventuallyVerdicts("the policy holds", frontOnly)
			s.eventuallyEnforced("shop/cart")
			before := updates(proxy)
			if !strings.Contains(before, "config_reload: 1") {
				t.Fatalf("the slots are not counted: %s", before)
			}

			if s.pushes() == 0 {
				t.Fatal("the server does not count what it pushes")
			}
			s.kill()
			proxy.Eventually("the proxy notices", func() error {
				if proxy.Stat("control_plane.connected_state") != 0 {
					return fmt.Errorf("still connected")
				}
				return nil
			})
			s.wantVerdicts("without a control plane", frontOnly)

			s.serve()
			s.eventuallyEnforced("shop/cart")
			s.wantVerdicts("after its return", frontOnly)
			if after := updates(proxy); after != before {
				t.Errorf("the proxy was sent what it had:\n%s\nbefore:\n%s", after, before)
			}
			if n := s.pushes(); n != 0 {
				t.Errorf("the server pushed %d responses", n)
			}
			s.replace("a.yaml", policy("cart", "ingress: []"))
			s.eventuallyVerdicts("an edit after its return", nothing)
		})
	}
}

// A control plane that comes back to a bad file serves nothing: the proxy keeps what it has until the file is repaired.
func TestReturnToABadFile(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	proxy := s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	s.eventuallyEnforced("shop/cart")
	s.kill()
	s.replace("a.yaml", "kind: [")
	s.serve()
	proxy.Eventually("the proxy is back", func() error {
		if text, _ := s.status(); !strings.Contains(text, "shop/cart  yes") {
			return fmt.Errorf("status: %s", text)
		}
		return nil
	})
	s.wantVerdicts("with a bad file", frontOnly)
	if n := s.pushes(); n != 0 {
		t.Errorf("the server pushed %d responses", n)
	}
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.eventuallyVerdicts("the file is repaired", nothing)
}

// A server that is asked to stop ends soon and well, although proxies are connected, and leaves enforcement as it was.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	s.serve()
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	if err := s.server.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.server.done:
	case <-time.After(5 * time.Second):
		t.Fatal("the server still runs")
	}
	if code := s.server.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.wantVerdicts("after the stop", frontOnly)
}

// Killed at any moment of a push, the server leaves the proxy at the policy before or at the one after, whole; and the next server brings it on.
func TestKilledWhileItPushes(t *testing.T) {
	t.Parallel()
	reads, writes := policy("cart", "ingress: [{http: [{methods: [GET]}]}]"), policy("cart", "ingress: [{http: [{methods: [POST]}]}]")
	const mayRead, mayWrite = "front GET 200, stranger GET 200", "front POST 200, stranger POST 200"
	s := newShop(t, map[string]string{"a.yaml": reads})
	s.serve()
	proxy := s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", mayRead)
	seen := map[string]int{}
	const rounds = 40
	for range rounds {
		s.replace("a.yaml", writes)
		time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond) // about as long as an edit takes
		s.kill()
		proxy.Eventually("the proxy notices", func() error {
			if proxy.Stat("control_plane.connected_state") != 0 {
				return fmt.Errorf("still connected")
			}
			return nil
		})
		got := s.verdicts()
		if seen[got]++; got != mayRead && got != mayWrite {
			t.Fatalf("allowed: %q, which is neither policy", got)
		}
		s.replace("a.yaml", reads)
		s.serve()
		s.eventuallyVerdicts("the next server's policy", mayRead)
	}
	t.Logf("left at: %v", seen)
}

// A log that cannot be written, and files that cannot be opened, stop nothing: what is in force stays, and what was edited meanwhile follows.
func TestWithoutLogAndFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = full.Close() }()
	const files = 48
	limited := append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files), os.Getenv(binaryVariable)}, s.serveArgs()...)
	s.launch(exec.Command("sh", limited...), full)
	s.envoy("shop/cart")
	s.eventuallyVerdicts("the policy holds", frontOnly)
	s.eventuallyEnforced("shop/cart")
	var idle []net.Conn
	for range 3 * files {
		if c, err := (&net.Dialer{}).DialContext(t.Context(), "unix", strings.TrimPrefix(s.xdsAddress, "unix:")); err == nil {
			idle = append(idle, c)
		}
	}
	s.eventually("the server can open nothing more", func() error {
		if _, _, err := s.admin("/healthz"); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
	s.replace("a.yaml", policy("cart", "ingress: []"))
	s.wantVerdicts("without files", frontOnly)
	for _, c := range idle {
		_ = c.Close()
	}
	s.eventuallyVerdicts("when there are files again", nothing)
}
