package inject_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/xds/protoyaml"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the golden files anew and remove those that no case has")
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// Files of a case that people write; the others are golden.
const (
	inputFile   = "in.yaml"       // a pod as its author, or another webhook, leaves it
	settingFile = "settings.yaml" // what differs from the settings of every case
	plainCase   = "plain"
)

// settings are a case's own.
type settings struct {
	Namespace string `json:"namespace"`
	IPv6      bool   `json:"ipv6"`
}

// A folder of testdata is a case: what becomes of its pod stands in the golden files.
func TestGolden(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*/" + inputFile)
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	all, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if base := filepath.Base(dir); base != "fuzz" && base != "rapid" && !slices.Contains(cases, filepath.Join(dir, inputFile)) {
			t.Errorf("%s is no case", dir)
		}
	}
	plain := tree(t, run(t, filepath.Join("testdata", plainCase)).pod)
	for _, file := range cases {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			golden(t, dir, render(t, filepath.Base(dir), run(t, dir), plain))
		})
	}
}

// outcome is what became of a case's pod.
type outcome struct {
	pod     *corev1.Pod // nil where it was refused
	injects bool
	told    string // the findings, as people read them
}

func run(t *testing.T, dir string) outcome {
	t.Helper()
	s := settings{Namespace: injecttest.Namespace}
	if text, err := os.ReadFile(filepath.Join(dir, settingFile)); err == nil {
		if err := yaml.UnmarshalStrict(text, &s); err != nil {
			t.Fatal(err)
		}
	}
	c := injecttest.Config()
	c.IPv6 = s.IPv6
	in := &corev1.Pod{}
	text, err := os.ReadFile(filepath.Join(dir, inputFile))
	if err != nil {
		t.Fatal(err)
	}
	body, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	if unknown, err := kjson.UnmarshalStrict(body, in); err != nil || len(unknown) > 0 {
		t.Fatalf("%s: %v %v", dir, err, unknown)
	}
	result, found := inject.Pod(in, s.Namespace, c)
	out := outcome{}
	if result != nil {
		out.pod, out.injects = result.Pod, result.Injected
		found = append(found, result.Notices...)
	}
	if out.injects {
		invariants(t, in, out.pod, c)
	}
	for _, d := range found {
		out.told += d.String() + "\n"
	}
	return out
}

// render prints what became of a pod. The sidecar stands in the plain case whole; elsewhere what is as there is left out, and the bootstrap but for its probes.
func render(t *testing.T, name string, o outcome, plain map[string]any) map[string]string {
	t.Helper()
	out := map[string]string{"told.txt": o.told}
	if o.pod != nil {
		pod := tree(t, o.pod)
		if name != plainCase {
			asIn(pod, plain)
		}
		delete(pod, "status")
		text, err := yaml.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		out["out.yaml"] = string(text)
	}
	if o.injects {
		b := bootstrapOf(t, o.pod)
		var parts []proto.Message
		for _, c := range b.GetStaticResources().GetClusters()[1:] {
			parts = append(parts, c)
		}
		if name == plainCase {
			parts = []proto.Message{b}
		}
		var all bytes.Buffer
		for _, m := range parts {
			text, err := protoyaml.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "---\n%s", text)
		}
		out["bootstrap.yaml"] = all.String()
	}
	maps.DeleteFunc(out, func(_, text string) bool { return text == "" })
	return out
}

// tree is a pod as JSON has it, with the bootstrap, which has a file of its own, and the kept probes as people can read them.
func tree(t *testing.T, p *corev1.Pod) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(asJSON(t, p)), &out); err != nil {
		t.Fatal(err)
	}
	for _, c := range list(out, "initContainers") {
		if args, _ := c["args"].([]any); len(args) > 1 && c["name"] == inject.ProxyContainer {
			args[1] = "bootstrap.yaml, as JSON"
		}
	}
	return out
}

func list(pod map[string]any, name string) []map[string]any {
	spec, _ := pod["spec"].(map[string]any)
	items, _ := spec[name].([]any)
	var out []map[string]any
	for _, item := range items {
		m, _ := item.(map[string]any)
		out = append(out, m)
	}
	return out
}

func asIn(pod, plain map[string]any) {
	for _, name := range []string{"initContainers", "volumes"} {
		for _, item := range list(pod, name) {
			for _, same := range list(plain, name) {
				if reflect.DeepEqual(item, same) {
					maps.DeleteFunc(item, func(key string, _ any) bool { return key != "name" })
					item["AS-IN"] = plainCase
				}
			}
		}
	}
}

// golden holds what was rendered against a case's files, or writes them.
func golden(t *testing.T, dir string, rendered map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		_, known := rendered[e.Name()]
		path := filepath.Join(dir, e.Name())
		switch {
		case known, e.Name() == inputFile, e.Name() == settingFile:
		case updating():
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s is left over: run with -update", path)
		}
	}
	for name, text := range rendered {
		path := filepath.Join(dir, name)
		if updating() {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%v: run with -update", err)
		}
		if diff := cmp.Diff(string(want), text); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, strings.TrimSpace(diff))
		}
	}
}
