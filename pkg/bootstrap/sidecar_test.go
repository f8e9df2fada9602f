package bootstrap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

func sidecar() bootstrap.Sidecar {
	return bootstrap.Sidecar{
		Server: "pilot-lite.pilot-lite-system.svc:15012", ServerName: "pilot-lite.pilot-lite-system.svc", CABundle: []byte(testCA),
		TokenPath: "/var/run/secrets/pilot-lite/token", AdminPath: "/run/pilot-lite/admin.sock",
	}
}

// everyProbe has one probe of each kind, with characters that other layers could take for their own.
func everyProbe() []bootstrap.Probe {
	return []bootstrap.Probe{
		{
			Name: "app/liveness", Kind: bootstrap.ProbeHTTP, Port: 8080, Path: "/healthz?full=1&v=$(POD_IP)$$%20", Host: "shop.example",
			Headers:  []bootstrap.ProbeHeader{{Name: "X-Probe", Value: "100% $(POD_NAME) \"quoted\" ünïcode"}, {Name: "X-Probe", Value: ""}},
			Interval: 10 * time.Second, Timeout: time.Second,
		},
		{Name: "app/readiness", Kind: bootstrap.ProbeHTTP, Scheme: bootstrap.SchemeHTTPS, Port: 8443, Path: "ready"},
		{Name: "app/startup", Kind: bootstrap.ProbeTCP, Port: 5432},
		{Name: "we?ird/../%2f $(POD_IP)/grpc", Kind: bootstrap.ProbeGRPC, Port: 9000, GRPCService: "a\u2028b\x7f\"\\/\x01\x00\t😀: {} # &x *y"},
	}
}

func args(t *testing.T, s bootstrap.Sidecar) []string {
	t.Helper()
	b, err := bootstrap.BuildSidecar(s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := bootstrap.Args(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEnvoyAcceptsSidecar(t *testing.T) {
	t.Parallel()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"127.0.0.1", "::1"} {
		s := sidecar()
		s.Probes, s.IPv6, s.TokenPath = everyProbe(), ip == "::1", token
		out, err := exec.Command(envoytest.Binary(t), append(sidecartest.Expand(args(t, s), ip), "--mode", "validate")...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "deprecated") {
			t.Errorf("%s: %v\n%s", ip, err, out)
		}
	}
}

// The kubelet puts values only where they are meant, and leaves what users wrote as they wrote it.
func TestOnlyOurReferencesAreExpanded(t *testing.T) {
	t.Parallel()
	s := sidecar()
	s.Probes = everyProbe()
	config := sidecartest.Expand(args(t, s), "10.0.0.7")[1]
	for _, want := range []string{
		`"id":"shop/cart-1"`, `"address":"10.0.0.7","portValue":15021`, `"path":"/healthz?full=1&v=$(POD_IP)$$%20"`,
		`"value":"100%% $(POD_NAME) \"quoted\" ünïcode"`, `"/probe/we%3Fird%2F..%2F%252f%20$%28POD_IP%29%2Fgrpc"`,
	} {
		if !strings.Contains(config, want) {
			t.Errorf("no %s in %s", want, config)
		}
	}
}

func TestArgsAreTheSameEveryTime(t *testing.T) {
	t.Parallel()
	s := sidecar()
	s.Probes = everyProbe()
	first := args(t, s)
	for range 20 {
		if diff := cmp.Diff(first, args(t, s)); diff != "" {
			t.Fatalf("different arguments:\n%s", diff)
		}
	}
}

func TestBuildSidecarRefuses(t *testing.T) {
	t.Parallel()
	probe := func(change func(*bootstrap.Probe)) func(*bootstrap.Sidecar) {
		return func(s *bootstrap.Sidecar) {
			p := bootstrap.Probe{Name: "a", Kind: bootstrap.ProbeTCP, Port: 1}
			change(&p)
			s.Probes = []bootstrap.Probe{p}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*bootstrap.Sidecar)
		want   string
	}{
		{"no CA", func(s *bootstrap.Sidecar) { s.CABundle = nil }, "CA bundle"},
		{"a CA that is no certificate", func(s *bootstrap.Sidecar) {
			s.CABundle = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}, "CA bundle"},
		{"a private key beside the CA", func(s *bootstrap.Sidecar) {
			s.CABundle = append([]byte(testCA), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"...)
		}, "CA bundle"},
		{"no token", func(s *bootstrap.Sidecar) { s.TokenPath = "" }, "token"},
		{"a token's path that ends its formatter", func(s *bootstrap.Sidecar) { s.TokenPath = "/a)%" }, "token file"},
		{"no server", func(s *bootstrap.Sidecar) { s.Server = "" }, "server"},
		{"no admin socket", func(s *bootstrap.Sidecar) { s.AdminPath = "" }, "admin"},
		{"a probe without name", probe(func(p *bootstrap.Probe) { p.Name = "" }), "name"},
		{"a probe without port", probe(func(p *bootstrap.Probe) { p.Port = 0 }), "port"},
		{"a probe of no kind", probe(func(p *bootstrap.Probe) { p.Kind = "EXEC" }), "kind"},
		{"a probe of no scheme", probe(func(p *bootstrap.Probe) { p.Scheme = "ftp" }), "scheme"},
		{"two probes of one name", func(s *bootstrap.Sidecar) { s.Probes = append(everyProbe(), everyProbe()...) }, "twice"},
		{"a header that ends its line", probe(func(p *bootstrap.Probe) {
			p.Kind, p.Headers = bootstrap.ProbeHTTP, []bootstrap.ProbeHeader{{Name: "a", Value: "b\r\nc: d"}}
		}), "header"},
		{"a header that is none", probe(func(p *bootstrap.Probe) {
			p.Kind, p.Headers = bootstrap.ProbeHTTP, []bootstrap.ProbeHeader{{Name: ":path", Value: "/"}}
		}), "header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := sidecar()
			c.change(&s)
			if _, err := bootstrap.BuildSidecar(s); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %q", err, c.want)
			}
		})
	}
}
