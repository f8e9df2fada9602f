package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An editor's newline is no part of a key, and one of 32 random bytes is. A file that holds too little is named.
func TestReadKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("k", 32)
	for _, c := range []struct{ content, want string }{
		{long, long}, {long + "\n", long}, {long + "\r\n", long}, {long[1:] + "\n", long[1:] + "\n"}, {long[1:], ""}, {"short\n", ""},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readKey(path)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q (%v), want %q", c.content, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
	}
}
