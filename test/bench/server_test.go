package bench_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

// These are generous: the machine may be busy, and ten thousand sidecars take their time.
const patience = 5 * time.Minute

// Names of what is measured.
const (
	ownName   = "pilot-lite"
	floorName = "floor"
)

// server is a process that serves sidecars: pilot-lite, or the floor.
type server struct {
	t              testing.TB
	name           string
	address, admin string
	cmd            *exec.Cmd
	done           chan struct{}
	log            string
	profiles       bool // its admin interface has them
}

// startPilotLite starts the control plane as the manifests do: the leader, which applies companions and writes statuses.
func startPilotLite(t testing.TB, c *cluster) *server {
	t.Helper()
	s := &server{t: t, name: ownName, address: loopback(t), admin: loopback(t), profiles: true}
	kubeconfig := apitest.Kubeconfig(t, c.User("system:serviceaccount:pilot-lite-system:pilot-lite", "system:authenticated"))
	cmd := exec.Command(os.Getenv(binaryVariable), "serve", "--kubeconfig", kubeconfig, "--xds-address", s.address, "--admin-address", s.admin,
		"--health-address", loopback(t), "--webhook-address", loopback(t))
	cmd.Env = append(os.Environ(), "POD_NAME=pilot-lite-0", "GOGC=40", "GOMEMLIMIT="+memoryLimit())
	s.start(cmd)
	return s
}

func loopback(t testing.TB) string {
	t.Helper()
	return "127.0.0.1:" + strconv.Itoa(porttest.Free(t, "127.0.0.1"))
}

func (s *server) start(cmd *exec.Cmd) {
	s.t.Helper()
	s.log = filepath.Join(s.t.TempDir(), s.name+".log")
	log, err := os.Create(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); _ = log.Close(); close(done) }()
	s.cmd, s.done = cmd, done
	s.t.Cleanup(s.stop)
}

// again starts the server anew, with the same arguments.
func (s *server) again() {
	s.t.Helper()
	cmd := exec.Command(s.cmd.Path, s.cmd.Args[1:]...)
	cmd.Env = s.cmd.Env
	s.start(cmd)
}

// stop ends the process at once. One that ended is left alone.
func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// waitReady waits until sidecars can be served.
func (s *server) waitReady() {
	s.t.Helper()
	s.eventually("the server is ready", func() error {
		code, text, err := s.ask("/readyz")
		if err == nil && code != http.StatusOK {
			err = errors.New(text)
		}
		return err
	})
}

func (s *server) eventually(what string, check func() error) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	log, _ := os.ReadFile(s.log)
	s.t.Fatalf("%s: %s: %v\n%s", s.name, what, err, log[max(0, len(log)-4000):])
}

func (s *server) ask(path string) (code int, text string, err error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.admin+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// metrics are the values of some metrics, each the sum of its series.
func (s *server) metrics(names ...string) map[string]float64 {
	s.t.Helper()
	_, text, err := s.ask("/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]float64{}
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		series, value, _ := strings.Cut(scanner.Text(), " ")
		for _, name := range names {
			if bare, _, _ := strings.Cut(series, "{"); bare != name && series != name {
				continue
			}
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				out[name] += v
			}
		}
	}
	return out
}

// settled waits until the leader has applied every companion and has nothing left to write.
func (s *server) settled() {
	s.t.Helper()
	const pending, companions, statuses = `pilot_lite_companions{phase="Pending"}`, "pilot_lite_companions", "pilot_lite_status_writes_total"
	last, quiet := -1.0, 0
	s.eventually("the companions stand and the statuses are written", func() error {
		m := s.metrics(pending, companions, statuses)
		if m[companions] == 0 || m[pending] > 0 {
			return fmt.Errorf("%g companions, %g of them pending", m[companions], m[pending])
		}
		if quiet++; m[statuses] != last {
			last, quiet = m[statuses], 0
		}
		const often = 20
		if quiet < often {
			time.Sleep(100 * time.Millisecond)
			return errors.New("statuses are being written")
		}
		return nil
	})
}

// cpu is the processor time that the process has used (schedstat of its threads, see the kernel's scheduler/sched-stats).
func (s *server) cpu() time.Duration {
	s.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		s.t.Fatalf("%s: no threads: %v", s.name, err)
	}
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// memory is a line of the process's status in bytes: VmRSS, or VmHWM for the most since it was reset.
func (s *server) memory(line string) float64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), line+":")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		s.t.Fatal(err)
	}
	return kilobytes * 1024
}

// resetPeak makes the present memory the most that it ever was (proc_pid_clear_refs(5)).
func (s *server) resetPeak() {
	s.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// trust is the TLS settings of a sidecar: it knows the control plane's authority.
func (c *cluster) trust(t testing.TB) *tls.Config {
	t.Helper()
	var pool *x509.CertPool
	apitest.Eventually(t, patience, "there is an authority", func() error {
		secret, err := c.client.CoreV1().Secrets(ownNamespace).Get(context.Background(), "pilot-lite-ca", metav1.GetOptions{})
		if err != nil {
			return err
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(secret.Data["ca.crt"]) {
			return errors.New("it holds no certificate")
		}
		return nil
	})
	return &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS13}
}

// memoryLimit is what manifests/deployment.yaml has; BENCH_MEMORY_LIMIT is another, for more sidecars than that is for.
func memoryLimit() string { return cmp.Or(os.Getenv("BENCH_MEMORY_LIMIT"), "460MiB") }
