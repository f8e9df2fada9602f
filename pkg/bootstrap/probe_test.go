package bootstrap_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

// startShutPod is a sidecar that is ready under a policy that lets nobody in, with probes of an application that has not started.
func startShutPod(t *testing.T, ip string, probes ...bootstrap.Probe) *sidecartest.Pod {
	t.Helper()
	c := sidecartest.NewControl(t)
	listeners, slots := shut(t, ip)
	c.Give(append(listeners, slots...)...)
	p := sidecartest.Start(t, c, ip, probes...)
	p.Becomes("/ready", 200) // although the application is down: it starts only now
	return p
}

func listen(t *testing.T, ip string, port uint16) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func probePath(name string) string { return bootstrap.ProbePath(name) }

// webApp answers with a status that a test sets, and keeps the last request.
type webApp struct {
	status atomic.Int64
	last   atomic.Pointer[http.Request]
	count  atomic.Int64
}

func (a *webApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.last.Store(r.Clone(context.Background()))
	a.count.Add(1)
	w.WriteHeader(int(a.status.Load()))
}

func TestHTTPProbe(t *testing.T) {
	t.Parallel()
	ip := newAddress()
	probe := bootstrap.Probe{
		Name: "app/liveness", Kind: bootstrap.ProbeHTTP, Port: 8080, Path: "/healthz?full=1&q=a%20b", Interval: time.Second, Timeout: time.Second,
		Headers: []bootstrap.ProbeHeader{{Name: "X-Probe", Value: "100% $(POD_IP) %REQ(:path)%"}, {Name: "x-probe", Value: "two"}},
	}
	p := startShutPod(t, ip, probe)
	path := probePath(probe.Name)
	p.Becomes(path, 503)

	app := new(webApp)
	app.status.Store(200)
	server := httptest.NewUnstartedServer(app)
	_ = server.Listener.Close()
	server.Listener = listen(t, ip, 8080)
	server.Start()
	defer server.Close()
	p.Becomes(path, 200)

	r := app.last.Load()
	for what, pair := range map[string][2]string{
		"host":   {r.Host, ip + ":8080"},
		"target": {r.RequestURI, "/healthz?full=1&q=a%20b"},
		"method": {r.Method + " " + r.Proto, "GET HTTP/1.1"},
		"header": {fmt.Sprint(r.Header.Values("X-Probe")), "[100% $(POD_IP) %REQ(:path)% two]"},
		"agent":  {strings.SplitAfter(r.UserAgent(), "/")[0], "kube-probe/"},
		"accept": {r.Header.Get("Accept"), "*/*"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
		}
	}
	for _, step := range []struct{ answers, want int }{{500, 503}, {302, 200}, {404, 503}, {399, 200}, {199 + 201, 503}, {204, 200}} {
		app.status.Store(int64(step.answers))
		p.Becomes(path, step.want)
	}
	server.Close()
	p.Becomes(path, 503)
	p.Becomes("/ready", 200)
}

func TestHTTPSProbe(t *testing.T) {
	t.Parallel()
	ip := newAddress()
	probe := bootstrap.Probe{
		Name: "app/readiness", Kind: bootstrap.ProbeHTTP, Scheme: bootstrap.SchemeHTTPS, Port: 8443, Path: "ready", Host: "shop.example", Interval: time.Second,
	}
	p := startShutPod(t, ip, probe)
	app := new(webApp)
	app.status.Store(200)
	server := httptest.NewUnstartedServer(app)
	_ = server.Listener.Close()
	server.Listener = listen(t, ip, 8443)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	server.StartTLS() // with a certificate that nobody trusts
	defer server.Close()
	p.Becomes(probePath(probe.Name), 200)
	if r := app.last.Load(); r.Host != "shop.example" || r.RequestURI != "/ready" {
		t.Errorf("host %q, target %q", r.Host, r.RequestURI)
	}
	app.status.Store(500)
	p.Becomes(probePath(probe.Name), 503)
}

func TestTCPProbe(t *testing.T) {
	t.Parallel()
	ip := newAddress()
	probe := bootstrap.Probe{Name: "app/startup", Kind: bootstrap.ProbeTCP, Port: 5432, Interval: time.Second}
	p := startShutPod(t, ip, probe)
	p.Becomes(probePath(probe.Name), 503)
	l := listen(t, ip, 5432)
	p.Becomes(probePath(probe.Name), 200)
	_ = l.Close()
	p.Becomes(probePath(probe.Name), 503)
}

func TestGRPCProbe(t *testing.T) {
	t.Parallel()
	ip := newAddress()
	named := bootstrap.Probe{Name: "app/liveness", Kind: bootstrap.ProbeGRPC, Port: 9000, GRPCService: "shop", Interval: time.Second}
	whole := bootstrap.Probe{Name: "app/readiness", Kind: bootstrap.ProbeGRPC, Port: 9000, Interval: time.Second}
	p := startShutPod(t, ip, named, whole)
	p.Becomes(probePath(named.Name), 503)
	server, service := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, service)
	go func() { _ = server.Serve(listen(t, ip, 9000)) }()
	defer server.Stop()
	p.Becomes(probePath(whole.Name), 200)
	p.Becomes(probePath(named.Name), 503) // the service is unknown
	service.SetServingStatus("shop", healthpb.HealthCheckResponse_SERVING)
	p.Becomes(probePath(named.Name), 200)
	service.SetServingStatus("shop", healthpb.HealthCheckResponse_NOT_SERVING)
	p.Becomes(probePath(named.Name), 503)
	p.Becomes(probePath(whole.Name), 200)
}

// An application that is stopped accepts connections, by its kernel, and never answers.
func TestProbeOfAStoppedApplication(t *testing.T) {
	t.Parallel()
	if ip := os.Getenv("PILOT_LITE_TEST_APPLICATION"); ip != "" {
		app := new(webApp)
		app.status.Store(200)
		l := listen(t, ip, 8080)
		fmt.Println("serving")
		_ = http.Serve(l, app)
		return
	}
	ip := newAddress()
	probe := bootstrap.Probe{Name: "app/liveness", Kind: bootstrap.ProbeHTTP, Port: 8080, Path: "/", Interval: time.Second, Timeout: time.Second}
	p := startShutPod(t, ip, probe)
	app := exec.Command(os.Args[0], "-test.run=^TestProbeOfAStoppedApplication$")
	app.Env = append(os.Environ(), "PILOT_LITE_TEST_APPLICATION="+ip)
	app.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := app.StdoutPipe()
	if err == nil {
		err = app.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = app.Process.Kill(); _ = app.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the application says %q: %v", line, err)
	}
	p.Becomes(probePath(probe.Name), 200)
	if err := app.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.Becomes(probePath(probe.Name), 503)
	if err := app.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.Becomes(probePath(probe.Name), 200)
}

// The port of the probes opens nothing: whatever comes, it answers by itself, and only two kinds of path, and only GET and HEAD.
func TestHealthPortOpensNothing(t *testing.T) {
	t.Parallel()
	ip := newAddress()
	probe := bootstrap.Probe{Name: "app/liveness", Kind: bootstrap.ProbeHTTP, Port: 8080, Path: "/healthz", Interval: time.Hour}
	app := new(webApp)
	app.status.Store(200)
	server := httptest.NewUnstartedServer(app)
	_ = server.Listener.Close()
	server.Listener = listen(t, ip, 8080)
	server.Start()
	defer server.Close()
	p := startShutPod(t, ip, probe)
	p.Becomes(probePath(probe.Name), 200)
	before := app.count.Load()
	for _, c := range []struct {
		request string
		want    string
	}{
		{"GET /probe/app%2Fliveness HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
		{"HEAD /probe/app%2Fliveness HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
		{"HEAD /ready HTTP/1.1\r\nHost: x\r\n\r\n", "200"},
		{"GET /healthz HTTP/1.1\r\nHost: " + ip + ":8080\r\n\r\n", "404"},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /probe/app HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /probe/app/liveness HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /probe/app%2fliveness HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /probe/app%2Fliveness?x HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /probe/app%2Fliveness/../../healthz HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET http://" + ip + ":8080/healthz HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"POST /probe/app%2Fliveness HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", "404"},
		{"POST /ready HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "404"},
		{"CONNECT " + ip + ":8080 HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "404"},
		{"GET /ready HTTP/1.0\r\n\r\n", "426"},
		{"GET /ready HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 16<<10) + "\r\n\r\n", "431"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400"},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"},
	} {
		if got := raw(t, ip, c.request); got != c.want {
			t.Errorf("%.60q: got %q, want %s", c.request, got, c.want)
		}
	}
	if after := app.count.Load(); after != before {
		t.Errorf("%d requests reached the application", after-before)
	}
}

// raw sends bytes to the health port and returns the status code.
func raw(t *testing.T, ip, request string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", fmt.Sprintf("%s:%d", ip, bootstrap.HealthPort))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(request)); err != nil {
		return err.Error()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if fields := strings.Fields(line); len(fields) > 1 {
		return fields[1]
	}
	return fmt.Sprint(err)
}

// A sidecar that is being emptied by its own user says so.
func TestReadyReflectsDraining(t *testing.T) {
	t.Parallel()
	p := startShutPod(t, newAddress())
	if _, err := p.Admin(http.MethodPost, "/healthcheck/fail"); err != nil {
		t.Fatal(err)
	}
	p.Becomes("/ready", 503)
}
