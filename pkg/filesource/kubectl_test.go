package filesource

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// Words and numbers are read as kubectl reads them, whose YAML is an older one than that of the library: what a file means here, it means in a cluster.
func TestScalarsAreReadAsKubectlReadsThem(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF", "true", "True", "TRUE", "false", "null", "Null", "~", "", "yEs", "oN", "yes!",
		`"on"`, `'no'`, "!!str on", "|\n  on", "0", "1", "-1", "1.5", "1e3", "8080", "0x1F", "2026-01-02", "1:30", "1_000", ".5", "a", "é",
	} {
		document := "metadata: {name: a}\nvalue: " + text + "\n"
		want, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		docs, err := split([]byte(document))
		if err != nil || len(docs) != 1 {
			t.Errorf("%q: %d documents, %v", text, len(docs), err)
			continue
		}
		value := func(body []byte) any {
			var object map[string]any
			if err := json.Unmarshal(body, &object); err != nil {
				t.Fatal(err)
			}
			return object["value"]
		}
		if diff := cmp.Diff(value(want), value(docs[0].json)); diff != "" {
			t.Errorf("%q (-kubectl +here):\n%s", text, diff)
		}
	}
}
