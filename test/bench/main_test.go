// Package bench_test measures the control plane as it ships, against a real API server: the real binary, and simulated sidecars, each with a TLS connection, a pod's
// token and a delta ADS stream of its own; and beside it a floor, a server that does nothing but send what changed. Run it with make bench. What does not depend on the
// machine is checked by tests: messages, bytes, who is told.
package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

// What the environment says of a run.
const (
	binaryVariable  = "PILOT_LITE"      // the binary that is measured; built where it is not named
	sizesVariable   = "BENCH_SIDECARS"  // numbers of sidecars, "100,1000"
	blocksVariable  = "BENCH_BLOCKS"    // how often each server is started and measured
	resultsVariable = "BENCH_OUT"       // the folder that results are written to
	onlyVariable    = "BENCH_SCENARIOS" // names of the scenarios to run, "edit-one,idle"; all where empty
	floorVariable   = "BENCH_FLOOR"     // set in the floor's own process: the file with its settings
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(floorVariable); settings != "" {
		if err := serveFloor(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	klog.LogToStderr(false)
	if os.Getenv(binaryVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "pilot-lite")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "pilot-lite")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", path, "../../cmd/pilot-lite") // as it is shipped
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build pilot-lite: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(binaryVariable, path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// numbers are a variable's numbers, or others where it is not set.
func numbers(t testing.TB, variable string, otherwise ...int) []int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	var out []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 {
			t.Fatalf("%s=%q: want numbers, such as 100,1000", variable, text)
		}
		out = append(out, n)
	}
	return out
}

// BenchmarkControlPlane runs every scenario with each number of sidecars, and writes a table and JSON. Run it with -benchtime=1x.
func BenchmarkControlPlane(b *testing.B) {
	for range b.N {
		var all results
		for _, n := range numbers(b, sizesVariable, 100, 1000) {
			all.add(measure(b, n, numbers(b, blocksVariable, 3)[0]))
		}
		all.write(b)
	}
}
