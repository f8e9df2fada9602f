// Package injecttest is what the tests of injection share. Output: a table of pods with what must become of each (Verdicts), which the injector and a real API server are
// held against alike, and what a control plane would give the injector (Config).
package injecttest

import (
	_ "embed"
	"encoding/json"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

//go:embed verdicts.yaml
var verdicts []byte

//go:embed ca.pem
var ca []byte

// What a control plane that was installed from manifests/ gives the injector.
const (
	Image        = "pilot-lite/pilot-lite:dev"
	SidecarImage = "envoyproxy/envoy:distroless-v1.40.0"
	ServerName   = "pilot-lite.pilot-lite-system.svc"

	// Namespace has injection. In OptOut pods may go without.
	Namespace = "shop"
	OptOut    = "legacy"
)

// Config is what an injected pod is given.
func Config() inject.Config {
	return inject.Config{
		Image: Image, SidecarImage: SidecarImage, Server: ServerName + ":15012", ServerName: ServerName, CABundle: ca, Audience: "pilot-lite",
		OptOutNamespaces: []string{OptOut}, ExemptNamespaces: []string{"kube-system", "pilot-lite-system"},
	}
}

// Verdict is a pod, and what must become of it.
type Verdict struct {
	Name string `json:"name"`
	// Refused are the fields that the injector names; none where the pod gets its sidecar, with notices of the codes Notices.
	Refused []string `json:"refused"`
	Notices []string `json:"notices"`
	// Admission is a part of what the API server answers when the pod comes with a sidecar that somebody put in by hand, "|" between alternatives; Passes says why it
	// need not refuse it.
	Admission string `json:"admission"`
	Passes    string `json:"passes"`
	// Pod is the pod as its author wrote it.
	Pod *corev1.Pod `json:"-"`

	Metadata  json.RawMessage `json:"metadata"`
	Spec      json.RawMessage `json:"spec"`
	Container json.RawMessage `json:"container"`
}

const (
	plainMeta      = `{"name": "web", "labels": {"app": "web"}}`
	plainSpec      = `{"serviceAccountName": "web"}`
	plainContainer = `{"name": "web", "image": "web:1", "ports": [{"containerPort": 8080}], "readinessProbe": {"tcpSocket": {"port": 8080}}}`
)

// Verdicts reads the table.
func Verdicts(t testing.TB) []Verdict {
	t.Helper()
	text, err := yaml.YAMLToJSONStrict(verdicts)
	if err != nil {
		t.Fatal(err)
	}
	var out []Verdict
	unknown, err := kjson.UnmarshalStrict(text, &out)
	if err != nil || len(unknown) > 0 {
		t.Fatalf("verdicts.yaml: %v %v", err, unknown)
	}
	seen := map[string]bool{}
	for i := range out {
		v := &out[i]
		if seen[v.Name] || v.Name == "" {
			t.Errorf("verdict %d: the name %q is none of its own", i, v.Name)
		}
		seen[v.Name] = true
		if len(v.Refused) > 0 && (v.Admission == "") == (v.Passes == "") {
			t.Errorf("%s: say what the API server answers, or why it lets the pod pass", v.Name)
		}
		v.Pod = v.pod(t)
	}
	return out
}

func (v *Verdict) pod(t testing.TB) *corev1.Pod {
	t.Helper()
	merged := func(plain string, changes json.RawMessage) string {
		if changes == nil {
			return plain
		}
		text, err := jsonpatch.MergePatch([]byte(plain), changes)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		return string(text)
	}
	text := `{"metadata":` + merged(plainMeta, v.Metadata) + `,"spec":` + merged(`{"containers":[`+merged(plainContainer, v.Container)+`],`+plainSpec[1:], v.Spec) + `}`
	pod := &corev1.Pod{}
	if unknown, err := kjson.UnmarshalStrict([]byte(text), pod); err != nil || len(unknown) > 0 {
		t.Fatalf("%s: %v %v", v.Name, err, unknown)
	}
	return pod
}
