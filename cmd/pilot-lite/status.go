package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const (
	statusTimeout  = 10 * time.Second
	maxStatusBytes = 256 << 20
)

type statusOptions struct{ address, format string }

func newStatusCmd(s streams) *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what each proxy runs, and what it refused",
		Long: `Asks a running server for every proxy and every resource: enforced (the proxy acknowledged the present content), pending, or refused, with the proxy's own
text. Then every policy: on how many of the expected proxies its present generation is enforced. In a cluster, then whose pods should be created again, since their sidecar is
not the one that new pods get, or will soon not trust the control plane any more. Exit code 1 when something was refused.`,
		Example: "  pilot-lite status\n  pilot-lite status --address unix:/run/pilot-lite/admin -o json",
		Args:    takesNothing(flagsAlone),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), s) },
	}
	cmd.Flags().StringVar(&o.address, "address", defaultAdminAddress, "the server's admin address: HOST:PORT or unix:PATH")
	cmd.Flags().StringVarP(&o.format, "output", "o", string(formatText), "text or json")
	return cmd
}

func (o *statusOptions) run(ctx context.Context, s streams) error {
	if err := outputFormat(o.format).check(formatText, formatJSON); err != nil {
		return err
	}
	if _, err := socketAddress("--address", o.address); err != nil {
		return err
	}
	proxies, err := fetchStatus(ctx, o.address)
	if err != nil {
		return failure{err}
	}
	policies := countPolicies(proxies)
	if outputFormat(o.format) == formatJSON {
		err = printJSON(s.out, map[string]any{"proxies": jsonProxies(proxies), "policies": policies})
	} else {
		err = printStatusText(s.out, proxies, policies)
	}
	if err != nil {
		return failure{err}
	}
	for _, p := range proxies {
		if p.Problem != "" {
			return errFinding
		}
		for _, r := range p.Resources {
			if r.State == xds.StateRefused {
				return errFinding
			}
		}
	}
	return nil
}

func fetchStatus(ctx context.Context, address string) ([]xds.ProxyStatus, error) {
	network, at := "tcp", address
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		network, at = "unix", strings.TrimPrefix(path, "//")
	}
	var unreached atomic.Pointer[error] // gRPC wraps it into words of its own
	// An admin address is on this machine, or at the end of a tunnel to it: no proxy of the environment could reach it, and none is to see what is asked.
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, at)
		if err != nil {
			unreached.Store(&err)
		}
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///"+at, grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(maxStatusBytes), // the default, 4 MiB, holds about a thousand proxies
	))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	answer, err := statusv3.NewClientStatusDiscoveryServiceClient(conn).FetchClientStatus(ctx, &statusv3.ClientStatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %s; is the server running, and is that its --admin-address?", address, whyNot(err, unreached.Load()))
	}
	return xds.StatusFrom(answer)
}

// whyNot is why an answer did not come, less the words of gRPC.
func whyNot(err error, unreached *error) string {
	var dialed *net.OpError
	switch {
	case unreached != nil && errors.As(*unreached, &dialed):
		return dialed.Err.Error() // the address is said already
	case unreached != nil:
		return (*unreached).Error()
	case status.Code(err) == codes.DeadlineExceeded:
		return "not within " + statusTimeout.String()
	}
	return status.Convert(err).Message()
}

// policyCount is how far one policy is in force.
type policyCount struct {
	Policy     string `json:"policy"`
	Generation int64  `json:"generation"`
	Expected   int    `json:"expected"`
	Enforced   int    `json:"enforced"`
	Refused    int    `json:"refused"`
	Pending    int    `json:"pending"`
}

// countPolicies counts, for each policy, the proxies by the worst state among the resources that it is part of.
func countPolicies(proxies []xds.ProxyStatus) []policyCount {
	counts := map[model.PolicyRef]*policyCount{}
	for _, p := range proxies {
		worst := map[model.PolicyRef]xds.State{}
		for _, r := range p.Resources {
			for _, ref := range r.Policies {
				if old, ok := worst[ref]; !ok || old == xds.StateEnforced || r.State == xds.StateRefused {
					worst[ref] = r.State
				}
			}
		}
		for ref, state := range worst {
			c := counts[ref]
			if c == nil {
				c = &policyCount{Policy: ref.Namespace + "/" + ref.Name, Generation: ref.Generation}
				counts[ref] = c
			}
			c.Expected++
			switch state {
			case xds.StateEnforced:
				c.Enforced++
			case xds.StateRefused:
				c.Refused++
			case xds.StatePending:
				c.Pending++
			}
		}
	}
	out := make([]policyCount, 0, len(counts))
	for _, c := range counts {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b policyCount) int { return cmp.Compare(a.Policy, b.Policy) })
	return out
}

// jsonProxy is a proxy as it is printed, in the words of `check --proxy`.
type jsonProxy struct {
	Proxy     string         `json:"proxy"`
	Workload  string         `json:"workload,omitempty"`
	Connected bool           `json:"connected"`
	Since     time.Time      `json:"since,omitzero"` // connected or disconnected
	Envoy     string         `json:"envoy,omitempty"`
	Problem   string         `json:"problem,omitempty"` // why it was turned away
	Restart   string         `json:"restart,omitempty"` // why its pod should be created again
	Resources []jsonResource `json:"resources"`
}

type jsonResource struct {
	proxyResource

	Changed  time.Time    `json:"changed,omitzero"`
	Policies []jsonPolicy `json:"policies"` // that the present content was built from
}

type jsonPolicy struct {
	Policy     string `json:"policy"`
	Generation int64  `json:"generation"`
}

func jsonProxies(proxies []xds.ProxyStatus) []jsonProxy {
	out := make([]jsonProxy, 0, len(proxies))
	for i := range proxies {
		p := &proxies[i]
		j := jsonProxy{Proxy: p.Node, Workload: p.Workload, Connected: p.Connected, Since: p.Since, Envoy: p.Build, Problem: oneLine(p.Problem), Restart: oneLine(p.Restart), Resources: []jsonResource{}}
		for _, r := range p.Resources {
			resource := jsonResource{proxyResource: rowOf(&r), Changed: r.Changed, Policies: []jsonPolicy{}}
			for _, ref := range r.Policies {
				resource.Policies = append(resource.Policies, jsonPolicy{ref.Namespace + "/" + ref.Name, ref.Generation})
			}
			j.Resources = append(j.Resources, resource)
		}
		out = append(out, j)
	}
	return out
}

func printStatusText(w io.Writer, proxies []xds.ProxyStatus, policies []policyCount) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROXY\tCONNECTED\tENVOY\tTYPE\tRESOURCE\tSTATE\tVERSION\tTEXT")
	for _, p := range proxies {
		connected := "no"
		if p.Connected {
			connected = "yes"
		}
		if p.Problem != "" {
			fmt.Fprintf(t, "%s\t%s\t-\t-\t-\tturned away\t-\t%s\n", p.Node, connected, oneLine(p.Problem))
		}
		if len(p.Resources) == 0 {
			fmt.Fprintf(t, "%s\t%s\t%s\t-\t-\tshut\t-\tno pod of that name is known\n", p.Node, connected, cmp.Or(p.Build, "-"))
		}
		for _, r := range p.Resources {
			row := rowOf(&r)
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s", p.Node, connected, cmp.Or(p.Build, "-"), row.Kind, row.Name, row.State, cmp.Or(row.Accepted, "-"))
			if row.Text != "" {
				fmt.Fprint(t, "\t"+row.Text)
			}
			fmt.Fprintln(t)
		}
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "POLICY\tGENERATION\tENFORCED\tPENDING\tREFUSED")
	for _, p := range policies {
		fmt.Fprintf(t, "%s\t%d\t%d/%d\t%d\t%d\n", p.Policy, p.Generation, p.Enforced, p.Expected, p.Pending, p.Refused)
	}
	printRestarts(t, proxies)
	return t.Flush()
}

// kindOf is what a resource type is called.
func kindOf(typeURL string) string {
	switch typeURL {
	case xds.ListenerType:
		return "listener"
	case xds.ClusterType:
		return "cluster"
	case xds.ExtensionConfigType:
		return "slot"
	}
	return typeURL
}

// oneLine is a proxy's text on one line, without control characters: it is somebody else's.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}
