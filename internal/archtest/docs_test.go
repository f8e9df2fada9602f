package archtest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
)

// Every YAML that the documentation shows is one that the program takes.
func TestDocumentedYAML(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, file := range append(files, "../../README.md", "../../examples/bookinfo/README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			shown++
			loaded, err := filesource.Load([]string{"-"}, strings.NewReader(block[1]))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range loaded.Problems {
				t.Errorf("%s: %s", file, p)
			}
		}
	}
	if shown < 2 {
		t.Errorf("%d blocks of YAML were found: the search is broken", shown)
	}
}
