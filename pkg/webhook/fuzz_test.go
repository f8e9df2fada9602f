package webhook_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

// Whatever a request holds, the answer is one, and no panic: a refusal with its reason, or a patch that applies and leaves nothing to be patched.
func FuzzHandler(f *testing.F) {
	f.Add(webhook.InjectPath, podReview+pod+reviewEnd)
	f.Add(webhook.InjectPath, podReview+`{"metadata":{"labels":{"policy.pilot-lite.io/proxy":"injected"}},"spec":{"initContainers":[{"name":"pilot-lite-proxy"},{"name":"a"},{"name":"pilot-lite-capture"}],"containers":[]}}`+reviewEnd)
	f.Add(webhook.InjectPath, podReview+`{"spec":{"hostNetwork":true,"containers":[{"resources":{"limits":{"cpu":"1e9999"}}}]}}`+reviewEnd)
	f.Add(webhook.ValidatePath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","kind":{"group":"policy.pilot-lite.io","version":"v1alpha1","kind":"L7Policy"},"object":`+policy+`{"ingress":[{"http":[{"paths":[{"value":"/"}]}]}]}}`+reviewEnd)
	handler := webhook.Handler(webhook.Config{Injection: injection})
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != webhook.InjectPath && path != webhook.ValidatePath {
			return
		}
		review := answer(t, handler, path, body)
		if review == nil {
			return
		}
		r := review.Response
		switch {
		case r == nil || r.UID == "":
			t.Fatalf("no answer: %+v", review)
		case !r.Allowed && (r.Result == nil || r.Result.Message == "" || r.Result.Code < http.StatusBadRequest || r.Patch != nil):
			t.Errorf("refused without a reason: %+v", r)
		case r.Patch != nil:
			applies(t, handler, body, r.Patch)
		}
	})
}

// answer asks; nil where the request makes no sense.
func answer(t *testing.T, handler http.Handler, path, body string) *admissionv1.AdmissionReview {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code >= http.StatusInternalServerError {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	if w.Code != http.StatusOK {
		return nil
	}
	review := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(w.Body.Bytes(), review); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return review
}

// applies wants a patch to lead to a pod that is not patched again.
func applies(t *testing.T, handler http.Handler, body string, text []byte) {
	t.Helper()
	var review map[string]json.RawMessage
	var request map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &review) != nil || json.Unmarshal(review["request"], &request) != nil || request["object"] == nil {
		return // the names of its fields are of another case, which no API server writes
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	after, err := patch.Apply(request["object"])
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	request["object"] = after
	if review["request"], err = json.Marshal(request); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	if r := answer(t, handler, webhook.InjectPath, string(again)); r == nil || r.Response.Patch != nil || !r.Response.Allowed {
		t.Errorf("injecting twice is not injecting once: %+v", r)
	}
}
