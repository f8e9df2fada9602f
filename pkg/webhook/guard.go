package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	// guardTime bounds the question of what an edit opens. The API server waits longer (manifests/webhooks.yaml), so that an author reads why there is no answer.
	guardTime = 3 * time.Second
	// mostOpenings is how many openings a message tells.
	mostOpenings = 3
)

// guarded refuses an edit that opens what is guarded, or of which nobody knows in time whether it does, unless it says why it may.
func (h *handler) guarded(ctx context.Context, r *admissionv1.AdmissionRequest, next *written, response *admissionv1.AdmissionResponse) (*admissionv1.AdmissionResponse, error) {
	if h.Guard == nil {
		return response, nil
	}
	var old *model.Policy
	was := ""
	if r.Operation == admissionv1.Update {
		if err := screen(r.OldObject.Raw, maxPolicyValues); err != nil {
			return tooMuch(err), nil
		}
		before, err := read(r, r.OldObject.Raw)
		if err != nil {
			return nil, err
		}
		old, was = &before.policy, before.meta.Annotations[v1alpha1.AnnotationOpensGuarded]
	}
	opens, err := h.opens(ctx, old, &next.policy)
	what := ""
	switch {
	case err != nil:
		what = "it could not be found out whether this edit opens what is guarded: " + err.Error()
	case len(opens) == 0:
		return response, nil
	default:
		what = "this edit opens what is guarded: " + openings(opens)
	}
	if reason := next.meta.Annotations[v1alpha1.AnnotationOpensGuarded]; strings.TrimSpace(reason) != "" && reason != was {
		h.Logger.Warn("an edit that its author says may open what is guarded", "namespace", r.Namespace, "name", r.Name, "user", r.UserInfo.Username, "reason", reason, "opens", what)
		response.Warnings = append(response.Warnings, what)
		return response, nil
	}
	remedy := fmt.Sprintf("if that is meant, say why in the annotation %s of this very edit", v1alpha1.AnnotationOpensGuarded)
	if was != "" {
		remedy += ", which another edit has used as it stands"
	}
	if err != nil {
		remedy = "try again; " + remedy
	}
	return refused(http.StatusForbidden, metav1.StatusReasonForbidden, "pilot-lite: "+what+". "+remedy), nil
}

// deleted warns: a deletion is nobody's to stop.
func (h *handler) deleted(ctx context.Context, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	response := allowed()
	if h.Guard == nil {
		return response
	}
	if screen(r.OldObject.Raw, maxPolicyValues) != nil {
		return response
	}
	before, err := read(r, r.OldObject.Raw)
	if err != nil {
		return response
	}
	switch opens, err := h.opens(ctx, &before.policy, nil); {
	case err != nil:
		response.Warnings = []string{"it could not be found out whether this deletion opens what is guarded: " + err.Error()}
	case len(opens) > 0:
		response.Warnings = []string{"this deletion opens what is guarded: " + openings(opens)}
	}
	return response
}

func (h *handler) opens(ctx context.Context, before, after *model.Policy) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, guardTime, fmt.Errorf("there was no answer within %s", guardTime))
	defer cancel()
	return h.Guard.Opens(ctx, before, after)
}

func openings(all []string) string {
	out := strings.Join(all[:min(len(all), mostOpenings)], ". ")
	if more := len(all) - mostOpenings; more > 0 {
		out += fmt.Sprintf(". And %d more, which pilot-lite diff tells", more)
	}
	return out
}
