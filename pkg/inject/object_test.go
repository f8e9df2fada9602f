package inject_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

func sorted(in []string) []string { return slices.Sorted(slices.Values(in)) }

const (
	template = `{"metadata":{"labels":{"app":"web"}},"spec":{"new":1,"containers":[{"name":"web","image":"web:1"}]}}`
	asPod    = `"metadata":{"name":"web"},"spec":{"new":1,"containers":[{"name":"web","image":"web:1"}]}`
)

func controller(version, kind, spec string) string {
	return `{"apiVersion":"` + version + `","kind":"` + kind + `","metadata":{"name":"web","new":1},"spec":` + spec + `,"status":{"new":1}}`
}

// Every kind that makes pods has them injected where their template stands; what is known of it and what is not stays.
func TestObjectKinds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		object string
		at     []string // where the pod stands; nil for what stays as it is
	}{
		"Pod":                   {`{"apiVersion":"v1","kind":"Pod",` + asPod + `}`, []string{}},
		"Deployment":            {controller("apps/v1", "Deployment", `{"replicas":3,"template":`+template+`}`), []string{"spec", "template"}},
		"StatefulSet":           {controller("apps/v1", "StatefulSet", `{"template":`+template+`}`), []string{"spec", "template"}},
		"DaemonSet":             {controller("apps/v1", "DaemonSet", `{"template":`+template+`}`), []string{"spec", "template"}},
		"ReplicaSet":            {controller("apps/v1", "ReplicaSet", `{"template":`+template+`}`), []string{"spec", "template"}},
		"ReplicationController": {controller("v1", "ReplicationController", `{"template":`+template+`}`), []string{"spec", "template"}},
		"Job":                   {controller("batch/v1", "Job", `{"template":`+template+`}`), []string{"spec", "template"}},
		"CronJob":               {controller("batch/v1", "CronJob", `{"schedule":"* * * * *","jobTemplate":{"spec":{"template":`+template+`}}}`), []string{"spec", "jobTemplate", "spec", "template"}},
		"a template without metadata": {
			controller("apps/v1", "Deployment", `{"template":{"spec":{"new":1,"containers":[{"name":"web","image":"web:1"}]}}}`), []string{"spec", "template"},
		},
		"a template with nothing in its metadata": {
			controller("apps/v1", "Deployment", `{"template":{"metadata":null,"spec":{"new":1,"containers":[{"name":"web","image":"web:1"}],"initContainers":[],"volumes":null}}}`), []string{"spec", "template"},
		},
		"a Service":                     {`{"apiVersion":"v1","kind":"Service","spec":{"template":` + template + `}}`, nil},
		"another group's Deployment":    {controller("example.org/v1", "Deployment", `{"template":`+template+`}`), nil},
		"a Deployment without template": {controller("apps/v1", "Deployment", `{}`), nil},
		"a policy":                      {`{"apiVersion":"policy.pilot-lite.io/v1alpha1","kind":"L7Policy","metadata":{"name":"web"},"spec":{}}`, nil},
		"no kind":                       {`{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, found := inject.Object([]byte(test.object), injecttest.Config())
			if len(found) > 0 {
				t.Fatal(found)
			}
			if test.at == nil {
				if got.JSON != nil {
					t.Errorf("it changed: %s", got.JSON)
				}
				return
			}
			before, after := object(t, test.object), object(t, string(got.JSON))
			pod := take(t, after, test.at)
			take(t, before, test.at)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("what is around the pod changed (-before +after):\n%s", diff)
			}
			text := asJSON(t, pod)
			wantAll(t, text, `"new":1`, `"pilot-lite-capture"`, `"pilot-lite-proxy"`, `"policy.pilot-lite.io/service-account":"default"`, `"image":"web:1"`)
			again, found := inject.Object(got.JSON, injecttest.Config())
			if len(found) > 0 || again.JSON != nil {
				t.Errorf("injecting twice is not injecting once: %v %s", found, again.JSON)
			}
		})
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

// take cuts out of an object what stands somewhere in it.
func take(t *testing.T, o map[string]any, at []string) map[string]any {
	t.Helper()
	if len(at) == 0 {
		out := map[string]any{"metadata": o["metadata"], "spec": o["spec"]}
		delete(o, "metadata")
		delete(o, "spec")
		return out
	}
	for _, step := range at[:len(at)-1] {
		o, _ = o[step].(map[string]any)
	}
	last := at[len(at)-1]
	out, _ := o[last].(map[string]any)
	delete(o, last)
	return out
}

// A List is injected item by item, and refused as a whole, with each reason.
func TestObjectList(t *testing.T) {
	t.Parallel()
	item := `{"kind":"Pod","apiVersion":"v1",` + asPod + `}`
	got, found := inject.Object([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"}},`+item+`,{"apiVersion":"v1","kind":"List","items":[`+item+`]}]}`), injecttest.Config())
	if len(found) > 0 || strings.Count(string(got.JSON), `"name":"pilot-lite-proxy"`) != 2 {
		t.Errorf("not both were injected: %v %s", found, got.JSON)
	}
	// What an API server lists says its type once.
	got, found = inject.Object([]byte(`{"apiVersion":"apps/v1","kind":"DeploymentList","items":[{"metadata":{"name":"web"},"spec":{"template":`+template+`}}]}`), injecttest.Config())
	if len(found) > 0 || strings.Count(string(got.JSON), `"name":"pilot-lite-proxy"`) != 1 || strings.Contains(string(got.JSON), `"kind":"Deployment"`) {
		t.Errorf("not injected, or changed otherwise: %v %s", found, got.JSON)
	}
	bad := controller("apps/v1", "Deployment", `{"template":{"spec":{"hostNetwork":true,"containers":[{"name":"web"}]}}}`)
	rewritten, found := inject.Object([]byte(`{"apiVersion":"v1","kind":"List","items":[`+item+`,`+bad+`,{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","generateName":"web-"},"spec":{"hostPID":true,"containers":[]}}]}`), injecttest.Config())
	if rewritten != nil {
		t.Errorf("half of it was done: %s", rewritten.JSON)
	}
	want := []string{"items[1].spec.template.spec.hostNetwork", "items[2].spec.hostPID"}
	if diff := cmp.Diff(want, fields(found)); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if about := found[0].Object.String() + ", " + found[1].Object.String(); about != "Deployment default/web, Pod shop/web-*" {
		t.Errorf("it is about %s", about)
	}
}

// Where an object is decides: exempt namespaces, and those whose pods may opt out.
func TestObjectNamespaces(t *testing.T) {
	t.Parallel()
	for namespace, want := range map[string]string{"kube-system": "spec.template", injecttest.OptOut: "spec.template.metadata.labels[" + injectLabel + "]"} {
		o := strings.Replace(controller("apps/v1", "Deployment", `{"template":`+strings.Replace(template, `"app":"web"`, `"`+injectLabel+`":"disabled"`, 1)+`}`), `"new":1`, `"namespace":"`+namespace+`"`, 1)
		got, found := inject.Object([]byte(o), injecttest.Config())
		if len(found) > 0 || got.JSON != nil {
			t.Fatalf("%s: refused or changed: %v", namespace, found)
		}
		if len(got.Notices) != 1 || got.Notices[0].Object.Namespace != namespace || !strings.HasPrefix(want, got.Notices[0].Field) {
			t.Errorf("%s: told %v", namespace, got.Notices)
		}
	}
}

// A number stays as it is written: no float holds every one.
func TestObjectKeepsNumbers(t *testing.T) {
	t.Parallel()
	got, found := inject.Object([]byte(`{"apiVersion":"v1","kind":"Pod",`+fromTheFuture[1:]), injecttest.Config())
	if len(found) > 0 {
		t.Fatal(found)
	}
	wantAll(t, string(got.JSON), `"runAsUser":9007199254740993`)
}

// What is no pod is named by its field, and never guessed.
func TestObjectOfAnotherShape(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no object":    `[]`,
		"no JSON":      `{`,
		"a wrong type": `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"hostNetwork":"no"}}`,
		"a number":     `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","ports":[{"containerPort":"x"}]}]}}`,
	} {
		rewritten, found := inject.Object([]byte(text), injecttest.Config())
		if rewritten != nil || len(found) != 1 || found[0].Code != "wrong-type" || found[0].Remedy == "" || strings.Contains(found[0].String(), "Go ") {
			t.Errorf("%s: %v", name, found)
		}
	}
	// Only the exact name of a field is that field.
	_, found := inject.Object([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"HostNetwork":true,"containers":[{"name":"web"}]}}`), injecttest.Config())
	if len(found) > 0 {
		t.Errorf("a field of another name is read: %v", found)
	}
}
