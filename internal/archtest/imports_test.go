// Package archtest_test holds the house rules that the compiler does not: who may import whom, and what pure packages may not touch.
package archtest_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pilot-lite/pilot-lite/"

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.ImportPath] = p
	}
}

// pure are the packages that must be callable anywhere, and every package of ours that they import, directly or not.
func pure(all map[string]pkg) []pkg {
	roots := []string{
		"pkg/model", "pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol", "pkg/eval", "pkg/eval/envoy", "pkg/eval/envoy/hcm", "pkg/eval/kernel", "pkg/eval/agree",
		"pkg/check", "pkg/diff", "pkg/inject", "pkg/lint", "pkg/lint/sarif", "pkg/status",
	}
	seen := map[string]bool{}
	var out []pkg
	var visit func(path string)
	visit = func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		out = append(out, all[path])
		for _, i := range all[path].Imports {
			if strings.HasPrefix(i, module) {
				visit(i)
			}
		}
	}
	for _, r := range roots {
		visit(module + r)
	}
	return out
}

func TestPurePackagesTouchNothingOutside(t *testing.T) {
	t.Parallel()
	forbidden := []string{"context", "os", "log", "net/http", "log/slog", "math/rand", "crypto/rand", "k8s.io/client-go", "google.golang.org/grpc", "github.com/prometheus"}
	for _, p := range pure(packages(t)) {
		for _, i := range p.Imports {
			if slices.ContainsFunc(forbidden, func(f string) bool { return i == f || strings.HasPrefix(i, f+"/") }) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

func TestPurePackagesHaveNoVariablesAndNoClock(t *testing.T) {
	t.Parallel()
	for _, p := range pure(packages(t)) {
		for _, name := range p.GoFiles {
			if strings.HasPrefix(name, "zz_generated") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if v, ok := d.(*ast.GenDecl); ok && v.Tok == token.VAR && !blank(v) {
					t.Errorf("%s/%s: a package variable", p.ImportPath, name)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since" || s.Sel.Name == "Sleep") {
						t.Errorf("%s/%s: time.%s", p.ImportPath, name, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// blank says whether a declaration is only "var _ Interface = ...".
func blank(d *ast.GenDecl) bool {
	return !slices.ContainsFunc(d.Specs, func(s ast.Spec) bool {
		v, ok := s.(*ast.ValueSpec)
		return !ok || slices.ContainsFunc(v.Names, func(n *ast.Ident) bool { return n.Name != "_" })
	})
}

// Sources and the xDS server know nothing of each other: only the loop and the commands join them.
func TestOneDirection(t *testing.T) {
	t.Parallel()
	for importer, forbidden := range map[string][]string{
		"pkg/xds":            {"pkg/filesource", "pkg/convert", "pkg/translate", "pkg/controlplane", "pkg/eval", "pkg/eval/envoy"},
		"pkg/filesource":     {"pkg/xds", "pkg/translate", "pkg/controlplane", "pkg/eval", "pkg/eval/envoy"},
		"pkg/convert":        {"pkg/xds", "pkg/translate", "pkg/filesource"},
		"pkg/eval":           {"pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol"},
		"pkg/eval/kernel":    {"pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol"},
		"pkg/eval/agree":     {"pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol"},
		"pkg/eval/envoy":     {"pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol", "pkg/eval"},
		"pkg/eval/envoy/hcm": {"pkg/translate", "pkg/translate/rbac", "pkg/translate/netpol", "pkg/eval"},
		"pkg/controlplane":   {"pkg/filesource"},
		"pkg/lint":           {"pkg/filesource", "pkg/kube", "pkg/xds", "pkg/controlplane"},
		"pkg/inject":         {"pkg/webhook", "pkg/xds", "pkg/kube", "pkg/filesource", "pkg/translate", "pkg/identity"},
		"pkg/webhook":        {"pkg/xds", "pkg/kube", "pkg/filesource", "pkg/translate", "pkg/identity", "pkg/controlplane"},
		"pkg/identity":       {"pkg/xds", "pkg/kube", "pkg/podauth", "pkg/controlplane"},
		"pkg/podauth":        {"pkg/xds", "pkg/kube", "pkg/identity", "pkg/controlplane"},
		"pkg/model":          {"pkg/translate", "pkg/convert", "pkg/eval", "pkg/xds"},
		"pkg/translate":      {"pkg/eval", "pkg/convert", "pkg/xds", "pkg/filesource"},
		"pkg/crd/v1alpha1":   {"pkg/model"},
	} {
		p, ok := packages(t)[module+importer]
		if !ok {
			t.Errorf("no package %s", importer)
		}
		for _, f := range forbidden {
			if slices.Contains(p.Imports, module+f) {
				t.Errorf("%s imports %s", importer, f)
			}
		}
	}
}

// The deprecated protobuf module stands in one package (ADR 5).
func TestTheDeprecatedProtobufModuleStandsInOnePlace(t *testing.T) {
	t.Parallel()
	for path, p := range packages(t) {
		for _, i := range p.Imports {
			if strings.HasPrefix(i, "github.com/golang/protobuf") && path != module+"pkg/xds/protoyaml" {
				t.Errorf("%s imports %s", path, i)
			}
		}
	}
}

// What tests alone are held against is not linked into the program.
func TestTheProgramLinksNothingOfTests(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "./cmd/pilot-lite")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, module+"pkg/translate") {
		t.Fatal("the list of packages is not the program's")
	}
	for _, path := range linked {
		for _, of := range []string{"github.com/mattfenwick/", "github.com/onsi/", "github.com/go-resty/", "github.com/sirupsen/", "github.com/google/go-cmp", "pgregory.net/rapid", module + "internal/netpoltest"} {
			if strings.HasPrefix(path, of) {
				t.Errorf("the program links %s", path)
			}
		}
	}
}

// Every package that the program is made of has a row in the table of ARCHITECTURE.md, and no other has.
func TestThePackagesAreListed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9/-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, row[1])
	}
	all := packages(t)
	built, queue := map[string]bool{}, []string{module + "cmd/pilot-lite"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if name, ours := strings.CutPrefix(path, module); ours && !built[name] {
			built[name] = true
			queue = append(queue, all[path].Imports...)
		}
	}
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(built)); !slices.Equal(listed, want) {
		t.Errorf("the table lists\n%q, want\n%q", listed, want)
	}
}
