package lint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/lint"
)

const docs = "../../docs/lint.md"

// The documentation has every kind, with the finding of its case.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- What follows is written by `go test ./pkg/lint -update`. -->\n"
	intro, written, found := strings.Cut(string(body), mark)
	if !found {
		t.Fatalf("%s lacks its mark", docs)
	}
	want := documented(t)
	if *update {
		if err := os.WriteFile(docs, []byte(intro+mark+want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("%s is stale: run go test ./pkg/lint -update (-want +got):\n%s", docs, diff)
	}
}

func documented(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n## The kinds of findings\n")
	for _, k := range lint.Catalog() {
		fmt.Fprintf(&b, "\n### %s\n\n%s (%s). %s\n", k.Code, k.Title, k.Severity, k.Help)
		if slices.Contains(unreachable(), k.Code) {
			continue
		}
		first, _, _ := strings.Cut(linesOf(lintFiles(t, readKind(t, k.Code).hit), k.Code), "\n")
		fmt.Fprintf(&b, "\n```\n%s\n```\n", first)
	}
	return b.String()
}

// Codes are words for people and for configuration: stable, unique, in kebab-case.
func TestCatalogIsInOrder(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, k := range lint.Catalog() {
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(k.Code) {
			t.Errorf("%q is no code", k.Code)
		}
		if seen[k.Code] {
			t.Errorf("%s stands twice", k.Code)
		}
		seen[k.Code] = true
		if k.Title == "" || k.Help == "" || strings.HasSuffix(k.Title, ".") || !strings.HasSuffix(k.Help, ".") {
			t.Errorf("%s: a title is a line without a full stop, and help is sentences", k.Code)
		}
	}
	cases, err := filepath.Glob("testdata/kinds/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cases {
		if code := strings.TrimSuffix(filepath.Base(path), ".txtar"); !seen[code] {
			t.Errorf("%s is the case of no kind", path)
		}
	}
}

// elsewhere are the codes of findings that lint never sees: those of a server that follows files, of injection, and of files that are applied over something.
func elsewhere() []string {
	return []string{"unreadable-path", "emptied-folder", "not-injectable", "not-injected", "hook-over-network", "dns-without-cluster", "template-stands"}
}

// Every code that a package of ours gives to a finding is in the catalog, and every kind of the catalog is given by one.
func TestCatalogIsComplete(t *testing.T) {
	t.Parallel()
	given := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "catalog.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, code := range codesIn(n) {
				given[code] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range lint.Catalog() {
		if !given[k.Code] {
			t.Errorf("%s is a kind of finding that nothing gives", k.Code)
		}
		delete(given, k.Code)
	}
	for code := range given {
		if !slices.Contains(elsewhere(), code) {
			t.Errorf("findings are given the code %s, which is not in the catalog", code)
		}
	}
}

// codesIn are the codes that a node gives: as the field Code, as a constant of validation's, or as an argument of the functions that make findings.
func codesIn(n ast.Node) []string {
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
			return literals(n.Value)
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if field, ok := left.(*ast.SelectorExpr); ok && field.Sel.Name == "Code" && i < len(n.Rhs) {
				return literals(n.Rhs[i])
			}
		}
	case *ast.ValueSpec:
		if kind, ok := n.Type.(*ast.Ident); ok && kind.Name == "Check" {
			return literals(n.Values...)
		}
		if len(n.Names) == 1 && strings.HasPrefix(n.Names[0].Name, "Code") {
			return literals(n.Values...)
		}
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if slices.Contains([]string{"onPolicy", "Finding", "finding", "problem", "bad", "report", "add"}, name) {
			return slices.DeleteFunc(literals(n.Args...), func(code string) bool {
				return !regexp.MustCompile(`^[a-z]+(-[a-z]+)+$`).MatchString(code)
			})
		}
	}
	return nil
}

func literals(list ...ast.Expr) []string {
	var out []string
	for _, e := range list {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			if text, err := strconv.Unquote(l.Value); err == nil && text != "" {
				out = append(out, text)
			}
		}
	}
	return out
}
