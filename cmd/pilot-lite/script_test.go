package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pilot-lite": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
	}})
}

// The scripts in testdata/script show each command as a user types it, with its output and exit code.
func TestScripts(t *testing.T) {
	t.Parallel()
	bookinfo, err := filepath.Abs("../../examples/bookinfo")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Setup:               func(e *testscript.Env) error { e.Setenv("BOOKINFO", bookinfo); return nil },
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "await": await},
	})
}
