package filesource_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file whose time lies in the future, as on a machine whose clock is behind, is read all the same: new, replaced and written in place.
func TestAFileFromTheFutureIsRead(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	ahead := time.Now().Add(24 * time.Hour)
	path := filepath.Join(f.dir, "b.yaml")
	write(t, path, policyB)
	touch(t, path, ahead)
	f.eventually("a b")
	write(t, path, policyB+"# edited\n---\n"+"apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: c, namespace: shop}\nspec: {podSelector: {}}\n")
	touch(t, path, ahead.Add(time.Second))
	f.eventually("a b c")
}

func touch(t *testing.T, path string, to time.Time) {
	t.Helper()
	if err := os.Chtimes(path, to, to); err != nil {
		t.Fatal(err)
	}
}
