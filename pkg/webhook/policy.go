package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/crd/validation"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// validate refuses a policy that cannot mean what it says or that opens what is guarded, and warns of what its author may not expect.
func (h *handler) validate(ctx context.Context, r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if want := v1alpha1.SchemeGroupVersion(); schema.GroupVersionKind(r.Kind) != want.WithKind(v1alpha1.Kind) || r.SubResource != "" {
		return nil, fmt.Errorf("%s: want an %s of %s", schema.GroupVersionKind(r.Kind), v1alpha1.Kind, want)
	}
	switch r.Operation {
	case admissionv1.Delete:
		return h.deleted(ctx, r), nil
	case admissionv1.Create, admissionv1.Update:
	default:
		return allowed(), nil
	}
	if err := screen(r.Object.Raw, maxPolicyValues); err != nil {
		return tooMuch(err), nil
	}
	next, err := read(r, r.Object.Raw)
	if err != nil {
		return nil, err
	}
	response := allowed()
	for i := range next.found {
		switch f := &next.found[i]; {
		case f.Severity == model.SeverityError && !next.policy.Accepted:
			return invalid(next.object, f), nil
		case f.Severity == model.SeverityWarning:
			response.Warnings = append(response.Warnings, sentence(f))
		}
	}
	if h.Unprotected != nil && !next.policy.DryRun {
		if pods := h.Unprotected(&next.policy); len(pods) > 0 {
			response.Warnings = append(response.Warnings, unprotected(pods))
		}
	}
	return h.guarded(ctx, r, next, response)
}

// written is a policy as somebody wrote it.
type written struct {
	meta   metav1.ObjectMeta
	object *v1alpha1.L7Policy
	policy model.Policy
	found  []model.Diagnostic
}

func read(r *admissionv1.AdmissionRequest, raw []byte) (*written, error) {
	var object struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &object); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	w := &written{meta: object.Metadata}
	w.meta.Namespace = r.Namespace
	w.object, w.policy, w.found = convert.PolicyJSON(&w.meta, raw)
	w.policy.Namespace = r.Namespace
	return w, nil
}

// invalid lists every error of a policy that could be read; of another, why it could not.
func invalid(p *v1alpha1.L7Policy, first *model.Diagnostic) *admissionv1.AdmissionResponse {
	why := sentence(first)
	if err := validation.Validate(p); err != nil && first.Code != convert.CodeUnreadable {
		why = err.Error()
	}
	return refused(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "pilot-lite: "+why)
}

// mostNamed is how many pods a warning names.
const mostNamed = 5

func unprotected(pods []string) string {
	named := strings.Join(pods[:min(len(pods), mostNamed)], ", ")
	if more := len(pods) - mostNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d of the selected pods have no sidecar: %s. Rules with http let nobody in there, and the policy does not become enforced; label the namespace %s=%s and create the pods again",
		len(pods), named, v1alpha1.LabelInject, v1alpha1.InjectEnabled)
}
