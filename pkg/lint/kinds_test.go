package lint_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

var update = flag.Bool("update", false, "rewrite what the cases want, and docs/lint.md")

// lintFiles lints files as the command does.
func lintFiles(t *testing.T, files map[string]string) []model.Diagnostic {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := filesource.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ix := model.NewIndex(convert.AsAdmitted(loaded.Snapshot))
	found := loaded.Places.Locate(lint.Run(lint.Input{Index: ix, Output: translate.Translate(ix), Found: loaded.Problems}))
	for i := range found {
		found[i].Object.Source = strings.TrimPrefix(found[i].Object.Source, dir+"/")
		found[i].Consequence = strings.ReplaceAll(found[i].Consequence, dir+"/", "")
		found[i].Object.Name = strings.TrimPrefix(found[i].Object.Name, dir+"/")
	}
	return found
}

// oneKind is a case of one kind of finding: a world in which it is found, and one that is almost the same, in which it is not.
type oneKind struct {
	path      string
	hit, miss map[string]string
	want      string // the findings of the kind in the hit, one a line
}

func readKind(t *testing.T, code string) *oneKind {
	t.Helper()
	if files := madeKinds()[code]; files != nil {
		return files
	}
	path := filepath.Join("testdata", "kinds", code+".txtar")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatalf("every kind of finding has a case that it is found in, and a near miss: %v", err)
	}
	if len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Errorf("%s: say what makes the difference", path)
	}
	shop, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	k := &oneKind{path: path, hit: map[string]string{"shop.yaml": string(shop)}, miss: map[string]string{"shop.yaml": string(shop)}}
	for _, f := range archive.Files {
		switch text := string(f.Data); f.Name {
		case "world.yaml":
			k.hit["shop.yaml"], k.miss["shop.yaml"] = text, text
		case "hit.yaml":
			k.hit["policy.yaml"] = text
		case "miss.yaml":
			k.miss["policy.yaml"] = text
		case "want":
			k.want = text
		default:
			t.Errorf("%s: what is %s?", path, f.Name)
		}
	}
	return k
}

// madeKinds are the cases that a text file cannot hold.
func madeKinds() map[string]*oneKind {
	empty := "{apiVersion: v1, kind: List, items: []}\n"
	return map[string]*oneKind{
		"not-text": {
			hit: map[string]string{"x.yaml": "\xff\x00"}, miss: map[string]string{"x.yaml": "# \u00ff\n" + empty},
			want: "x.yaml:1: error: File x.yaml: the file is not text; write YAML in UTF-8, or remove it from the folder [not-text]\n",
		},
		"file-too-large": {
			hit: map[string]string{"x.yaml": empty + strings.Repeat("#", 8<<20)}, miss: map[string]string{"x.yaml": empty + strings.Repeat("#", 1<<10)},
			want: "x.yaml:1: error: File x.yaml: the file is larger than 8 MiB; split it [file-too-large]\n",
		},
	}
}

func linesOf(found []model.Diagnostic, code string) string {
	var b strings.Builder
	for _, d := range found {
		if d.Code == code {
			b.WriteString(d.String() + "\n")
		}
	}
	return b.String()
}

// unreachable are kinds that validation keeps from being found in files.
func unreachable() []string { return []string{"not-expressible"} }

func TestEveryKindIsFoundAndNotItsNearMiss(t *testing.T) {
	t.Parallel()
	for _, kind := range lint.Catalog() {
		if slices.Contains(unreachable(), kind.Code) {
			continue
		}
		t.Run(kind.Code, func(t *testing.T) {
			t.Parallel()
			k := readKind(t, kind.Code)
			found := lintFiles(t, k.hit)
			got := linesOf(found, kind.Code)
			if got == "" {
				t.Fatalf("not found; found was:\n%s", allLines(found))
			}
			if !strings.Contains(got, string(kind.Severity)+": ") {
				t.Errorf("no finding is of the kind's severity, %s:\n%s", kind.Severity, got)
			}
			if *update && k.path != "" {
				k.rewrite(t, got)
			} else if diff := cmp.Diff(k.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if got := linesOf(lintFiles(t, k.miss), kind.Code); got != "" {
				t.Errorf("found in the near miss:\n%s", got)
			}
		})
	}
}

func (k *oneKind) rewrite(t *testing.T, want string) {
	t.Helper()
	archive, err := txtar.ParseFile(k.path)
	if err != nil {
		t.Fatal(err)
	}
	archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
	archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(want)})
	// Others read it meanwhile.
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(whole, txtar.Format(archive), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole, k.path); err != nil {
		t.Fatal(err)
	}
}

func allLines(found []model.Diagnostic) string {
	var b strings.Builder
	for _, d := range found {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}
