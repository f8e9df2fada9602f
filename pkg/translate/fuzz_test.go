package translate_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Whatever stands in a policy, translation neither panics nor makes a message that Envoy's own constraints refuse, and every workload has its slots.
func FuzzTranslate(f *testing.F) {
	cases, err := filepath.Glob(filepath.Join("testdata", "*", inputFile))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			if strings.Contains(document, "kind: L7Policy") {
				f.Add([]byte(document))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var p v1alpha1.L7Policy
		if yaml.Unmarshal(text, &p) != nil {
			t.Skip()
		}
		p.Namespace = "shop"
		converted, _ := convert.Policy(&p)
		for _, w := range translate.Translate(world(cart(nil), &converted)).Workloads {
			slots := 0
			for _, r := range w.Resources {
				if slot, ok := r.Message.(*corev3.TypedExtensionConfig); ok && slot.GetTypedConfig() != nil {
					slots++
				}
				if err := r.Message.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
					t.Error(err)
				}
			}
			want := 3 // HTTP, TCP, connect
			if !slices.ContainsFunc(w.Workload.Ports, func(p model.WorkloadPort) bool { return p.Protocol == model.AppHTTP }) {
				want = 2
			}
			if slots != want {
				t.Errorf("workload %s has %d slots, want %d", w.Workload.Key, slots, want)
			}
		}
	})
}
