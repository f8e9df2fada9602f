package sidecartest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

// Pod is a running sidecar at a loopback address of its own.
type Pod struct {
	*envoytest.Envoy
	// IP is the pod's address, and AdminSocket the path of Envoy's admin interface.
	IP, AdminSocket string

	t     testing.TB
	token string
	args  []string
}

// Start runs a sidecar of a pod at an address, which is its own in the test, so that tests run side by side although a sidecar's ports are fixed.
func Start(t testing.TB, c *Control, ip string, probes ...bootstrap.Probe) *Pod {
	t.Helper()
	return StartSidecar(t, c, ip, bootstrap.Sidecar{Probes: probes})
}

// StartSidecar is Start with settings of the test's own; those that lead to the server are filled in.
func StartSidecar(t testing.TB, c *Control, ip string, s bootstrap.Sidecar) *Pod {
	t.Helper()
	p := &Pod{t: t, IP: ip, AdminSocket: envoytest.AdminSocket(t), token: filepath.Join(t.TempDir(), "token")}
	p.WriteToken("first")
	s.Server, s.ServerName, s.CABundle = c.address, serverName, c.ca
	s.TokenPath, s.AdminPath, s.IPv6 = p.token, p.AdminSocket, netip.MustParseAddr(ip).Is6()
	b, err := bootstrap.BuildSidecar(s)
	if err != nil {
		t.Fatal(err)
	}
	args, err := bootstrap.Args(b)
	if err != nil {
		t.Fatal(err)
	}
	p.args = Expand(args, ip)
	p.Envoy = envoytest.StartArgs(t, p.args, p.AdminSocket)
	return p
}

// Restart kills the proxy and starts it again, as the kubelet does with a container: what it left in its folders is still there.
func (p *Pod) Restart() {
	p.t.Helper()
	p.Stop()
	p.Envoy = envoytest.StartArgs(p.t, p.args, p.AdminSocket)
}

// WriteToken replaces the token as the kubelet does: a symbolic link to the folder with the files is swapped.
func (p *Pod) WriteToken(token string) {
	p.t.Helper()
	dir := filepath.Dir(p.token)
	fresh, err := os.MkdirTemp(dir, "..2026_")
	if err != nil {
		p.t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(fresh, "token"), []byte(token), 0o600))
	must(os.Symlink(filepath.Base(fresh), filepath.Join(dir, "..data_tmp")))
	must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if _, err := os.Lstat(p.token); err != nil {
		must(os.Symlink(filepath.Join("..data", "token"), p.token))
	}
}

// Ask is what the kubelet gets.
func (p *Pod) Ask(path string) int {
	p.t.Helper()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprintf("http://%s%s", net.JoinHostPort(p.IP, strconv.Itoa(int(bootstrap.HealthPort))), path), http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// Becomes waits until the kubelet gets an answer.
func (p *Pod) Becomes(path string, want int) {
	p.t.Helper()
	p.Eventually(fmt.Sprintf("%s becomes %d", path, want), func() error {
		if got := p.Ask(path); got != want {
			return fmt.Errorf("got %d", got)
		}
		return nil
	})
}

// Expand makes of arguments what the kubelet passes on.
func Expand(args []string, ip string) []string {
	var out []string
	for _, a := range args {
		out = append(out, bootstrap.Expand(a, map[string]string{"POD_NAME": "cart-1", "POD_NAMESPACE": "shop", "POD_IP": ip}))
	}
	return out
}
