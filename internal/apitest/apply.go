package apitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// InstallCRDs applies manifests/crd and waits until its kinds are served.
func (s *Server) InstallCRDs(t testing.TB) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), "manifests", "crd", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no definitions in manifests/crd: %v", err)
	}
	s.Apply(t, files...)
	client := dynamic.NewForConfigOrDie(s.admin)
	for _, o := range Objects(t, files...) {
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		for _, v := range versions {
			version, _ := v.(map[string]any)["name"].(string)
			resource := client.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural})
			Eventually(t, startTimeout, plural+" are served", func() error {
				_, err := resource.List(t.Context(), metav1.ListOptions{Limit: 1})
				return err
			})
		}
	}
}

// Apply applies the objects of files, in their order.
func (s *Server) Apply(t testing.TB, files ...string) {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
	client := dynamic.NewForConfigOrDie(s.admin)
	for _, o := range Objects(t, files...) {
		Eventually(t, applyTimeout, fmt.Sprintf("%s %s is applied", o.GetKind(), o.GetName()), func() error {
			mapping, err := mapper.RESTMapping(o.GroupVersionKind().GroupKind(), o.GroupVersionKind().Version)
			if err != nil {
				return err
			}
			var target dynamic.ResourceInterface = client.Resource(mapping.Resource)
			if o.GetNamespace() != "" {
				target = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
			}
			_, err = target.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "test", Force: true})
			return err
		})
	}
}

// Objects reads the objects of files, in their order.
func Objects(t testing.TB, files ...string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4<<10)
		for {
			o := &unstructured.Unstructured{}
			if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if len(o.Object) > 0 {
				out = append(out, o)
			}
		}
	}
	return out
}

// Root is the repository's top directory.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}
