package filesource_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
)

// lines is where a log goes, line by line.
type lines chan string

func (l lines) Write(text []byte) (int, error) {
	l <- string(text)
	return len(text), nil
}

// The log says what a bad file does, and that it was mended: before the first snapshot there is no state that could stay in force.
func TestWhatABadFileDoesIsToldAsItIs(t *testing.T) {
	t.Parallel()
	told := make(lines, 100)
	f := &following{t: t, dir: t.TempDir()}
	write(t, filepath.Join(f.dir, "a.yaml"), broken)
	f.Source = filesource.New(filesource.Config{Paths: []string{f.dir}, Logger: slog.New(slog.NewTextHandler(told, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	next := func(want, of string) {
		t.Helper()
		if got := <-told; !strings.Contains(got, want) || !strings.Contains(got, of) {
			t.Errorf("want %q of %q, got %s", want, of, got)
		}
	}
	next("a file is bad: nothing is served until it is mended", "a.yaml:4")
	f.replace("a.yaml", policyA)
	f.eventually("a")
	next("every file is in force as it stands", "")
	f.replace("a.yaml", broken)
	next("a file is not in force as it stands; its last good state is, if it had one", "a.yaml:4")
	f.replace("a.yaml", policyA)
	next("every file is in force as it stands", "")
}
