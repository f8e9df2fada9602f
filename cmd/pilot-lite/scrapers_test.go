//go:build netns

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/certtest"
	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/netnstest"
	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/capture"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A captured pod that no policy isolates, a sidecar as it is injected, and the control plane: the metrics are for whom the settings name, as soon as they do and for as
// long, although the pod is open to everybody.
func TestCapturedScrapers(t *testing.T) {
	if !netnstest.Inside(t) {
		return
	}
	pod := netnstest.NewPod(t)
	if err := capture.Apply(capture.Config{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	settings := func(peers string) {
		t.Helper()
		world := `{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart, policy.pilot-lite.io/proxy: injected}}
spec: {nodeName: node, containers: [{name: cart, image: cart, ports: [{containerPort: 8080}]}]}
status: {phase: Running, podIP: ` + netnstest.PodIPv4 + `, podIPs: [{ip: ` + netnstest.PodIPv4 + `}]}
---
apiVersion: policy.pilot-lite.io/v1alpha1
kind: MeshConfig
metadata: {name: pilot-lite}
spec: {metrics: {peers: [` + peers + `]}}
`
		if err := os.WriteFile(filepath.Join(dir, "world.yaml"), []byte(world), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings("")
	sidecar := startServed(t, dir)
	becomes := func(what, source string, want int) {
		t.Helper()
		sidecar.Eventually(what, func() error {
			if got, err := scrapeFrom(t, pod, source); got != want {
				return fmt.Errorf("got %d, want %d: %w", got, want, err)
			}
			return nil
		})
	}
	becomes("nobody is named", netnstest.FriendIPv4, http.StatusForbidden)
	settings("{ipBlock: {cidr: " + netnstest.FriendIPv4 + "/32}}")
	becomes("the friend is named", netnstest.FriendIPv4, http.StatusOK)
	becomes("the stranger is not", netnstest.StrangerIPv4, http.StatusForbidden)
	settings("")
	becomes("nobody is named any more", netnstest.FriendIPv4, http.StatusForbidden)
}

func scrapeFrom(t *testing.T, pod *netnstest.Pod, source string) (int, error) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return pod.Dial(ctx, source, network, address)
		},
	}}
	url := "http://" + net.JoinHostPort(netnstest.PodIPv4, strconv.Itoa(int(bootstrap.MetricsPort))) + bootstrap.MetricsPath
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// startServed is the sidecar of shop/cart-1, and the control plane that serves it from a folder.
func startServed(t *testing.T, dir string) *envoytest.Envoy {
	t.Helper()
	const address = "127.0.0.1:15012"
	secrets := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(secrets, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := certtest.SelfSigned(t, "localhost")
	key := []byte(strings.Repeat("k", 32))
	token, err := xds.Token(key, "shop/cart-1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	args := []string{
		"serve", "--from", dir, "--xds-address", address, "--tls-cert", write("cert.pem", pair.CertPEM), "--tls-key", write("key.pem", pair.KeyPEM), "--token-key", write("token.key", key),
	}
	go func() { ended <- run(ctx, args, streams{in: strings.NewReader(""), out: io.Discard, err: t.Output()}) }()
	t.Cleanup(func() { stop(); <-ended })

	admin := envoytest.AdminSocket(t)
	b, err := bootstrap.BuildSidecar(bootstrap.Sidecar{
		Server: address, ServerName: "localhost", CABundle: pair.CertPEM, TokenPath: write("token", []byte(token)), AdminPath: admin,
	})
	if err != nil {
		t.Fatal(err)
	}
	sidecar, err := bootstrap.Args(b)
	if err != nil {
		t.Fatal(err)
	}
	return envoytest.StartArgs(t, sidecartest.Expand(sidecar, netnstest.PodIPv4), admin)
}
