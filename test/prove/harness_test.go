// Package prove_test holds the promises of pilot-lite against the real binary and a real Envoy: files in, requests and answers out.
package prove_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
)

// binaryVariable names the binary under test, which TestMain builds where the caller names none.
const binaryVariable = "PILOT_LITE"

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(binaryVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "pilot-lite")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "pilot-lite")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", path, "../../cmd/pilot-lite").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build pilot-lite: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(binaryVariable, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// stage is one control plane with a folder of its own.
type stage struct {
	t          testing.TB
	dir        string // what is served
	run        string // sockets and logs
	xdsAddress string
	server     *server
}

// server is one process of "pilot-lite serve".
type server struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func newStage(t testing.TB, files map[string]string) *stage {
	t.Helper()
	dependOnSources(t)
	s := &stage{t: t, dir: t.TempDir(), run: filepath.Dir(envoytest.AdminSocket(t))}
	s.xdsAddress = "unix:" + filepath.Join(s.run, "xds")
	for name, body := range files {
		s.replace(name, body)
	}
	return s
}

// dependOnSources lists every folder of sources: "go test" then takes no cached result after the binary's sources, which no import leads to, changed.
func dependOnSources(t testing.TB) {
	t.Helper()
	for _, root := range []string{"../../cmd", "../../pkg", "../../internal"} {
		if err := filepath.WalkDir(root, func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
	}
}

// replace puts a file in place of another at once, as careful editors do.
func (s *stage) replace(name, body string) {
	s.t.Helper()
	s.place(filepath.Join(s.dir, name), body)
}

func (s *stage) place(path, body string) {
	s.t.Helper()
	fresh := filepath.Join(s.run, "fresh")
	if err := os.WriteFile(fresh, []byte(body), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(fresh, path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// serve starts the server, and returns when its admin interface answers.
func (s *stage) serve(args ...string) {
	s.t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.launch(exec.Command(os.Getenv(binaryVariable), append(s.serveArgs(), args...)...), log)
}

func (s *stage) serveArgs() []string {
	return []string{"serve", "--from", s.dir, "--xds-address", s.xdsAddress, "--admin-address", s.adminAddress()}
}

// launch starts a command that becomes the server, and returns when its admin interface answers.
func (s *stage) launch(cmd *exec.Cmd, log *os.File) {
	s.t.Helper()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	srv := &server{cmd: cmd, done: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(srv.done) }()
	s.server = srv
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-srv.done
		if s.t.Failed() {
			s.t.Logf("the server's log:\n%s", s.log())
		}
	})
	s.eventually("the server answers", func() error {
		_, _, err := s.admin("/healthz")
		return err
	})
}

// kill ends the server as a power cut would.
func (s *stage) kill() {
	_ = s.server.cmd.Process.Kill()
	<-s.server.done
}

func (s *stage) logFile() string      { return filepath.Join(s.run, "serve.log") }
func (s *stage) adminAddress() string { return "unix:" + filepath.Join(s.run, "admin") }

func (s *stage) log() string {
	b, _ := os.ReadFile(s.logFile())
	return string(b)
}

// admin asks the server's admin interface.
func (s *stage) admin(path string) (status int, body string, err error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(s.adminAddress(), "unix:"))
	}}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://admin"+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// pushes is how many responses the server sent since it started.
func (s *stage) pushes() int {
	s.t.Helper()
	_, body, err := s.admin("/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	sum := 0
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if n, err := strconv.Atoi(value); err == nil && strings.HasPrefix(name, "pilot_lite_pushes_total{") {
			sum += n
		}
	}
	return sum
}

// command runs pilot-lite and returns its output and its exit code.
func (s *stage) command(args ...string) (stdout string, code int) {
	s.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(context.Background(), os.Getenv(binaryVariable), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("%v: %v", args, err)
	}
	if errs.Len() > 0 {
		s.t.Logf("%v: %s", args, errs.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

func (s *stage) status() (text string, code int) {
	s.t.Helper()
	return s.command("status", "--address", s.adminAddress())
}

// eventuallyEnforced waits until status says that a proxy runs everything that is meant for it.
func (s *stage) eventuallyEnforced(node string) {
	s.t.Helper()
	s.eventually("status shows "+node+" enforced", func() error {
		text, code := s.status()
		enforced, others := 0, 0
		for line := range strings.Lines(text) {
			switch fields := strings.Fields(line); {
			case len(fields) == 0 || fields[0] != node || len(fields) < 7:
			case strings.Contains(line, " enforced "):
				enforced++
			default:
				others++
			}
		}
		if code != 0 || enforced == 0 || others > 0 {
			return fmt.Errorf("exit code %d: %s", code, text)
		}
		return nil
	})
}

// envoy starts a proxy with the bootstrap that pilot-lite prints for a node.
func (s *stage) envoy(node string, args ...string) *envoytest.Envoy {
	s.t.Helper()
	socket := envoytest.AdminSocket(s.t)
	args = append([]string{"bootstrap", "--node", node, "--xds-address", s.xdsAddress, "--admin-socket", socket}, args...)
	text, code := s.command(args...)
	if code != 0 {
		s.t.Fatalf("%v: exit code %d", args, code)
	}
	return envoytest.Start(s.t, text, socket)
}

// eventually waits until check returns nil, for at most 20 seconds.
func (s *stage) eventually(what string, check func() error) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	s.t.Fatalf("%s: not within 20 s: %v", what, err)
}
