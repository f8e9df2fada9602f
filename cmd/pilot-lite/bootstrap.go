package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.run(s) },
	}
	f := cmd.Flags()
	f.StringVar(&o.node, "node", "", "the proxy's pod, as NAMESPACE/POD (required)")
	f.StringVar(&o.xdsAddress, "xds-address", defaultXDSAddress, "the control plane: HOST:PORT or unix:PATH")
	f.StringVar(&o.admin, "admin-socket", "", "UNIX socket of Envoy's admin interface, or a loopback ADDRESS:PORT (default: /tmp/NAMESPACE_POD.admin)")
	f.StringVar(&o.caFile, "ca", "", "PEM file of the control plane's CA: speak TLS")
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
	if o.caFile != "" {
		c.TLS = &bootstrap.TLS{CAFile: o.caFile, ServerName: o.serverName}
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
	_, err = s.out.Write(text)
	return err
}

// writePrivate never leaves the text readable to others, not for a moment.
func writePrivate(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = f.Chmod(0o600)
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
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
	return key, nil
}
