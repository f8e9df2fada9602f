package translate_test

import (
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// load reads a case as the commands and the server read files. A case may hold a broken policy: its fail-closed effect is then what is shown.
func load(t *testing.T, path string) *model.Snapshot {
	t.Helper()
	loaded, err := filesource.Load([]string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range loaded.Problems {
		t.Errorf("%s", p)
	}
	return loaded.Snapshot
}
