// Package apitest runs a real API server in tests: etcd and kube-apiserver on loopback, with certificates of their own. Input: the two programs. Output: an API
// server that ends with the test, can be stopped, paused and started again, as its etcd can, clients' configurations, and a proxy that fails as networks do.
// One entry point: New. A start takes some seconds: tests of a package share one server, each in a namespace of its own.
package apitest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

// Server is an API server and its etcd.
type Server struct {
	t        testing.TB
	dir      string
	port     int
	etcdPort int
	etcd     *process
	certs    *certificates
	admin    *rest.Config

	mu  sync.Mutex
	api *process // nil while it is stopped
}

// These are generous: the machine may be busy.
const (
	startTimeout = 90 * time.Second
	applyTimeout = 30 * time.Second // of one object: a definition that was just made is not served yet
	pauseTime    = 10 * time.Second
)

// New runs an API server until the test ends. Without the programs the test is skipped.
func New(t testing.TB) *Server {
	t.Helper()
	etcd, apiserver := Program(t, "ETCD", "etcd"), Program(t, "KUBE_APISERVER", "kube-apiserver")
	s := &Server{t: t, dir: t.TempDir(), port: porttest.Free(t, loopback), etcdPort: porttest.Free(t, loopback)}
	s.certs = newCertificates(t, s.dir)
	s.admin = s.User("admin", "system:masters")
	client := local("http", s.etcdPort)
	s.etcd = start(t, s.dir, etcd, "--data-dir="+s.etcdData(), "--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+local("http", porttest.Free(t, loopback)), "--log-level=warn", "--snapshot-count=10000")
	t.Cleanup(func() { s.etcd.kill() })
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.api != nil {
			s.api.kill()
		}
	})
	s.api = start(t, s.dir, apiserver, s.flags()...)
	s.waitReady()
	return s
}

func (s *Server) flags() []string {
	return []string{
		"--etcd-servers=" + local("http", s.etcdPort), "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(s.port), "--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--allow-privileged", "--client-ca-file=" + s.certs.caFile,
		"--tls-cert-file=" + s.certs.serverFile, "--tls-private-key-file=" + s.certs.serverKeyFile, "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + s.certs.accountKeyFile, "--service-account-signing-key-file=" + s.certs.accountKeyFile,
	}
}

// Config is a client's that may do everything. It has no limit of its own on requests.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.admin) }

// User is a client's configuration in somebody else's name, who may do what RBAC lets them.
func (s *Server) User(name string, groups ...string) *rest.Config {
	s.t.Helper()
	certificate, key := s.certs.client(s.t, name, groups)
	return &rest.Config{Host: local("https", s.port), QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: s.certs.caPEM, CertData: certificate, KeyData: key}}
}

// CloseIdle closes connections of clients that would outlive the test.
func CloseIdle(clients ...kubernetes.Interface) {
	for _, c := range clients {
		if r, is := c.Discovery().RESTClient().(*rest.RESTClient); is {
			r.Client.CloseIdleConnections()
		}
	}
}

// Namespace makes a namespace with the service account that pods need, which no controller makes here. It returns the name, made unique.
func (s *Server) Namespace(t testing.TB, prefix string, labels map[string]string) string {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(s.admin)
	ns, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-", Labels: labels}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(ns.Name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatalf("make a service account: %v", err)
	}
	return ns.Name
}

// Kubeconfig writes a client's configuration to a file, and returns its path.
func Kubeconfig(t testing.TB, c *rest.Config) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	config.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	config.CurrentContext = "test"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// Controllers runs some of Kubernetes' own controllers until the test ends, the garbage collector, say. Without their program the test is skipped.
func (s *Server) Controllers(t testing.TB, names ...string) {
	t.Helper()
	program := Program(t, "KUBE_CONTROLLER_MANAGER", "kube-controller-manager")
	p := start(t, s.dir, program, "--kubeconfig="+Kubeconfig(t, s.admin), "--controllers="+strings.Join(names, ","), "--leader-elect=false", "--secure-port=0")
	t.Cleanup(p.kill)
}

// Stop ends the API server at once, as a crash would; etcd stays.
func (s *Server) Stop() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api.kill()
}

// Restart starts a stopped API server at the same address, and waits until it serves.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	s.api = s.api.again()
	s.mu.Unlock()
	s.waitReady()
}

// RotateAccountKey makes a stopped API server sign service account tokens with a new key once it is started again. It goes on accepting those of the key before.
func (s *Server) RotateAccountKey() {
	s.t.Helper()
	before, err := os.ReadFile(s.certs.accountKeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	// It signs with the first key of the file, and accepts those of all.
	if err := os.WriteFile(s.certs.accountKeyFile, append(encodeKey(s.t, newKey(s.t)), before...), 0o600); err != nil { //nolint:gosec // in the test's own directory
		s.t.Fatal(err)
	}
}

// Pause stops the API server's clock (SIGSTOP): connections stay open, and nothing answers once it returns. Each thread stops by itself, some later than others.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	for began := time.Now(); !s.api.stopped(); time.Sleep(time.Millisecond) {
		if time.Since(began) > pauseTime {
			s.t.Fatal("the API server does not stop")
		}
	}
}

// Resume lets a paused API server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.api.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("%s: %v", sig, err)
	}
}

func (s *Server) waitReady() {
	s.t.Helper()
	client, err := rest.HTTPClientFor(s.admin)
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	client.Timeout = 5 * time.Second
	Eventually(s.t, startTimeout, "the API server is ready", func() error {
		s.mu.Lock()
		exited := s.api.exited()
		s.mu.Unlock()
		if exited {
			s.t.Fatalf("the API server ended:\n%s", s.api.log())
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.admin.Host+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", resp.Status)
		}
		return nil
	})
}

// Eventually waits until check returns nil.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, within, err)
}

// Program returns the path of a program: what the environment names, else from the cache directory, else from the path.
func Program(t testing.TB, variable, name string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s in PATH: put one there, or set %s to its path, for the tests against a real API server", name, variable)
	}
	return path
}

const loopback = "127.0.0.1"

func local(scheme string, port int) string {
	return scheme + "://" + net.JoinHostPort(loopback, strconv.Itoa(port))
}
