package validation_test

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
)

// FuzzSchemaAgrees: nothing makes Validate panic, and a cluster accepts every policy that passes, so that what is tried with files can be applied.
func FuzzSchemaAgrees(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			f.Fatalf("no examples in %s: %v", dir, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	server := newAPIServer(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var p v1alpha1.L7Policy
		if len(data) > 1<<16 || yaml.UnmarshalStrict(data, &p) != nil || validation.Validate(&p) != nil {
			return
		}
		// What a client would send, rather than what was written: YAML has spellings that JSON has not.
		sent, err := json.Marshal(&p)
		if err != nil {
			t.Fatal(err)
		}
		if pruned, errs := server.create(t, decode(t, sent)); len(errs) > 0 || len(pruned) > 0 {
			t.Errorf("passes, but the API server prunes %v and says: %v\n%s", pruned, errs.ToAggregate(), sent)
		}
	})
}
