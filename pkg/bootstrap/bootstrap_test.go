package bootstrap_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

func local() bootstrap.Config {
	return bootstrap.Config{Namespace: "shop", Pod: "cart-1", Server: "unix:/tmp/xds", Admin: "unix:/tmp/admin"}
}

func build(t *testing.T, c bootstrap.Config) *bootstrapv3.Bootstrap {
	t.Helper()
	b, err := bootstrap.Build(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.ValidateAll(); err != nil {
		t.Fatal(err)
	}
	return b
}

// Envoy itself takes every variant.
func TestEnvoyAccepts(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(testCA), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*bootstrap.Config){
		"socket":             func(*bootstrap.Config) {},
		"loopback":           func(c *bootstrap.Config) { c.Server, c.Admin = "127.0.0.1:18000", "[::1]:15000" },
		"state of the world": func(c *bootstrap.Config) { c.Protocol = bootstrap.StateOfTheWorld },
		"TLS, name and token": func(c *bootstrap.Config) {
			c.Server, c.TLS, c.Token = "pilot-lite.pilot-lite.svc:15012", &bootstrap.TLS{CAFile: ca}, "abc"
		},
		"TLS, address": func(c *bootstrap.Config) { c.Server, c.TLS = "10.0.0.1:15012", &bootstrap.TLS{CAFile: ca} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := local()
			change(&c)
			config, err := protojson.Marshal(build(t, c))
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "bootstrap.json")
			if err := os.WriteFile(file, config, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(envoytest.Binary(t), "--mode", "validate", "-c", file, "-l", "warning").CombinedOutput()
			if err != nil || strings.Contains(string(out), "deprecated") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// What would be unsafe or cannot work is refused, with the field's name.
func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*bootstrap.Config)
		want   string
	}{
		{"no namespace", func(c *bootstrap.Config) { c.Namespace = "" }, "namespace"},
		{"a slash in the pod", func(c *bootstrap.Config) { c.Pod = "a/b" }, "pod"},
		{"no server", func(c *bootstrap.Config) { c.Server = "" }, "server"},
		{"no port", func(c *bootstrap.Config) { c.Server = "127.0.0.1" }, "host:port"},
		{"port 0", func(c *bootstrap.Config) { c.Server = "127.0.0.1:0" }, "port"},
		{"clear text over the network", func(c *bootstrap.Config) { c.Server = "10.0.0.1:15010" }, "TLS"},
		{"a name may be resolved elsewhere", func(c *bootstrap.Config) { c.Server = "localhost:15010" }, "TLS"},
		{"TLS without CA", func(c *bootstrap.Config) { c.Server, c.TLS = "10.0.0.1:1", &bootstrap.TLS{} }, "CA file"},
		{"TLS over a socket without a name", func(c *bootstrap.Config) { c.TLS = &bootstrap.TLS{CAFile: "x"} }, "server name"},
		{"admin for the network", func(c *bootstrap.Config) { c.Admin = "0.0.0.0:15000" }, "admin"},
		{"admin on a name", func(c *bootstrap.Config) { c.Admin = "localhost:15000" }, "admin"},
		{"no admin", func(c *bootstrap.Config) { c.Admin = "" }, "admin"},
		{"a socket's path that does not fit", func(c *bootstrap.Config) { c.Admin = "unix:/" + strings.Repeat("a", 108) }, "107"},
		{"unknown protocol", func(c *bootstrap.Config) { c.Protocol = "rest" }, "protocol"},
		{"a token that ends its header", func(c *bootstrap.Config) { c.Token = "a\r\nx: y" }, "token"},
		{"a name that is not UTF-8", func(c *bootstrap.Config) { c.Server, c.TLS = "a:1", &bootstrap.TLS{CAFile: "\xff"} }, "UTF-8"},
		{"negative connections", func(c *bootstrap.Config) { c.MaxConnections = -1 }, "connections"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := local()
			c.change(&config)
			if _, err := bootstrap.Build(config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that names %q", err, c.want)
			}
		})
	}
}

func TestWhatTheServerSees(t *testing.T) {
	t.Parallel()
	c := local()
	c.Token = "abc"
	b := build(t, c)
	if got := b.GetNode().GetId(); got != "shop/cart-1" {
		t.Errorf("node id %q", got)
	}
	ads := b.GetDynamicResources().GetAdsConfig()
	if ads.GetApiType() != corev3.ApiConfigSource_DELTA_GRPC {
		t.Errorf("api type %v: delta is what lets a reconnecting proxy be sent nothing", ads.GetApiType())
	}
	metadata := ads.GetGrpcServices()[0].GetInitialMetadata()
	if len(metadata) != 1 || metadata[0].GetKey() != "authorization" || metadata[0].GetValue() != "Bearer abc" {
		t.Errorf("metadata %v", metadata)
	}
	if got := b.GetAdmin().GetAddress().GetPipe().GetMode(); got != 0o600 {
		t.Errorf("the admin socket's mode is %o: the application shares the file system", got)
	}
}
