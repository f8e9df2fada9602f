package filesource_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
)

// Documents are taken apart where YAML says so, and keep their text.
func TestDocuments(t *testing.T) {
	t.Parallel()
	type part struct{ Source, Text, JSON string }
	for name, test := range map[string]struct {
		text string
		want []part
	}{
		"one":                  {"kind: A\n", []part{{"-:1", "kind: A\n", `{"kind":"A"}`}}},
		"without end":          {"kind: A", []part{{"-:1", "kind: A", `{"kind":"A"}`}}},
		"nothing":              {"", []part{{"-:1", "", ""}}},
		"a comment":            {"# A\n---\nkind: A\n", []part{{"-:1", "# A\n", ""}, {"-:3", "kind: A\n", `{"kind":"A"}`}}},
		"two":                  {"kind: A\n---\nkind: B\n", []part{{"-:1", "kind: A\n", `{"kind":"A"}`}, {"-:3", "kind: B\n", `{"kind":"B"}`}}},
		"a separator in front": {"---\nkind: A\n", []part{{"-:1", "", ""}, {"-:2", "kind: A\n", `{"kind":"A"}`}}},
		"lines of Windows":     {"kind: A\r\n---\r\nkind: B\r\n", []part{{"-:1", "kind: A\r\n", `{"kind":"A"}`}, {"-:3", "kind: B\r\n", `{"kind":"B"}`}}},
		"on its line":          {"kind: A\n--- {kind: B}\n", []part{{"-:1", "kind: A\n", `{"kind":"A"}`}, {"-:2", "--- {kind: B}\n", `{"kind":"B"}`}}},
		"dashes in a text":     {"a: |\n  ---\n  b\n", []part{{"-:1", "a: |\n  ---\n  b\n", `{"a":"---\nb\n"}`}}},
		"dashes in a word":     {"---a: 1\n", []part{{"-:1", "---a: 1\n", `{"---a":1}`}}},
		"JSON":                 {`{"kind": "A", "n": 9007199254740993}`, []part{{"-:1", `{"kind": "A", "n": 9007199254740993}`, `{"kind":"A","n":9007199254740993}`}}},
		"an alias":             {"a: &x {b: 1}\nc: *x\n", []part{{"-:1", "a: &x {b: 1}\nc: *x\n", `{"a":{"b":1},"c":{"b":1}}`}}},
		"a List":               {"kind: List\nitems: [{kind: A}]\n", []part{{"-:1", "kind: List\nitems: [{kind: A}]\n", `{"kind":"List","items":[{"kind":"A"}]}`}}},
		"null":                 {"---\n---\nnull\n", []part{{"-:1", "", ""}, {"-:2", "", ""}, {"-:3", "null\n", ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, err := filesource.Documents([]string{"-"}, strings.NewReader(test.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []part
			for i := range docs {
				got = append(got, part{docs[i].Source, string(docs[i].Text), string(docs[i].JSON)})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What is wrong is named with its file and line.
func TestDocumentsThatAreNone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, says string }{
		"not YAML":         {"kind: A\n---\n{{\n", "-:3: not YAML"},
		"a list":           {"kind: A\n---\n# B\n- a\n", "-:4: no object"},
		"a key twice":      {"a: 1\nb: 2\na: 3\n", `-:3: the key "a" stands on line 1 already`},
		"two at once":      {"kind: A\n...\nkind: B\n", "-:1: more than one object"},
		"a bomb":           {"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n", "too large or too deep"},
		"binary":           {"a\x00b", "-: not text"},
		"too much":         {strings.Repeat("# \n", 3<<20), "-: larger than 8 MiB"},
		"a key of objects": {"{{a: 1}: 2}\n", "-:1: a key that is no plain word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := filesource.Documents([]string{"-"}, strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
	if _, err := filesource.Documents([]string{filepath.Join(t.TempDir(), "nowhere")}, nil); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// A folder is read in the order of its names, and a field is found on its line, counted in the file.
func TestDocumentsOfAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "kind: B\n---\n# more\nspec:\n  items:\n  - a: 1\n", "a.json": `{"kind": "A"}`, "c.txt": "no: c", ".hidden.yaml": "{{"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	docs, err := filesource.Documents([]string{dir}, nil)
	if err != nil || len(docs) != 3 || !bytes.Contains(docs[0].JSON, []byte("A")) {
		t.Fatalf("%v %v", docs, err)
	}
	for field, want := range map[string]string{"": "b.yaml:4", "spec.items[0].a": "b.yaml:6", "spec.items[7]": "b.yaml:6", "nowhere": "b.yaml:4"} {
		if got := filepath.Base(docs[2].At(field)); got != want {
			t.Errorf("%q is said to be at %s, not %s", field, got, want)
		}
	}
}
