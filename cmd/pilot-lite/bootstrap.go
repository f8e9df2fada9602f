package main

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
	"github.com/pilot-lite/pilot-lite/pkg/xds/protoyaml"
)

type bootstrapOptions struct {
	node, xdsAddress, admin, caFile, serverName, tokenKey, file string
	stateOfTheWorld                                             bool
}

func newBootstrapCmd(s streams) *cobra.Command {
	var o bootstrapOptions
	cmd := &cobra.Command{
		Use:   "bootstrap --node NAMESPACE/POD",
		Short: "Print the Envoy bootstrap of a node",
		Long: `Prints the configuration that a node's Envoy starts with: who it is, where its control plane is, and its limits. With --token-key it holds the node's
token: keep it as you keep a password (--file writes it with mode 0600).`,
		Example: `  pilot-lite bootstrap --node bookinfo/reviews-v1 > reviews.yaml
  pilot-lite bootstrap --node bookinfo/reviews-v1 --xds-address pilot-lite.example:15012 --ca ca.pem --token-key key --file reviews.yaml`,
		Args: takesNothing("name the node with --node"),
		RunE: func(*cobra.Command, []string) error { return o.run(s) },
	}
	f := cmd.Flags()
	f.StringVar(&o.node, "node", "", "the proxy's pod, as NAMESPACE/POD (required)")
	f.StringVar(&o.xdsAddress, "xds-address", defaultXDSAddress, "the control plane: HOST:PORT or unix:PATH")
	f.StringVar(&o.admin, "admin-socket", "", "UNIX socket of Envoy's admin interface, or a loopback ADDRESS:PORT (default: /tmp/NAMESPACE_POD.admin)")
	f.StringVar(&o.caFile, "ca", "", "PEM file of the control plane's CA: speak TLS; Envoy reads it, so it must stand at the same path where Envoy runs")
	f.StringVar(&o.serverName, "server-name", "", "name in the control plane's certificate (default: the host of --xds-address)")
	f.StringVar(&o.tokenKey, "token-key", "", "the server's token key file: write the node's token into the bootstrap")
	f.BoolVar(&o.stateOfTheWorld, "state-of-the-world", false, "ask for everything each time, rather than for changes")
	f.StringVar(&o.file, "file", "", "write to a file of mode 0600 rather than to standard output")
	return cmd
}

func (o *bootstrapOptions) run(s streams) error {
	namespace, pod, found := strings.Cut(o.node, "/")
	if !found || namespace == "" || pod == "" {
		return fmt.Errorf("node %q: name it with --node NAMESPACE/POD", o.node)
	}
	c := bootstrap.Config{Namespace: namespace, Pod: pod, Server: strings.Replace(o.xdsAddress, "unix://", "unix:", 1), Admin: o.admin}
	switch {
	case c.Admin == "":
		c.Admin = "unix:/tmp/" + namespace + "_" + pod + ".admin"
	case strings.HasPrefix(c.Admin, "/"):
		c.Admin = "unix:" + c.Admin
	}
	if o.stateOfTheWorld {
		c.Protocol = bootstrap.StateOfTheWorld
	}
	if o.serverName != "" && o.caFile == "" {
		return errors.New("--server-name goes with --ca: in clear text there is no certificate that could have the name")
	}
	if err := cmp.Or(existing("--ca", o.caFile), existing("--token-key", o.tokenKey)); err != nil {
		return err
	}
	if o.caFile != "" {
		if _, err := readAuthority(o.caFile); err != nil {
			return err
		}
		path, err := filepath.Abs(o.caFile) // Envoy runs in a folder of its own
		if err != nil {
			return failure{fmt.Errorf("--ca: %w", err)}
		}
		c.TLS = &bootstrap.TLS{CAFile: path, ServerName: o.serverName}
	}
	if o.tokenKey != "" {
		key, err := readKey(o.tokenKey)
		if err != nil {
			return err
		}
		if c.Token, err = xds.Token(key, o.node); err != nil {
			return err
		}
	}
	b, err := bootstrap.Build(c)
	if err != nil {
		return err
	}
	text, err := protoyaml.Marshal(b)
	if err != nil {
		return failure{err}
	}
	if o.file != "" {
		if err := writePrivate(o.file, text); err != nil {
			return failure{err}
		}
		return nil
	}
	if _, err = s.out.Write(text); err != nil {
		return failure{err}
	}
	return nil
}

// readAuthority reads the file that --ca names.
func readAuthority(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, failure{fmt.Errorf("--ca: %w", err)}
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--ca %s: it holds no certificate, and Envoy would trust nobody: name the PEM file of the control plane's CA", path)
	}
	return text, nil
}

// writePrivate never leaves the text readable to others, not for a moment.
func writePrivate(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("--file: %w", err) // which names the path
	}
	err = f.Chmod(0o600)
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("--file: %w", err)
	}
	return nil
}

// readKey reads a key file; a newline at its end is an editor's, but for random bytes that would be too few without it.
func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the token key: %w", err)
	}
	if trimmed := bytes.TrimRight(key, "\r\n"); len(trimmed) >= xds.MinKey {
		return trimmed, nil
	}
	if len(key) < xds.MinKey {
		return nil, fmt.Errorf("--token-key %s: it holds %d bytes, and at least %d are needed: make one with head -c %d /dev/urandom", path, len(key), xds.MinKey, xds.MinKey)
	}
	return key, nil
}
