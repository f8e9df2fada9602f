package bookinfo_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/examples/bookinfo"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
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
	for _, p := range loaded.Snapshot.Policies {
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

// A misspelt field is silently dropped by some readers, and refused by a cluster.
func TestObjectsHaveNoUnknownFields(t *testing.T) {
	t.Parallel()
	kinds := map[string]func() any{
		"Namespace": func() any { return new(corev1.Namespace) }, "ServiceAccount": func() any { return new(corev1.ServiceAccount) },
		"Service": func() any { return new(corev1.Service) }, "Deployment": func() any { return new(appsv1.Deployment) },
		"L7Policy": func() any { return new(v1alpha1.L7Policy) },
	}
	files, err := fs.Glob(bookinfo.Files, "*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(bookinfo.Files, file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var meta metav1.PartialObjectMetadata
			if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			object, known := kinds[meta.Kind]
			if !known {
				t.Fatalf("%s: kind %q", file, meta.Kind)
			}
			if err := yaml.UnmarshalStrict([]byte(document), object()); err != nil {
				t.Errorf("%s: %s %s: %v", file, meta.Kind, meta.Name, err)
			}
			if meta.Kind != "Namespace" && meta.Namespace != "bookinfo" {
				t.Errorf("%s: %s %s is in namespace %q", file, meta.Kind, meta.Name, meta.Namespace)
			}
		}
	}
}
