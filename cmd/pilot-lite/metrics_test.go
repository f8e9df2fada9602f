package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// With the rights of the manifests and no others, the control plane shows its metrics over TLS to an account that may read them, and to nobody else, nor anything else of
// its admin interface; and while it cannot ask the API server, to nobody new.
func TestMetricsOverTheNetwork(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.ready(t, http.StatusOK, "ok")
	scraper, other := r.account(t, "prometheus"), r.account(t, "curious")
	r.bind(t, "pilot-lite-metrics-reader", "prometheus")
	client := r.trusting(t)
	wants := func(what, path, token string, want int) {
		t.Helper()
		if got, page, err := scraped(t, client, r.hooks, path, token); got != want || strings.Contains(page, "pilot_lite_proxies") != (want == http.StatusOK) {
			t.Errorf("%s: got %d (%v) %.200q, want %d", what, got, err, page, want)
		}
	}
	apitest.Eventually(t, patience, "the scraper reads the metrics", func() error {
		got, page, err := scraped(t, client, r.hooks, metricsPath, scraper)
		if err != nil || got != http.StatusOK || !strings.Contains(page, "pilot_lite_proxies") {
			return fmt.Errorf("got %d %.200q %w", got, page, err)
		}
		return nil
	})
	wants("somebody else", metricsPath, other, http.StatusForbidden)
	wants("a sidecar", metricsPath, r.token(t), http.StatusUnauthorized)
	wants("a stranger", metricsPath, "guessed", http.StatusUnauthorized)
	wants("nobody", metricsPath, "", http.StatusUnauthorized)
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile", "/readyz", "/healthz", "/", "/metrics/", "/Metrics"} {
		if got, page, _ := scraped(t, client, r.hooks, path, scraper); got == http.StatusOK {
			t.Errorf("%s: got %.200q", path, page)
		}
	}
	if got, _, err := scraped(t, http.DefaultClient, r.health, metricsPath, scraper); got != http.StatusNotFound {
		t.Errorf("in clear text: got %d, %v", got, err)
	}

	late := r.account(t, "late")
	r.proxy.Hold(apitest.ToServer, apitest.ToClient)
	wants("somebody new while the API server is away", metricsPath, late, http.StatusServiceUnavailable)
}

// account is a token of a new account, as pods have it for the API server.
func (r *replica) account(t *testing.T, name string) string {
	t.Helper()
	accounts := r.CoreV1().ServiceAccounts(r.namespace)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Status.Token
}

// authority is what those trust who call the control plane.
func (r *replica) authority(t *testing.T) []byte {
	t.Helper()
	secret, err := r.CoreV1().Secrets(defaultNamespace).Get(t.Context(), "pilot-lite-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, part := range secret.Data {
		if strings.Contains(string(part), "BEGIN CERTIFICATE") {
			text = append(text, part...)
		}
	}
	return text
}

// trusting is a client that trusts the control plane's authority, as scrapers do.
func (r *replica) trusting(t *testing.T) *http.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, r.authority(t), 0o600); err != nil {
		t.Fatal(err)
	}
	client := trusting(t, file)
	client.Timeout = 30 * time.Second
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// scraped asks with a token; in clear text where the client trusts nobody in particular.
func scraped(t *testing.T, client *http.Client, address, path, token string) (status int, page string, err error) {
	t.Helper()
	scheme := "https://"
	if client == http.DefaultClient {
		scheme = "http://"
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+address+path, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
