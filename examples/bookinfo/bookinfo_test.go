package bookinfo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// The example is what people copy: it has no finding that asks for a remedy.
func TestExampleValidatesAndTranslates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, bookinfo.Files); err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][]string{
		{filepath.Join(dir, "platform")},
		{filepath.Join(dir, "platform"), filepath.Join(dir, "policies")},
	} {
		loaded, err := filesource.Load(paths, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range loaded.Problems {
			t.Errorf("problem: %s", d)
		}
		ix := model.NewIndex(loaded.Snapshot)
		output := translate.Translate(ix)
		if want := 7; len(output.Workloads) != want {
			t.Errorf("%d workloads, want %d", len(output.Workloads), want)
		}
		for _, d := range output.Diagnostics {
			// Without running pods the peers of a rule mean nobody: a notice.
			if d.Severity != model.SeverityNotice {
				t.Errorf("finding: %s", d)
			}
		}
	}
}

// Every workload is governed, in both directions: an open part would be an example of how not to.
func TestEveryWorkloadIsIsolated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, bookinfo.Files); err != nil {
		t.Fatal(err)
	}
	loaded, err := filesource.Load([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ix := model.NewIndex(loaded.Snapshot)
	ingress, egress := map[string]bool{}, map[string]bool{}
	for i := range loaded.Snapshot.Policies {
		p := &loaded.Snapshot.Policies[i]
		if p.Action != model.Allow {
			continue
		}
		for _, w := range ix.Selected(p) {
			ingress[w.Name] = ingress[w.Name] || p.IsolatesIngress
			egress[w.Name] = egress[w.Name] || p.IsolatesEgress
		}
	}
	for _, w := range ix.Workloads {
		if !ingress[w.Name] || !egress[w.Name] {
			t.Errorf("%s: isolated for ingress: %t, for egress: %t; want both", w.Name, ingress[w.Name], egress[w.Name])
		}
	}
}
