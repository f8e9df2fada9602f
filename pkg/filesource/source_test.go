package filesource_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	policyA = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: a, namespace: shop}\nspec: {podSelector: {}}\n"
	policyB = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: b, namespace: shop}\nspec: {podSelector: {}, action: Deny}\n"
	broken  = "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: a, namespace: shop}\nspec: {podSelectr: {}}\n"
)

// following is a source that follows a folder, and the folder.
type following struct {
	*filesource.Source
	t   *testing.T
	dir string
}

func follow(t *testing.T, files map[string]string) *following {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		write(t, filepath.Join(dir, name), body)
	}
	s := filesource.New(filesource.Config{Paths: []string{dir}, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return &following{Source: s, t: t, dir: dir}
}

func write(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file in place of another at once, as careful editors do.
func (f *following) replace(name, body string) {
	f.t.Helper()
	write(f.t, filepath.Join(f.dir, ".new"), body)
	if err := os.Rename(filepath.Join(f.dir, ".new"), filepath.Join(f.dir, name)); err != nil {
		f.t.Fatal(err)
	}
}

// eventually waits until the policies are those of the list, by name.
func (f *following) eventually(want string) {
	f.t.Helper()
	got := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if got = f.policies(); got == want {
			return
		}
	}
	f.t.Fatalf("got policies %q, want %q; problems: %v", got, want, f.Problems())
}

func (f *following) policies() string {
	s, ok := f.Snapshot()
	if !ok {
		return "none yet"
	}
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

// eventuallyProblem waits until a problem holds each of the words.
func (f *following) eventuallyProblem(words ...string) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if mentions(f.Problems(), words) {
			return
		}
	}
	f.t.Fatalf("no problem with %q among %v", words, f.Problems())
}

func mentions(problems []model.Diagnostic, words []string) bool {
	for _, p := range problems {
		all := true
		for _, w := range words {
			all = all && strings.Contains(p.String(), w)
		}
		if all {
			return true
		}
	}
	return false
}

func TestEditsAreFollowed(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	f.replace("b.yaml", policyB)
	f.eventually("a b")
	if err := os.Remove(filepath.Join(f.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	f.eventually("b")
	write(t, filepath.Join(f.dir, "b.yaml"), policyB+"---\n"+policyA) // in place
	f.eventually("a b")
	write(t, filepath.Join(f.dir, "deeper", "c.yaml"), strings.ReplaceAll(policyA, "name: a", "name: c"))
	f.eventually("a b c")
}

// An editor that writes in place cuts the file to nothing first: the policies in it must not vanish for that moment, which would open what they shut.
func TestAFileThatIsBeingWrittenLosesNothing(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	path := filepath.Join(f.dir, "a.yaml")
	for range 50 {
		write(t, path, "")
		if got := f.policies(); got != "a" {
			t.Fatalf("got policies %q while the file was written", got)
		}
		write(t, path, policyA)
	}
	f.eventually("a")
}

func TestABadFileKeepsItsLastGoodState(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA, "b.yaml": policyB})
	f.eventually("a b")
	for name, c := range map[string]struct {
		body  string
		words []string
	}{
		"unknown key":              {broken, []string{"a.yaml:4", "L7Policy shop/a", "spec.podSelectr", "unknown field"}},
		"wrong type":               {strings.Replace(policyA, "{podSelector: {}}", "{podSelector: [], ingress: 3}", 1), []string{"a.yaml", "L7Policy shop/a"}},
		"selector":                 {strings.Replace(policyA, "podSelector: {}", "podSelector: {matchLabels: {app: '?'}}", 1), []string{"a.yaml:4", "spec.podSelector"}},
		"empty":                    {"", []string{"a.yaml:1", "no object", "remove the file"}},
		"only a comment":           {"# nothing\n---\n", []string{"a.yaml:1", "no object"}},
		"binary":                   {"\x00\x01\x02", []string{"a.yaml", "not text"}},
		"not YAML":                 {"a: [", []string{"a.yaml", "not YAML"}},
		"no object":                {"- 1\n", []string{"a.yaml:1", "no object"}},
		"key twice":                {policyA + "spec: {}\n", []string{"a.yaml:5", `"spec"`, "line 4"}},
		"stands twice":             {policyA + "---\n" + policyA, []string{"a.yaml", "already"}},
		"stands in two files":      {policyA + "---\n" + policyB, []string{"L7Policy shop/b", "already"}},
		"1 MiB of regex":           {strings.Replace(policyA, "{podSelector: {}}", "{podSelector: {}, ingress: [{http: [{paths: [{type: RegularExpression, value: '/"+strings.Repeat("a", 1<<20)+"'}]}]}]}", 1), []string{"a.yaml:4", "spec.ingress[0].http[0].paths[0].value"}},
		"10,000 rules":             {strings.Replace(policyA, "{podSelector: {}}", "{podSelector: {}, ingress: ["+strings.Repeat("{},", 9999)+"{}]}", 1), []string{"a.yaml:4", "spec.ingress"}},
		"a kind of ours, misspelt": {strings.Replace(policyA, "L7Policy", "L7policy", 1), []string{"a.yaml", "L7policy is not known"}},
	} {
		f.replace("a.yaml", c.body)
		f.eventuallyProblem(c.words...)
		if got := f.policies(); got != "a b" {
			t.Errorf("%s: got policies %q", name, got)
		}
	}
	f.replace("a.yaml", policyA)
	f.eventually("a b")
	for deadline := time.Now().Add(10 * time.Second); len(f.Problems()) > 0; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the file is good again, and still there are problems: %v", f.Problems())
		}
	}
}

// Nothing is served from half of what is there: at start, every file must be good once.
func TestNoSnapshotBeforeEveryFileWasGoodOnce(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": broken, "b.yaml": policyB})
	f.eventuallyProblem("a.yaml:4")
	if _, ok := f.Snapshot(); ok {
		t.Fatal("there is a snapshot, and a file was never good")
	}
	f.replace("a.yaml", policyA)
	f.eventually("a b")
}

func TestAFolderThatDisappearsChangesNothing(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	if err := os.Rename(f.dir, f.dir+".away"); err != nil {
		t.Fatal(err)
	}
	f.eventuallyProblem(f.dir, "stays in force")
	if got := f.policies(); got != "a" {
		t.Errorf("got policies %q", got)
	}
	write(t, filepath.Join(f.dir+".away", "b.yaml"), policyB)
	if err := os.Rename(f.dir+".away", f.dir); err != nil {
		t.Fatal(err)
	}
	f.eventually("a b")
}

// A mounted ConfigMap swaps all of its files at once, through a link that the visible names lead through.
func TestMountedConfigMap(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"..1/a.yaml": policyA, "..2/a.yaml": policyB})
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(f.dir, ".tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(f.dir, ".tmp"), filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..1", "..data")
	link("..data/a.yaml", "a.yaml")
	f.eventually("a")
	link("..2", "..data")
	f.eventually("b")
}

func TestAnEmptyFolderIsACompleteState(t *testing.T) {
	t.Parallel()
	follow(t, nil).eventually("")
}

// A volume that is not mounted is an empty folder: what it held stays in force, until somebody says that nothing is meant.
func TestAFolderThatIsEmptiedChangesNothing(t *testing.T) {
	t.Parallel()
	f := follow(t, map[string]string{"a.yaml": policyA})
	f.eventually("a")
	if err := os.Remove(filepath.Join(f.dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	f.eventuallyProblem(f.dir, "every file is gone", "items: []")
	if got := f.policies(); got != "a" {
		t.Errorf("got policies %q", got)
	}
	f.replace("none.yaml", "{apiVersion: v1, kind: List, items: []}")
	f.eventually("")
}
