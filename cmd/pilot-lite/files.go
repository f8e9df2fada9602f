package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// fileOptions are the files that a command reads.
type fileOptions struct{ paths []string }

var errNoFiles = errors.New("no files: name files or folders with -f")

func (o *fileOptions) bind(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&o.paths, "filename", "f", nil, `file or folder with the YAML that kubectl apply takes; repeatable; "-" is standard input`)
}

func (o *fileOptions) load(s streams) (*filesource.Result, error) {
	if len(o.paths) == 0 {
		return nil, errNoFiles
	}
	return loadFiles("-f", o.paths, s)
}

// loadFiles reads the files that a flag names. What cannot be read although it is there is no wrong usage.
func loadFiles(flag string, paths []string, s streams) (*filesource.Result, error) {
	if err := inputs(input{flag, paths}); err != nil {
		return nil, err
	}
	loaded, err := filesource.Load(paths, s.in)
	if err != nil {
		return nil, failure{err}
	}
	return loaded, nil
}

// withoutVoid leaves out that policies select nothing, where there are no workloads among the files that they could: it is true of each, and of no use.
func withoutVoid(index *model.Index, found []model.Diagnostic) []model.Diagnostic {
	if len(index.Workloads) > 0 {
		return found
	}
	return slices.DeleteFunc(slices.Clone(found), func(d model.Diagnostic) bool { return d.Code == "policy-selects-nothing" })
}

// counted is a number of things, in words.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// policiesAndWorkloads counts what was looked at.
func policiesAndWorkloads(index *model.Index) string {
	return counted(len(index.Snapshot.Policies), "policy", "policies") + ", " + counted(len(index.Workloads), "workload", "workloads")
}

// printDiagnostics prints one line each, and says whether one of them is an error.
func printDiagnostics(w io.Writer, found []model.Diagnostic) (hasErrors bool, err error) {
	for _, d := range found {
		if _, err := fmt.Fprintln(w, d.String()); err != nil {
			return false, err
		}
		hasErrors = hasErrors || d.Severity == model.SeverityError
	}
	return hasErrors, nil
}

// outputFormat is yaml, json or text.
type outputFormat string

const (
	formatYAML outputFormat = "yaml"
	formatJSON outputFormat = "json"
	formatText outputFormat = "text"
)

func (f outputFormat) check(allowed ...outputFormat) error {
	if slices.Contains(allowed, f) {
		return nil
	}
	return fmt.Errorf("output format %q: choose one of %v", string(f), allowed)
}
