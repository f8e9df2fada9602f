package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"pilot-lite": func() {
		os.Exit(run(context.Background(), os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
	}})
}

// The scripts in testdata/script show each command as a user types it, with its output and exit code.
func TestScripts(t *testing.T) {
	t.Parallel()
	bookinfo, err := filepath.Abs("../../examples/bookinfo")
	if err != nil {
		t.Fatal(err)
	}
	envoy := envoytest.Binary(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "await": await, "expand": expand},
		Setup: func(e *testscript.Env) error {
			sockets, err := os.MkdirTemp("", "pl") //nolint:usetesting // t.TempDir is too long for a socket
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(sockets) })
			for name, value := range map[string]string{
				"BOOKINFO": bookinfo, "ENVOY": envoy, "SOCKETS": sockets, "PORT": strconv.Itoa(porttest.Free(t, "127.79.0.1")),
			} {
				e.Setenv(name, value)
			}
			return nil
		},
	})
}
