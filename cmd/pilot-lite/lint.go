package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/lint/sarif"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

type lintOptions struct {
	world            worldOptions
	format, severity string
}

const formatSARIF outputFormat = "sarif"

func newLintCmd(s streams) *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [-f FILE...]",
		Short: "Find what policies say to no effect, and what nobody protects",
		Long: `Reads files and folders, or a cluster, and reports rules that nothing matches, that a Deny shadows or that another rule repeats, selectors and names that mean
nothing, workloads that nobody protects, and where one layer is wider than the other; what validate reports is among it. Every kind of finding is
described in docs/lint.md. Pods of files that do not run yet are taken as the injector will make them.

Exit code 1 when a finding of at least --severity, and at least a warning, was made.`,
		Example: "  pilot-lite lint -f policies/\n  pilot-lite lint -f . -o sarif >lint.sarif\n  pilot-lite lint --kubeconfig ~/.kube/config --severity warning",
		Args:    takesNothing(nameFiles),
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), s) },
	}
	o.world.bind(cmd)
	cmd.Flags().StringVarP(&o.format, "output", "o", string(formatText), "text, json or sarif")
	cmd.Flags().StringVar(&o.severity, "severity", string(model.SeverityNotice), "the least severity to report: notice, warning or error")
	alias(cmd, "from", "filename") // as serve calls it
	return cmd
}

func (o *lintOptions) run(ctx context.Context, s streams) error {
	if err := outputFormat(o.format).check(formatText, formatJSON, formatSARIF); err != nil {
		return err
	}
	grades := []model.Severity{model.SeverityNotice, model.SeverityWarning, model.SeverityError}
	least := slices.Index(grades, model.Severity(o.severity))
	if least < 0 {
		return fmt.Errorf("severity %q: choose one of %v", o.severity, grades)
	}
	w, err := o.world.load(ctx, s)
	if err != nil {
		return err
	}
	index := model.NewIndex(w.snapshot)
	found := w.places.Locate(lint.Run(lint.Input{Index: index, Output: translate.Translate(index), Found: w.problems}))
	found = slices.DeleteFunc(found, func(d model.Diagnostic) bool { return slices.Index(grades, d.Severity) < least })
	switch outputFormat(o.format) {
	case formatJSON:
		err = printJSON(s.out, jsonFindings(found))
	case formatSARIF:
		err = printJSON(s.out, sarif.New(version, lint.Catalog(), found))
	default:
		err = printFindings(s.out, found, index)
	}
	if err != nil {
		return failure{err}
	}
	if slices.ContainsFunc(found, func(d model.Diagnostic) bool { return d.Severity != model.SeverityNotice }) {
		return errFinding
	}
	return nil
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// jsonFinding is a finding as it is printed.
type jsonFinding struct {
	Code        string         `json:"code"`
	Severity    model.Severity `json:"severity"`
	Kind        string         `json:"kind"`
	Namespace   string         `json:"namespace,omitempty"`
	Name        string         `json:"name,omitempty"`
	Field       string         `json:"field,omitempty"`
	File        string         `json:"file,omitempty"`
	Line        int            `json:"line,omitempty"`
	Consequence string         `json:"consequence"`
	Remedy      string         `json:"remedy,omitempty"`
}

func jsonFindings(found []model.Diagnostic) []jsonFinding {
	out := make([]jsonFinding, 0, len(found))
	for _, d := range found {
		f := jsonFinding{
			Code: d.Code, Severity: d.Severity, Kind: d.Object.Kind, Namespace: d.Object.Namespace, Name: d.Object.Name, Field: d.Field, File: d.Object.Source,
			Consequence: d.Consequence, Remedy: d.Remedy,
		}
		if i := strings.LastIndexByte(f.File, ':'); i >= 0 {
			if line, err := strconv.Atoi(f.File[i+1:]); err == nil {
				f.File, f.Line = f.File[:i], line
			}
		}
		out = append(out, f)
	}
	return out
}

// printFindings prints one line each, and a last one that counts.
func printFindings(w io.Writer, found []model.Diagnostic, index *model.Index) error {
	counts := map[model.Severity]int{}
	for _, d := range found {
		counts[d.Severity]++
	}
	if _, err := printDiagnostics(w, found); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s, %s, %s\n", policiesAndWorkloads(index), counted(counts[model.SeverityError], "error", "errors"),
		counted(counts[model.SeverityWarning], "warning", "warnings"), counted(counts[model.SeverityNotice], "notice", "notices"))
	return err
}
