package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An editor's newline is no part of a key, and one of 32 random bytes is.
func TestReadKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 32)
	for _, c := range []struct{ content, want string }{
		{long, long}, {long + "\n", long}, {long + "\r\n", long}, {long[1:] + "\n", long[1:] + "\n"}, {"short\n", "short\n"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readKey(path); err != nil || string(got) != c.want {
			t.Errorf("%q: got %q (%v), want %q", c.content, got, err, c.want)
		}
	}
}
