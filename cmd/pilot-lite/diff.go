package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/diff"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

type diffOptions struct {
	files                 fileOptions
	from, to              []string
	kubeconfig, namespace string
	prune                 bool
	format                string
}

func newDiffCmd(s streams) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff -f FILE... | diff --from DIR --to DIR",
		Short: "Tell which verdicts flip, before an edit is applied",
		Long: `Compares what may be called before and after an edit, on both layers: every caller, callee, port and class of requests whose verdict flips. Nothing is
sampled: requests and callers are divided into classes that the rules of both sides cannot tell apart, and a request or a caller of each class is shown. Callers are the
workloads that stand, pods that nobody has made yet, and addresses outside.

With -f the objects in the files are applied over the cluster that kubectl would talk to, or over the files that --from names: an object takes the place of the one of
its kind and name. With --from and --to, one set of files is compared with another: a policy that stands only in the first is deleted.

Exit codes: 1 when anything opens, or when the new files have errors, which are then all that is printed; 0 otherwise; 2 wrong usage.`,
		Example: "  pilot-lite diff -f reviews.yaml\n  pilot-lite diff --from policies/ --from platform/ -f reviews.yaml -o json\n  pilot-lite diff --from before/ --to after/",
		Args:    takesNothing("name files with -f, or with --from and --to"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.from) > 0 {
				if err := unused(cmd.Flags(), "with --from", "kubeconfig", "system-namespace"); err != nil {
					return err
				}
			}
			return o.run(cmd.Context(), s)
		},
	}
	o.files.bind(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&o.from, "from", nil, "file or folder that says how things are before the edit, instead of a cluster; repeatable")
	f.StringArrayVar(&o.to, "to", nil, "file or folder that says how things are after it; repeatable")
	f.BoolVar(&o.prune, "prune", false, "with -f: policies that the files do not hold are deleted, in the namespaces of those that they hold")
	f.StringVarP(&o.format, "output", "o", string(formatText), "text or json")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "cluster to compare with (default: kubectl's)")
	f.StringVar(&o.namespace, "system-namespace", defaultNamespace, "the control plane's own namespace in the cluster")
	return cmd
}

func (o *diffOptions) check() error {
	switch {
	case len(o.to) > 0 && len(o.files.paths) > 0:
		return errors.New("--to and -f: the one says how everything is after the edit, the other what is edited; choose one")
	case len(o.to) > 0 && len(o.from) == 0:
		return errors.New("--to goes with --from: name the files that say how things are before the edit")
	case len(o.to) == 0 && len(o.files.paths) == 0:
		return errors.New("no edit: name its files with -f, or the files after it with --to")
	case o.prune && len(o.files.paths) == 0:
		return errors.New("--prune goes with -f: what --to does not hold is deleted anyway")
	}
	return cmp.Or(
		outputFormat(o.format).check(formatText, formatJSON), inputs(input{"--from", o.from}, input{"--to", o.to}, input{"-f", o.files.paths}),
		existing("--kubeconfig", o.kubeconfig),
	)
}

func (o *diffOptions) run(ctx context.Context, s streams) error {
	if err := o.check(); err != nil {
		return err
	}
	before, err := o.before(ctx, s)
	if err != nil {
		return err
	}
	after, err := o.after(before, s)
	if err != nil {
		return err
	}
	if bad, err := printDiagnostics(s.out, after.Problems); bad || err != nil {
		return found(err)
	}
	var indexer model.Indexer
	was, is := indexer.Index(before), indexer.Index(convert.AsInjected(after.Snapshot))
	if bad, err := printDiagnostics(s.out, after.Places.Locate(newErrors(was, is))); bad || err != nil {
		return found(err)
	}
	if _, err := printDiagnostics(s.err, worthTelling(after.Notices)); err != nil {
		return failure{err}
	}
	report := diff.Compare(was, is)
	if err := o.print(s, report); err != nil {
		return failure{err}
	}
	if report.Opens() {
		return errFinding
	}
	return nil
}

// found ends the command with what was printed.
func found(err error) error {
	if err != nil {
		return failure{err}
	}
	return errFinding
}

// before is how things are: a cluster, or files. Files that are bad say nothing that an edit could be compared with.
func (o *diffOptions) before(ctx context.Context, s streams) (*model.Snapshot, error) {
	if len(o.from) == 0 {
		return (&clusterReading{kubeconfig: o.kubeconfig, namespace: o.namespace, files: "--from"}).read(ctx, s)
	}
	loaded, err := loadFiles("--from", o.from, s)
	if err != nil {
		return nil, err
	}
	if bad, err := printDiagnostics(s.out, loaded.Problems); bad || err != nil {
		return nil, found(err)
	}
	return convert.AsInjected(loaded.Snapshot), nil
}

func (o *diffOptions) after(before *model.Snapshot, s streams) (*filesource.Result, error) {
	if len(o.to) > 0 {
		return loadFiles("--to", o.to, s)
	}
	prune := filesource.PruneNothing
	if o.prune {
		prune = filesource.PrunePolicies
	}
	after, err := filesource.Over(before, o.files.paths, s.in, prune)
	if err != nil {
		return nil, failure{err}
	}
	return after, nil
}

// newErrors are the errors that translating finds after the edit and did not find before.
func newErrors(before, after *model.Index) []model.Diagnostic {
	known := map[string]bool{}
	for _, d := range translate.Translate(before).Diagnostics {
		known[d.String()] = true
	}
	return slices.DeleteFunc(translate.Translate(after).Diagnostics, func(d model.Diagnostic) bool { return d.Severity != model.SeverityError || known[d.String()] })
}

// worthTelling leaves out what is for information only.
func worthTelling(list []model.Diagnostic) []model.Diagnostic {
	return slices.DeleteFunc(list, func(d model.Diagnostic) bool { return d.Severity == model.SeverityNotice })
}

func (o *diffOptions) print(s streams, r *diff.Report) error {
	if outputFormat(o.format) == formatText {
		return diff.Write(s.out, r)
	}
	return printJSON(s.out, r)
}
