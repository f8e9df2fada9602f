package webhook_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

func injection() (inject.Config, error) {
	return inject.Config{Image: "pilot-lite:1", SidecarImage: "envoy:1", Server: "pilot-lite.pilot-lite-system.svc:15012", ServerName: "pilot-lite.pilot-lite-system.svc", Audience: "pilot-lite", CABundle: testCA()}, nil
}

func serve(t *testing.T, c webhook.Config) *httptest.Server {
	t.Helper()
	if c.Injection == nil {
		c.Injection = injection
	}
	s := httptest.NewServer(webhook.Handler(c))
	t.Cleanup(s.Close)
	return s
}

// ask sends a review, as the API server does.
func ask(t *testing.T, s *httptest.Server, path, operation, group, kind, object string) *admissionv1.AdmissionResponse {
	t.Helper()
	version := map[string]string{"": "v1"}[group]
	if version == "" {
		version = "v1alpha1"
	}
	body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"7","operation":"` + operation + `","namespace":"shop",
		"kind":{"group":"` + group + `","version":"` + version + `","kind":"` + kind + `"},"object":` + object + `}}`
	status, answer := post(t, s, path, "application/json", body)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, answer)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal([]byte(answer), &review); err != nil {
		t.Fatal(err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Response == nil || review.Response.UID != "7" {
		t.Fatalf("no answer to the question: %s", answer)
	}
	return review.Response
}

func post(t *testing.T, s *httptest.Server, path, kind, body string) (status int, answer string) {
	t.Helper()
	resp, err := s.Client().Post(s.URL+path, kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

const (
	// pod has a field that no version of Kubernetes knows, as one of a newer version would to this program.
	pod = `{"metadata":{"generateName":"web-","labels":{"app":"web"},"annotations":{"a/b~c":"1"}},"spec":{"fromTheFuture":{"a":1},
		"initContainers":[{"name":"first","image":"x"}],
		"containers":[{"name":"web","image":"web:1","fromTheFuture":true,"ports":[{"containerPort":8080}],"readinessProbe":{"httpGet":{"path":"/","port":8080}}}],
		"volumes":[{"name":"data","emptyDir":{}}]}}`
	policy = `{"apiVersion":"policy.pilot-lite.io/v1alpha1","kind":"L7Policy","metadata":{"name":"web"},"spec":`
	group  = "policy.pilot-lite.io"
)

// The patch gives what the injector made, and leaves what this program does not know.
func TestPatchIsTheInjectorsPod(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	first := patched(t, ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", pod), pod)
	for _, kept := range []string{`"fromTheFuture":{"a":1}`, `"fromTheFuture":true`} {
		if !strings.Contains(first, kept) {
			t.Errorf("%s was lost: %s", kept, first)
		}
	}
	var author, got corev1.Pod
	decode(t, pod, &author)
	decode(t, first, &got)
	config, _ := injection()
	want, found := inject.Pod(&author, "shop", config)
	if len(found) > 0 {
		t.Fatal(found)
	}
	if diff := cmp.Diff(want.Pod, &got); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	if response := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", first); len(response.Patch) > 0 {
		t.Errorf("injecting twice patches: %s", response.Patch)
	}
	// Called again, after another webhook put a container in front, it has the sidecar first again.
	changed := strings.Replace(first, `"initContainers":[`, `"initContainers":[{"name":"early","image":"y"},`, 1)
	var again corev1.Pod
	decode(t, patched(t, ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", changed), changed), &again)
	var names []string
	for i := range again.Spec.InitContainers {
		names = append(names, again.Spec.InitContainers[i].Name)
	}
	if diff := cmp.Diff([]string{inject.CaptureContainer, inject.ProxyContainer, "early", "first"}, names); diff != "" {
		t.Errorf("init containers (-want +got):\n%s", diff)
	}
}

func patched(t *testing.T, r *admissionv1.AdmissionResponse, object string) string {
	t.Helper()
	if !r.Allowed || r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("no patch: %+v", r)
	}
	p, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Apply([]byte(object))
	if err != nil {
		t.Fatalf("%v: %s", err, r.Patch)
	}
	return string(out)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

func TestAPodIsRefusedWithEveryReason(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", `{"metadata":{"name":"web"},"spec":{"hostNetwork":true,"hostPID":true,"containers":[{"name":"web"}]}}`)
	if r.Allowed || r.Result.Code != http.StatusForbidden || !strings.Contains(r.Result.Message, "spec.hostNetwork") || !strings.Contains(r.Result.Message, "spec.hostPID") {
		t.Errorf("%+v", r)
	}
}

func TestNoPodBeforeTheControlPlaneIsReady(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{Injection: func() (inject.Config, error) { return inject.Config{}, errors.New("the settings were not read") }})
	if r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", pod); r.Allowed || !strings.Contains(r.Result.Message, "the settings were not read") {
		t.Errorf("%+v", r)
	}
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{Unprotected: func(p *model.Policy) []string {
		if p.Namespace != "shop" {
			t.Errorf("the policy's namespace is %q", p.Namespace)
		}
		if p.Name == "web" && len(p.Ingress) > 0 {
			return []string{"a", "b", "c", "d", "e", "f"}
		}
		return nil
	}})
	const bad = policy + `{"ingress":[{"http":[{"paths":[{"type":"RegularExpression","value":"/("}]}]}]}}`
	for name, test := range map[string]struct {
		operation, object, says, warns string
	}{
		"good":                           {operation: "CREATE", object: policy + `{}}`},
		"with pods that have no sidecar": {operation: "UPDATE", object: policy + `{"ingress":[{}]}}`, warns: "6 of the selected pods have no sidecar: a, b, c, d, e and 1 more"},
		"bad":                            {operation: "CREATE", object: bad, says: "spec.ingress[0].http[0].paths[0].value"},
		"bad, and deleted":               {operation: "DELETE", object: "null"},
		"of another shape":               {operation: "CREATE", object: policy + `{"ingress":"all"}}`, says: "ingress"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := ask(t, s, webhook.ValidatePath, test.operation, group, "L7Policy", test.object)
			if r.Allowed != (test.says == "") || r.Result != nil && !strings.Contains(r.Result.Message, test.says) {
				t.Errorf("%+v, want %q", r, test.says)
			}
			if got := strings.Join(r.Warnings, "\n"); !strings.Contains(got, test.warns) || test.warns == "" && got != "" {
				t.Errorf("warns %q, want %q", got, test.warns)
			}
		})
	}
}

// Anybody can reach the port: what is no question of an API server is turned away, and costs little.
func TestNonsenseIsTurnedAway(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	review := func(request string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":` + request + `}`
	}
	for name, test := range map[string]struct {
		path, kind, body string
		want             int
	}{
		"another path":                  {"/", "application/json", "{}", http.StatusNotFound},
		"an update of a pod":            {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"UPDATE","kind":{"version":"v1","kind":"Pod"},"object":{}}`), http.StatusBadRequest},
		"a pod's subresource":           {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"CREATE","subResource":"eviction","kind":{"version":"v1","kind":"Pod"},"object":{}}`), http.StatusBadRequest},
		"a pod of version 2":            {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"version":"v2","kind":"Pod"},"object":{}}`), http.StatusBadRequest},
		"a policy of another version":   {webhook.ValidatePath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"group":"policy.pilot-lite.io","version":"v2","kind":"L7Policy"},"object":{}}`), http.StatusBadRequest},
		"no uid":                        {webhook.InjectPath, "application/json", review(`{"operation":"CREATE","kind":{"version":"v1","kind":"Pod"},"object":{}}`), http.StatusBadRequest},
		"a type in capitals, with more": {webhook.InjectPath, "Application/JSON; charset=utf-8", "{}", http.StatusBadRequest},
		"no content type":               {webhook.InjectPath, "", "{}", http.StatusUnsupportedMediaType},
		"another type":                  {webhook.InjectPath, "application/yaml", "{}", http.StatusUnsupportedMediaType},
		"nothing":                       {webhook.InjectPath, "application/json", "", http.StatusBadRequest},
		"no review":                     {webhook.InjectPath, "application/json", "{}", http.StatusBadRequest},
		"no request":                    {webhook.ValidatePath, "application/json", review("null"), http.StatusBadRequest},
		"no object":                     {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"version":"v1","kind":"Pod"}}`), http.StatusBadRequest},
		"another kind":                  {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"version":"v1","kind":"Secret"},"object":{}}`), http.StatusBadRequest},
		"a policy as a pod":             {webhook.ValidatePath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"version":"v1","kind":"Pod"},"object":{}}`), http.StatusBadRequest},
		"deep nesting":                  {webhook.InjectPath, "application/json", strings.Repeat("[", 1<<20), http.StatusBadRequest},
		"too much":                      {webhook.InjectPath, "application/json", string(bytes.Repeat([]byte(" "), 7<<20)), http.StatusRequestEntityTooLarge},
		"an old review":                 {webhook.InjectPath, "application/json", strings.Replace(review(`{"uid":"1"}`), "k8s.io/v1", "k8s.io/v1beta1", 1), http.StatusBadRequest},
		"an object of arrays":           {webhook.InjectPath, "application/json", review(`{"uid":"1","operation":"CREATE","kind":{"version":"v1","kind":"Pod"},"object":[]}`), http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, answer := post(t, s, test.path, test.kind, test.body); got != test.want {
				t.Errorf("%d %s, want %d", got, answer, test.want)
			}
		})
	}
}

func TestOnlyPostIsAnswered(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	resp, err := s.Client().Get(s.URL + webhook.InjectPath)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered with %s", resp.Status)
	}
}

// A newer API server may say more than this program knows, and a field counts by its own name only.
func TestNamesOfFieldsAreExact(t *testing.T) {
	t.Parallel()
	s := serve(t, webhook.Config{})
	if r := ask(t, s, webhook.InjectPath, "CREATE", "", "Pod", `{"metadata":{"name":"web"},"spec":{"HOSTNETWORK":true,"containers":[{"name":"web"}]}}`); !r.Allowed {
		t.Errorf("%+v", r.Result)
	}
}
