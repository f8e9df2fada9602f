package prove_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/internal/certtest"
	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

// Over TLS a proxy needs its own token: with it, it is served; with that of another node, of another key, or with none, it stays shut.
func TestTokensOverTLS(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	const address = "127.79.2.1"
	s.xdsAddress = net.JoinHostPort(address, fmt.Sprint(porttest.Free(t, address)))
	cert, certKey := selfSigned(t, address)
	key, otherKey := writeFile(t, "key", strings.Repeat("k", 32)), writeFile(t, "key", strings.Repeat("o", 32))
	s.serve("--tls-cert", cert, "--tls-key", certKey, "--token-key", key)

	bootstrap := func(node string, args ...string) string {
		text, code := s.command(append([]string{"bootstrap", "--node", node, "--xds-address", s.xdsAddress, "--ca", cert, "--admin-socket", "/ADMIN"}, args...)...)
		if code != 0 {
			t.Fatalf("bootstrap: exit code %d", code)
		}
		return text
	}
	start := func(text string) *envoytest.Envoy {
		socket := envoytest.AdminSocket(t)
		return envoytest.Start(t, strings.ReplaceAll(text, "/ADMIN", socket), socket)
	}
	token := regexp.MustCompile(`Bearer [^"\s]+`)
	good := bootstrap("shop/cart", "--token-key", key)
	another := token.FindString(bootstrap("shop/front", "--token-key", key))
	if another == "" || !token.MatchString(good) {
		t.Fatalf("no token in the bootstrap: %s", good)
	}
	for name, text := range map[string]string{
		"another node's token": token.ReplaceAllLiteralString(good, another),
		"another key's token":  bootstrap("shop/cart", "--token-key", otherKey),
		"no token":             bootstrap("shop/cart"),
	} {
		proxy := start(text)
		proxy.Eventually(name+" is refused", func() error {
			if proxy.Stat("cluster.xds.upstream_rq_completed") == 0 || proxy.Stat("cluster.xds.ssl.handshake") == 0 || proxy.Stat("control_plane.connected_state") != 0 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		s.wantVerdicts(name, noSocket)
		if n := s.pushes(); n != 0 {
			t.Errorf("%s: %d responses were sent", name, n)
		}
		proxy.Stop()
	}
	start(good)
	s.eventuallyVerdicts("with its own token", frontOnly)
}

// A proxy does not talk to a control plane that it cannot verify.
func TestProxyVerifiesTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newShop(t, map[string]string{"a.yaml": onlyFront()})
	const address = "127.79.2.1"
	s.xdsAddress = net.JoinHostPort(address, fmt.Sprint(porttest.Free(t, address)))
	cert, certKey := selfSigned(t, address)
	stranger, _ := selfSigned(t, address)
	key := writeFile(t, "key", strings.Repeat("k", 32))
	s.serve("--tls-cert", cert, "--tls-key", certKey, "--token-key", key)
	proxy := s.envoy("shop/cart", "--ca", stranger, "--token-key", key)
	proxy.Eventually("the handshake fails", func() error {
		if proxy.Stat("cluster.xds.ssl.fail_verify_error") == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	s.wantVerdicts("with another's certificate", noSocket)
}

// selfSigned makes a certificate for an address, and its key.
func selfSigned(t *testing.T, address string) (certFile, keyFile string) {
	t.Helper()
	pair := certtest.SelfSigned(t, address)
	return writeFile(t, "cert.pem", string(pair.CertPEM)), writeFile(t, "key.pem", string(pair.KeyPEM))
}

func writeFile(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
