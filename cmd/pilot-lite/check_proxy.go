package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// proxyReport is what one sidecar runs, beside what it should.
type proxyReport struct {
	Proxy     string          `json:"proxy"`
	Connected bool            `json:"connected"`
	Envoy     string          `json:"envoy,omitempty"`
	State     string          `json:"state"` // enforced, pending, refused, stale, shut, turned away or unknown
	Text      string          `json:"text"`
	Resources []proxyResource `json:"resources"`
	Policies  []proxyPolicy   `json:"policies"`
}

type proxyResource struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	State    xds.State `json:"state"`
	Should   string    `json:"should"`             // version that the server would have it run
	Accepted string    `json:"accepted,omitempty"` // version that it acknowledged last
	Source   string    `json:"source,omitempty"`   // version by -f or --kubeconfig, where it is another than the server's
	Refused  string    `json:"refused,omitempty"`  // version that it refused last
	Text     string    `json:"text,omitempty"`     // its words
}

type proxyPolicy struct {
	Policy     string    `json:"policy"`
	Generation int64     `json:"generation"`
	State      xds.State `json:"state"`
}

func (o *checkOptions) runProxy(ctx context.Context, s streams) error {
	node := o.proxy
	if !strings.Contains(node, "/") {
		node = o.namespace + "/" + node
	}
	if strings.HasPrefix(node, "pod/") {
		node = o.namespace + strings.TrimPrefix(node, "pod")
	}
	if strings.Count(node, "/") != 1 {
		return fmt.Errorf("--proxy %q: write NAMESPACE/POD or POD", o.proxy)
	}
	if _, err := socketAddress("--address", o.address); err != nil {
		return err
	}
	source, err := o.versionsOf(ctx, s, node)
	if err != nil {
		return err
	}
	proxies, err := fetchStatus(ctx, o.address)
	if err != nil {
		return failure{err}
	}
	report := reportProxy(node, proxies, source)
	if outputFormat(o.format) == formatJSON {
		err = printJSON(s.out, report)
	} else {
		err = printProxy(s.out, report)
	}
	if err != nil {
		return failure{err}
	}
	if report.State != string(xds.StateEnforced) {
		return errFinding
	}
	return nil
}

// resourceKey names a resource of a proxy.
type resourceKey struct{ kind, name string }

// versionsOf are the versions that files or a cluster would have a pod's sidecar run; nil where neither was named.
func (o *checkOptions) versionsOf(ctx context.Context, s streams, node string) (map[resourceKey]string, error) {
	if err := o.world.check(); err != nil {
		return nil, err
	}
	var snapshot *model.Snapshot
	switch {
	case len(o.world.files.paths) > 0:
		loaded, err := o.world.files.load(s)
		if err != nil {
			return nil, err
		}
		if len(loaded.Problems) > 0 {
			return nil, failure{errors.New(loaded.Problems[0].String())}
		}
		snapshot = loaded.Snapshot // as a server reads it, not as it may be admitted
	case o.clusterWasNamed:
		var err error
		if snapshot, err = o.world.cluster("-f").read(ctx, s); err != nil {
			return nil, err
		}
	default:
		return nil, nil //nolint:nilnil // nothing to compare with
	}
	index := model.NewIndex(snapshot)
	namespace, pod, _ := strings.Cut(node, "/")
	workload := index.WorkloadOf(namespace, pod)
	if workload == nil {
		return nil, fmt.Errorf("--proxy %q: there is no such pod in what was read", node)
	}
	out := map[resourceKey]string{}
	for _, w := range translate.Translate(index).Workloads {
		if w.Workload != workload {
			continue
		}
		for _, r := range w.Resources {
			resource, err := xds.NewResource(r.Message, r.Policies)
			if err != nil {
				return nil, failure{err}
			}
			out[resourceKey{kindOf(resource.Type), resource.Name}] = resource.Version
		}
	}
	return out, nil
}

// reportProxy compares what a sidecar accepted with what the server, and a source beside it, would have it run.
func reportProxy(node string, proxies []xds.ProxyStatus, source map[resourceKey]string) *proxyReport {
	r := &proxyReport{Proxy: node, State: "unknown", Text: "the server knows no proxy and expects none by that name", Resources: []proxyResource{}, Policies: []proxyPolicy{}}
	i := slices.IndexFunc(proxies, func(p xds.ProxyStatus) bool { return p.Node == node })
	if i < 0 {
		return r
	}
	p := &proxies[i]
	r.Connected, r.Envoy = p.Connected, p.Build
	stale := 0
	for _, s := range p.Resources {
		row := rowOf(&s)
		if version := source[resourceKey{row.Kind, row.Name}]; source != nil && version != s.Desired {
			row.Source = cmp.Or(version, "none")
			stale++
		}
		r.Resources = append(r.Resources, row)
	}
	r.Policies = policiesOf(p)
	r.State, r.Text = proxyState(p, stale)
	return r
}

// rowOf is how a resource stands; what was refused before the present content was accepted is no more.
func rowOf(r *xds.ResourceStatus) proxyResource {
	row := proxyResource{Kind: kindOf(r.Type), Name: r.Name, State: r.State, Should: r.Desired, Accepted: r.Enforced, Refused: r.Refused, Text: oneLine(r.Text)}
	if r.State == xds.StateEnforced {
		row.Text, row.Refused = "", ""
	}
	return row
}

// policiesOf are the policies that a proxy's slots are built from, each with the worst state among those.
func policiesOf(p *xds.ProxyStatus) []proxyPolicy {
	out := []proxyPolicy{}
	for _, c := range countPolicies([]xds.ProxyStatus{*p}) {
		state := xds.StateEnforced
		switch {
		case c.Refused > 0:
			state = xds.StateRefused
		case c.Pending > 0:
			state = xds.StatePending
		}
		out = append(out, proxyPolicy{c.Policy, c.Generation, state})
	}
	return out
}

// proxyState sums up.
func proxyState(p *xds.ProxyStatus, stale int) (state, text string) {
	has := func(s xds.State) bool {
		return slices.ContainsFunc(p.Resources, func(r xds.ResourceStatus) bool { return r.State == s })
	}
	switch {
	case p.Problem != "":
		return "turned away", oneLine(p.Problem)
	case len(p.Resources) == 0:
		return "shut", "no pod of that name is known, so it is sent nothing and denies everything"
	case has(xds.StateRefused):
		return string(xds.StateRefused), "it refused content, and runs what it accepted last"
	case !p.Connected:
		return string(xds.StatePending), "it is not connected: what it runs is what it accepted last, if anything"
	case has(xds.StatePending):
		return string(xds.StatePending), "it has not acknowledged everything yet"
	case stale > 0:
		return "stale", "it runs what the server would have it run, and the server has something else than what was read here"
	}
	return string(xds.StateEnforced), "it runs what it should"
}

func printProxy(w io.Writer, r *proxyReport) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s: %s\n", r.Proxy, r.State, r.Text)
	if len(r.Resources) > 0 {
		fmt.Fprintln(t)
		fmt.Fprintln(t, "KIND\tNAME\tSTATE\tSHOULD\tACCEPTED\tTEXT")
	}
	for _, x := range r.Resources {
		text := x.Text
		if x.Source != "" {
			text = strings.TrimSpace(text + " what was read here makes " + x.Source)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Kind, x.Name, x.State, x.Should, cmp.Or(x.Accepted, "-"), text)
	}
	if len(r.Policies) > 0 {
		fmt.Fprintln(t)
		fmt.Fprintln(t, "POLICY\tGENERATION\tSTATE")
	}
	for _, x := range r.Policies {
		fmt.Fprintf(t, "%s\t%d\t%s\n", x.Policy, x.Generation, x.State)
	}
	return t.Flush()
}
