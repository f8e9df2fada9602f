package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// temporary makes a folder that everything temporary goes to, short enough for UNIX sockets in it.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "d") //nolint:usetesting // its paths are too long for UNIX sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	t.Setenv("KEEP", "")
	return dir
}

// leftBehind lists files in a folder, and processes that were started with it.
func leftBehind(t *testing.T, dir string) []string {
	t.Helper()
	out, err := filepath.Glob(filepath.Join(dir, "bookinfo-*"))
	if err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte(dir)) {
			out = append(out, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

// The whole demo, with real Envoys: everything is as expected, and nothing is left behind.
func TestDemo(t *testing.T) {
	dir := temporary(t)
	runtime.LockOSThread() // children die with the thread that started them
	defer runtime.UnlockOSThread()
	var text bytes.Buffer
	if err := run(t.Context(), &output{w: &text}); err != nil {
		t.Errorf("%v\n%s", err, text.String())
	}
	if !strings.Contains(text.String(), "Everything is as expected.") || strings.Contains(text.String(), "FAIL") {
		t.Errorf("not everything is as expected:\n%s", text.String())
	}
	if left := leftBehind(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// interrupter interrupts the demo when it prints a text.
type interrupter struct {
	at        string
	interrupt context.CancelFunc
}

func (i interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(i.at)) {
		i.interrupt()
	}
	return len(p), nil
}

// Wherever Ctrl-C meets the demo, nothing is left behind.
func TestInterruption(t *testing.T) {
	for _, at := range []string{"Building", "A policy edit"} {
		t.Run(at, func(t *testing.T) {
			dir := temporary(t)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			if err := run(ctx, &output{w: interrupter{at, interrupt}}); !errors.Is(err, context.Canceled) {
				t.Errorf("the demo ended with %v, want the interruption", err)
			}
			if left := leftBehind(t, dir); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}
