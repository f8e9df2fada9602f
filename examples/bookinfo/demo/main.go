// Command demo shows bookinfo behind real Envoys, on loopback, without root and without a cluster. Input: the example's YAML and an Envoy binary
// ($ENVOY). Output: what every workload may ask of every other, what decided, and what a policy edit does to a stream that is open. Exit code 1 when
// anything is not as expected; with KEEP=1 everything is left running until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// errUnexpected ends a demo that printed what was not as expected.
var errUnexpected = errors.New("not everything was as expected")

func main() {
	// Children die with the thread that started them (Pdeathsig), so this goroutine keeps its own and starts them all.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := endWithParent()
	if err == nil {
		err = run(ctx, newOutput(os.Stdout))
	}
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil: // with KEEP=1 an interruption is the way to end
	case interrupted:
		fmt.Fprintln(os.Stderr, "\nstopped; nothing is left behind")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}

// run is the whole demo.
func run(ctx context.Context, out *output) (err error) {
	began := time.Now()
	envoy, err := envoyBinary()
	if err != nil {
		return err
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	out.text("Building pilot-lite and bookinfo, and starting them with an Envoy for each workload; the first build takes a minute ...")
	if err := w.start(ctx, envoy); err != nil {
		return err
	}
	out.head("Bookinfo: %d workloads, each behind an Envoy of its own, on %s; ready in %s", len(w.workloads), w.block, since(began))
	out.world(w)
	good, err := w.showAll(ctx, out)
	if err != nil {
		return err
	}
	memory, err := w.control.residentMiB()
	if err != nil {
		return err
	}
	out.head("%s It took %s. The control plane's memory (RSS): %.1f MiB.", summary(good), since(began), memory)
	if os.Getenv("KEEP") == "1" {
		out.keep(w)
		<-ctx.Done()
	}
	if !good {
		return errUnexpected
	}
	return nil
}

// showAll runs the parts of the demo, and says whether everything was as expected.
func (w *world) showAll(ctx context.Context, out *output) (good bool, err error) {
	good = true
	for _, part := range []func(context.Context, *output) (bool, error){w.showCompanions, w.showRequests, w.showPage, w.showEdit, w.showStatus} {
		as, err := part(ctx, out)
		if err != nil {
			return false, err
		}
		good = good && as
	}
	return good, nil
}

// envoyBinary is $ENVOY, else where `make envoy` puts it.
func envoyBinary() (string, error) {
	path := os.Getenv("ENVOY")
	if path == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory: %w", err)
		}
		path = filepath.Join(cache, "pilot-lite", "envoy-1.40.0")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no Envoy: run `make demo`, which fetches it, or set ENVOY to a binary: %w", err)
	}
	return path, nil
}

func summary(good bool) string {
	if good {
		return "Everything is as expected."
	}
	return "Not everything is as expected: see FAIL above."
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }
