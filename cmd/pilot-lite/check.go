package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/check"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

type checkOptions struct {
	world           worldOptions
	from, to, host  string
	headers         []string
	namespace       string
	format          string
	all             bool
	proxy, address  string
	clusterWasNamed bool
}

func newCheckCmd(s streams) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check --from CALLER --to CALLEE[:PORT] [METHOD] [PATH] | --all | --proxy POD",
		Short: "Ask whether somebody may call somebody, on both layers, and why",
		Long: `Answers, for files (-f) or a cluster, whether a call is allowed: the verdict of each layer, the rule that decided or the one that came nearest and its first term
that fails, and the way there: the caller's egress, the callee's ingress, the capture, the sidecar.

CALLER and CALLEE are deploy/NAME, sts/NAME, ds/NAME, job/NAME, pod/NAME, sa/NAME, ip/ADDRESS, NAMESPACE/NAME or NAMESPACE/KIND/NAME; CALLEE may be svc/NAME, and
its port is then the Service's. PORT is a number or a name, and may end in /udp or /sctp. One pod stands for its workload. A port that speaks HTTP is sent a request: METHOD
and PATH, or PATH alone for a GET.

Two oracles are asked about the sidecar: what the policies mean, and what the generated configuration decides. Where they differ this program is at fault: it says so, and
exits with 3.

--all prints how far every workload gets at every port of every other. --proxy compares what a pod's sidecar has accepted with what it should have, by the server's
word (--address); with -f or --kubeconfig, also with what these would have it run.

Exit codes: 0 allowed, 1 denied, or not enforced, or a failure, 2 wrong usage, 3 the oracles differ.`,
		Example: `  pilot-lite check -f . --from deploy/productpage-v1 --to svc/reviews:9080 GET /reviews/0 -H end-user=jason -n bookinfo
  pilot-lite check --from ip/192.0.2.7 --to shop/svc/web GET / --host shop.example
  pilot-lite check -f . --from shop/cart --to shop/db:5432
  pilot-lite check --all -f examples/bookinfo
  pilot-lite check --proxy bookinfo/reviews-v1-abc`,
		Args: takes(2, "the request as METHOD PATH, or as PATH alone"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.clusterWasNamed = cmd.Flags().Changed("kubeconfig")
			return o.run(cmd.Context(), s, args)
		},
	}
	o.world.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "who calls")
	f.StringVar(&o.to, "to", "", "who is called, and at which port")
	f.StringVar(&o.host, "host", "", "the request's host (default: the callee's name)")
	f.StringArrayVarP(&o.headers, "header", "H", nil, "a header of the request, NAME=VALUE or NAME: VALUE; repeatable")
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the namespace of names that have none")
	f.StringVarP(&o.format, "output", "o", string(formatText), "text or json")
	f.BoolVar(&o.all, "all", false, "print the matrix of all workloads")
	f.StringVar(&o.proxy, "proxy", "", "print what this pod's sidecar runs: NAMESPACE/POD or POD")
	f.StringVar(&o.address, "address", defaultAdminAddress, "with --proxy: the server's admin address, HOST:PORT or unix:PATH")
	return cmd
}

func (o *checkOptions) run(ctx context.Context, s streams, args []string) error {
	if err := outputFormat(o.format).check(formatText, formatJSON); err != nil {
		return err
	}
	asked := 0
	for _, mode := range []bool{o.from != "" || o.to != "", o.all, o.proxy != ""} {
		if mode {
			asked++
		}
	}
	switch {
	case asked != 1:
		return errors.New("ask one thing: --from and --to, or --all, or --proxy")
	case (o.all || o.proxy != "") && (len(args) > 0 || len(o.headers) > 0 || o.host != ""):
		return errors.New("a request goes with --from and --to")
	case o.namespace == "":
		return errors.New("--namespace \"\": name one")
	case o.proxy != "":
		return o.runProxy(ctx, s)
	case !o.all && (o.from == "" || o.to == ""):
		return errors.New("name both ends: --from CALLER --to CALLEE")
	}
	if err := unused(o.world.flags, "without --proxy", "address"); err != nil {
		return err
	}
	if o.all {
		if err := unused(o.world.flags, "with --all", "namespace"); err != nil {
			return err
		}
	}
	request, err := o.request(args)
	if err != nil {
		return err
	}
	read, err := o.world.load(ctx, s)
	if err != nil {
		return err
	}
	// What is wrong with files is told, and what is right is answered: objects of bad files are not there.
	if _, err := printDiagnostics(s.err, read.problems); err != nil {
		return failure{err}
	}
	if len(read.problems) > 0 {
		return failure{errors.New("the files are not good as they stand: there is no answer about them")}
	}
	index := model.NewIndex(read.snapshot)
	w, found := check.New(index, translate.Translate(index))
	if _, err := printDiagnostics(s.err, read.places.Locate(found)); err != nil {
		return failure{err}
	}
	if o.all {
		return o.runAll(s, w)
	}
	return o.runCall(s, w, request)
}

// request reads METHOD and PATH, headers and host; nil where none is written.
func (o *checkOptions) request(args []string) (*model.HTTPRequest, error) {
	r := &model.HTTPRequest{Method: "GET", Host: o.host}
	switch {
	case len(args) == 0 && len(o.headers) == 0 && o.host == "":
		return nil, nil //nolint:nilnil // bytes are no request
	case len(args) == 0:
		return nil, errors.New("a header or a host needs a request: write METHOD PATH, such as GET /")
	case len(args) == 2:
		r.Method = args[0]
	}
	if r.Method == "" {
		return nil, errors.New("the method is empty: write METHOD PATH, or PATH alone for a GET")
	}
	r.Path = args[len(args)-1]
	if len(args) == 1 && r.Path != "" && strings.Trim(r.Path, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return nil, fmt.Errorf("%q is a method without a path: write METHOD PATH, such as %s /", r.Path, r.Path)
	}
	if !strings.HasPrefix(r.Path, "/") && r.Path != "*" {
		return nil, fmt.Errorf("path %q: begin it with /", r.Path)
	}
	for _, h := range o.headers {
		i := strings.IndexAny(h, ":=")
		if i <= 0 {
			return nil, fmt.Errorf("header %q: write NAME=VALUE or NAME: VALUE", h)
		}
		r.Headers = append(r.Headers, model.Header{Name: strings.ToLower(strings.TrimSpace(h[:i])), Value: strings.TrimSpace(h[i+1:])})
	}
	return r, nil
}

func (o *checkOptions) runCall(s streams, w *check.World, request *model.HTTPRequest) error {
	callers, err := w.Callers(o.from, o.namespace)
	if err != nil {
		return fmt.Errorf("--from %w", err)
	}
	callees, host, err := w.Callees(o.to, o.namespace)
	if err != nil {
		return fmt.Errorf("--to %w", err)
	}
	if request == nil && slices.ContainsFunc(callees, check.Callee.SpeaksHTTP) {
		return fmt.Errorf("port %d of %s speaks HTTP: say which request, such as GET /", callees[0].Port, callees[0].Party)
	}
	if request != nil && request.Host == "" {
		request.Host = host
	}
	var calls []call
	for _, from := range callers {
		for _, to := range callees {
			calls = append(calls, call{from, to, request, w.Ask(from, to, request)})
		}
	}
	if outputFormat(o.format) == formatJSON {
		err = printJSON(s.out, map[string]any{"calls": jsonCalls(calls)})
	} else {
		err = printCalls(s.out, calls)
	}
	if err != nil {
		return failure{err}
	}
	return o.outcome(s, calls)
}

func (o *checkOptions) outcome(s streams, calls []call) error {
	denied := false
	for _, c := range calls {
		if c.answer.Disagreement != "" {
			fmt.Fprintf(s.err, "\nTHE ORACLES DIFFER about %s -> %s: %s.\nThis is a fault of pilot-lite: please report it, with the policies and this call.\n", c.from, c.to, c.answer.Disagreement)
			return errDisagreement
		}
		denied = denied || !c.answer.Verdict.Allowed
	}
	if denied {
		return errFinding
	}
	return nil
}

func (o *checkOptions) runAll(s streams, w *check.World) error {
	m := w.Matrix()
	var err error
	if outputFormat(o.format) == formatJSON {
		err = printJSON(s.out, jsonMatrix(m))
	} else {
		err = printMatrix(s.out, m)
	}
	if err != nil {
		return failure{err}
	}
	return nil
}
