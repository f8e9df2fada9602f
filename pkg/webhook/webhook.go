// Package webhook answers the API server's questions about pods and policies. Input: AdmissionReviews over HTTP, from anybody who can reach the port. Output: for a
// pod, the patch that puts its sidecar in, or why it must not run; for a policy, every finding. What it answers is no secret, and nothing of it is remembered; what it
// takes is bounded. Entry points: Handler, and NewServer for what serves it.
package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Paths that the webhooks' configurations name.
const (
	InjectPath   = "/inject"
	ValidatePath = "/validate"
)

// Config is what a Handler needs.
type Config struct {
	// Injection is what a pod is given now; an error says why no pod can be injected yet, and the pod is refused with it.
	Injection func() (inject.Config, error)
	// Unprotected are the pods that a policy selects and that have no sidecar, for a warning to its author.
	Unprotected func(p *model.Policy) []string
	Logger      *slog.Logger
	Metrics     *Metrics // may be nil
}

// maxBody is twice what the API server takes for one object: an update carries two.
const maxBody = 6 << 20

// Handler answers at both paths, and nowhere else.
func Handler(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{Config: c}
	mux := http.NewServeMux()
	mux.Handle("POST "+InjectPath, h.endpoint("inject", h.inject))
	mux.Handle("POST "+ValidatePath, h.endpoint("validate", h.validate))
	return mux
}

type handler struct {
	Config

	held budget
}

// answerer answers a request; an error is a request that makes no sense.
type answerer func(r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

func (h *handler) endpoint(name string, answer answerer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		defer h.survive(w, name, began)
		body := h.held.reader(http.MaxBytesReader(w, r.Body, maxBody))
		defer body.giveBack()
		request, err := read(r, body)
		if err != nil {
			h.Metrics.answered(name, "malformed", began)
			http.Error(w, err.Error(), statusOf(err))
			return
		}
		response, err := answer(request)
		if err != nil {
			h.Metrics.answered(name, "malformed", began)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		response.UID = request.UID
		verdict := "allowed"
		if !response.Allowed {
			verdict = "refused"
			h.Logger.Info("refused", "webhook", name, "namespace", request.Namespace, "name", request.Name, "user", request.UserInfo.Username, "message", response.Result.Message)
		}
		h.Metrics.answered(name, verdict, began)
		w.Header().Set("Content-Type", "application/json")
		review := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Response: response}
		if err := json.NewEncoder(w).Encode(review); err != nil {
			h.Logger.Warn("the API server did not wait for an answer", "webhook", name, "error", err)
		}
	})
}

// survive ends one request whose answer panicked, and none of the others.
func (h *handler) survive(w http.ResponseWriter, name string, began time.Time) {
	if cause := recover(); cause != nil {
		h.Metrics.answered(name, "failed", began)
		h.Logger.Error("a request could not be answered", "webhook", name, "panic", cause, "stack", string(debug.Stack()))
		http.Error(w, "the request could not be answered", http.StatusInternalServerError)
	}
}

// badRequest is an answer to what is no AdmissionReview.
type badRequest struct {
	status int
	text   string
}

func (e *badRequest) Error() string { return e.text }

func statusOf(err error) int {
	if bad, ok := errors.AsType[*badRequest](err); ok {
		return bad.status
	}
	return http.StatusBadRequest
}

func read(r *http.Request, from io.Reader) (*admissionv1.AdmissionRequest, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &badRequest{http.StatusUnsupportedMediaType, "want Content-Type application/json"}
	}
	body, err := io.ReadAll(from)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &badRequest{http.StatusRequestEntityTooLarge, fmt.Sprintf("want at most %d bytes", large.Limit)}
	case errors.Is(err, errBusy):
		return nil, &badRequest{http.StatusServiceUnavailable, err.Error()}
	case err != nil:
		return nil, fmt.Errorf("read the request: %w", err)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("read the AdmissionReview: %w", err)
	}
	if review.APIVersion != admissionv1.SchemeGroupVersion.String() || review.Kind != "AdmissionReview" || review.Request == nil || review.Request.UID == "" {
		return nil, &badRequest{http.StatusBadRequest, "want an AdmissionReview of admission.k8s.io/v1 with a request and its uid"}
	}
	return review.Request, nil
}

func allowed() *admissionv1.AdmissionResponse { return &admissionv1.AdmissionResponse{Allowed: true} }

// refused says why. The API server shows the message to whoever wrote the object.
func refused(code int32, reason metav1.StatusReason, message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

// tooMuch refuses what costs more to read than it may.
func tooMuch(err error) *admissionv1.AdmissionResponse {
	return refused(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, "pilot-lite: "+err.Error())
}

// sentence is a finding as the author of the object reads it, who knows which object it is about.
func sentence(d *model.Diagnostic) string {
	text := d.Consequence
	if d.Field != "" {
		text = d.Field + ": " + text
	}
	if d.Remedy != "" {
		text += "; " + d.Remedy
	}
	return text
}
