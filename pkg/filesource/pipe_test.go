package filesource_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
)

// A pipe is read where it is named; one in a folder is no file, and nobody waits for it.
func TestPipes(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := filesource.Load([]string{folder}, nil)
	if err != nil || len(loaded.Problems) != 1 || !strings.Contains(loaded.Problems[0].String(), "not a regular file") {
		t.Errorf("in a folder: %v %v", loaded, err)
	}
	if _, err := filesource.Documents([]string{folder}, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("documents of the folder: %v", err)
	}
	const text = "kind: L7Policy\napiVersion: policy.pilot-lite.io/v1alpha1\nmetadata: {name: p}\nspec: {}\n"
	written := make(chan error, 2)
	write := func() { written <- os.WriteFile(pipe, []byte(text), 0o600) }
	go write()
	loaded, err = filesource.Load([]string{pipe}, nil)
	if err != nil || len(loaded.Problems) > 0 || len(loaded.Snapshot.Policies) != 1 {
		t.Errorf("by name: %v %v", loaded, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	go write()
	documents, err := filesource.Documents([]string{pipe}, nil)
	if err != nil || len(documents) != 1 || string(documents[0].Text) != text {
		t.Errorf("documents: %v %v", documents, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
