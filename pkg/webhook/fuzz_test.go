package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

// Whatever a request holds, the answer is one, and no panic.
func FuzzHandler(f *testing.F) {
	f.Add(webhook.InjectPath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","kind":{"version":"v1","kind":"Pod"},"object":`+pod+`}}`)
	f.Add(webhook.ValidatePath, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","kind":{"group":"policy.pilot-lite.io","version":"v1alpha1","kind":"L7Policy"},"object":`+policy+`{}}}}`)
	handler := webhook.Handler(webhook.Config{Injection: injection})
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != webhook.InjectPath && path != webhook.ValidatePath {
			return
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%d: %s", w.Code, w.Body)
		}
	})
}
