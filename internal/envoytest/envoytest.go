// Package envoytest runs a real Envoy in tests. Input: a bootstrap as YAML. Output: a process that is stopped with the test, and its admin
// interface. One entry point: Start.
package envoytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Binary is the path of the Envoy under test: $ENVOY, else where `make envoy` puts it. A test that needs Envoy fails without one: a skip would
// hide that nothing was proved.
func Binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv("ENVOY")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatalf("find the cache directory: %v", err)
		}
		path = filepath.Join(cache, "pilot-lite", "envoy-1.40.0")
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Envoy at %s: run `make envoy`, or set ENVOY to a binary (%v)", path, err)
	}
	return path
}

// Envoy is a running process.
type Envoy struct {
	t     testing.TB
	cmd   *exec.Cmd
	dir   string
	admin *http.Client
	done  chan struct{}
}

// AdminSocket returns a fresh path for the admin interface, short enough for a UNIX socket.
func AdminSocket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatalf("make a directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "admin")
}

// Start runs Envoy with a bootstrap whose admin listens on the UNIX socket adminSocket, and waits until the admin interface answers.
func Start(t testing.TB, bootstrap, adminSocket string) *Envoy {
	t.Helper()
	config := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if strings.HasPrefix(bootstrap, "{") {
		config = filepath.Join(t.TempDir(), "bootstrap.json") // Envoy goes by the name, and reads large JSON far faster than YAML
	}
	if err := os.WriteFile(config, []byte(bootstrap), 0o600); err != nil {
		t.Fatalf("write the bootstrap: %v", err)
	}
	// --use-dynamic-base-id: several Envoys run side by side. --concurrency 1: the machine has few cores.
	return StartArgs(t, []string{"-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"}, adminSocket)
}

// StartArgs is Start with a command line of the test's own.
func StartArgs(t testing.TB, args []string, adminSocket string) *Envoy {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "envoy.log"))
	if err != nil {
		t.Fatalf("make the log: %v", err)
	}
	// Access logs are written at once.
	cmd := exec.Command(Binary(t), append([]string{"--file-flush-interval-msec", "20"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Envoy: %v", err)
	}
	e := &Envoy{t: t, cmd: cmd, dir: dir, done: make(chan struct{}), admin: &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", adminSocket)
		}},
	}}
	go func() { _ = cmd.Wait(); close(e.done) }()
	t.Cleanup(func() {
		e.Stop()
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", e.Log())
		}
	})
	e.Eventually("Envoy's admin interface answers", func() error { _, err := e.Admin(http.MethodGet, "/server_info"); return err })
	return e
}

// Pid is the process's id.
func (e *Envoy) Pid() int { return e.cmd.Process.Pid }

// Stop ends the process and waits for it.
func (e *Envoy) Stop() {
	_ = e.cmd.Process.Kill()
	<-e.done
}

// CPU is the processor time that the process's threads have used. The scheduler counts it in nanoseconds (schedstat, in the kernel's documentation
// of the scheduler), so that it can be read around a fraction of a second's work.
func (e *Envoy) CPU() time.Duration {
	e.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", e.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		e.t.Fatalf("read the processor time: no threads are listed (%v)", err)
	}
	var sum time.Duration
	for _, t := range threads {
		content, err := os.ReadFile(t)
		if err != nil {
			continue // it has just ended: Envoy's workers do not
		}
		var used int64
		if _, err := fmt.Sscan(string(content), &used); err != nil {
			e.t.Fatalf("read the processor time: %q: %v", content, err)
		}
		sum += time.Duration(used)
	}
	return sum
}

// Log is what Envoy printed, access logs on standard output included.
func (e *Envoy) Log() string {
	b, _ := os.ReadFile(filepath.Join(e.dir, "envoy.log"))
	return string(b)
}

// Admin asks the admin interface and returns the body.
func (e *Envoy) Admin(method, path string) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://admin"+path, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("admin %s: %w", path, err)
	}
	resp, err := e.admin.Do(req)
	if err != nil {
		return "", fmt.Errorf("admin %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		return "", fmt.Errorf("admin %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return body.String(), fmt.Errorf("admin %s: %s: %s", path, resp.Status, strings.TrimSpace(body.String()))
	}
	return body.String(), nil
}

// Stat returns a counter or gauge by its exact name; 0 where there is none yet.
func (e *Envoy) Stat(name string) int64 {
	e.t.Helper()
	body, err := e.Admin(http.MethodGet, "/stats?filter=^"+strings.ReplaceAll(name, ".", "\\.")+"$")
	if err != nil {
		e.t.Fatalf("stat %s: %v", name, err)
	}
	var n int64
	if _, value, found := strings.Cut(body, ": "); found {
		if _, err := fmt.Sscan(value, &n); err != nil {
			e.t.Fatalf("stat %s: %q: %v", name, body, err)
		}
	}
	return n
}

// Eventually waits until check returns nil, for at most 20 seconds.
func (e *Envoy) Eventually(what string, check func() error) {
	e.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
		select {
		case <-e.done:
			e.t.Fatalf("%s: Envoy exited\n%s", what, e.Log())
		default:
		}
	}
	e.t.Fatalf("%s: not within 20 s: %v\n%s", what, err, e.Log())
}
