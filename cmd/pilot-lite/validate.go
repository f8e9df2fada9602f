package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

func newValidateCmd(s streams) *cobra.Command {
	var files fileOptions
	cmd := &cobra.Command{
		Use:   "validate -f FILE...",
		Short: "Check policies and everything that they meet",
		Long: `Reads files and folders, checks every policy as the API server and the control plane would, and translates them. Every finding is one line: file and line,
severity, object, field, consequence, remedy, code. Exit code 1 when one of them is an error. Pods that do not run yet are taken as the injector will make them.`,
		Example: "  pilot-lite validate -f policies/\n  kubectl get l7p -A -o yaml | pilot-lite validate -f -",
		Args:    takesNothing(nameFiles),
		RunE: func(*cobra.Command, []string) error {
			loaded, err := files.load(s)
			if err != nil {
				return err
			}
			index := model.NewIndex(convert.AsAdmitted(loaded.Snapshot))
			output := translate.Translate(index)
			bad, err := printDiagnostics(s.out, append(loaded.Problems, loaded.Places.Locate(withoutVoid(index, output.Diagnostics))...))
			if err != nil {
				return failure{err}
			}
			if bad {
				return errFinding
			}
			unchecked := ""
			if len(index.Workloads) == 0 && len(loaded.Snapshot.Policies) > 0 {
				unchecked = ": whom they select was not checked; name the files of the workloads too, with -f"
			}
			if _, err = fmt.Fprintf(s.out, "ok: %s%s\n", policiesAndWorkloads(index), unchecked); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	files.bind(cmd)
	return cmd
}
