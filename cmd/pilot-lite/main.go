// Command pilot-lite is an Envoy xDS control plane for L7 sidecar policy. Exit codes: 0 fine, 1 a finding or a failure, 2 wrong usage, 3 a fault of this program that it found itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set by the linker (make build).
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, clientGo: logClientGo}))
}

// streams are a command's standard streams.
type streams struct {
	in       io.Reader
	out, err io.Writer
	// clientGo has client-go log to a logger. It logs to one for the whole process, so only main sets it; nil leaves it as it is.
	clientGo func(*slog.Logger)
}

func logClientGo(l *slog.Logger) { klog.SetLogger(logr.FromSlogHandler(l.Handler())) }

// Exit codes.
const (
	exitFine         = 0
	exitFinding      = 1
	exitUsage        = 2
	exitDisagreement = 3
)

// errFinding ends a command that printed what it found.
var errFinding = errors.New("finding")

// errDisagreement ends a command that printed how two parts of this program answer one question differently.
var errDisagreement = errors.New("the oracles differ")

// failure is an error of the world, not of the command line.
type failure struct{ err error }

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

func run(ctx context.Context, args []string, s streams) int {
	cmd := newRootCmd(s)
	cmd.SetArgs(args)
	ran, err := cmd.ExecuteContextC(ctx)
	return exitCode(err, ran.CommandPath(), s.err)
}

// exitCode prints an error that a command, by its path, has not told of itself.
func exitCode(err error, command string, w io.Writer) int {
	var failed failure
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFinding):
		return exitFinding
	case errors.Is(err, errDisagreement):
		return exitDisagreement
	case errors.As(err, &failed):
		fmt.Fprintln(w, "pilot-lite: "+err.Error())
		return exitFinding
	}
	fmt.Fprintln(w, "pilot-lite: "+err.Error())
	fmt.Fprintf(w, "See \"%s --help\".\n", command)
	return exitUsage
}

func newRootCmd(s streams) *cobra.Command {
	var askedVersion bool
	root := &cobra.Command{
		Use:   "pilot-lite",
		Short: "L7 sidecar policy for Kubernetes workloads: one policy, two fences",
		Long: `pilot-lite turns policies (who may call this workload, and with which HTTP requests) into the RBAC configuration of Envoy sidecars, streamed over
xDS, and companion NetworkPolicies.

Exit codes: 0 fine, 1 a finding or a failure, 2 wrong usage, 3 a fault of this program that it found itself.`,
		SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if askedVersion {
				return printVersion(s)
			}
			return cmd.Help()
		},
	}
	// Cobra's own flag prints other words, unless a template says which, and with templates the linker keeps every method of the program: 20 MB of them.
	root.Flags().BoolVar(&askedVersion, "version", false, "print the version")
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(
		newServeCmd(s), newTranslateCmd(s), newValidateCmd(s), newLintCmd(s), newCheckCmd(s), newDiffCmd(s), newBootstrapCmd(s), newInjectCmd(s),
		newCaptureCmd(s), newStatusCmd(s), newVersionCmd(s),
	)
	refuseUnknown(root)
	return root
}

func newVersionCmd(s streams) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  pilot-lite version", Args: takesNothing("it prints the version"),
		RunE: func(*cobra.Command, []string) error { return printVersion(s) },
	}
}

func printVersion(s streams) error {
	if _, err := fmt.Fprintln(s.out, "pilot-lite "+version); err != nil {
		return failure{err}
	}
	return nil
}
