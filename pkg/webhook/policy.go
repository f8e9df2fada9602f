package webhook

import (
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

// validate refuses a policy that cannot mean what it says, and warns of what its author may not expect.
func (h *handler) validate(r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if want := v1alpha1.SchemeGroupVersion(); schema.GroupVersionKind(r.Kind) != want.WithKind(v1alpha1.Kind) || r.SubResource != "" {
		return nil, fmt.Errorf("%s: want an %s of %s", schema.GroupVersionKind(r.Kind), v1alpha1.Kind, want)
	}
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return allowed(), nil // a deletion is nobody's to stop
	}
	if err := screen(r.Object.Raw, maxPolicyValues); err != nil {
		return tooMuch(err), nil
	}
	var object struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(r.Object.Raw, &object); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	object.Metadata.Namespace = r.Namespace
	read, policy, found := convert.PolicyJSON(&object.Metadata, r.Object.Raw)
	policy.Namespace = r.Namespace
	response := allowed()
	for i := range found {
		switch {
		case found[i].Severity == model.SeverityError && !policy.Accepted:
			return invalid(read, &found[i]), nil
		case found[i].Severity == model.SeverityWarning:
			response.Warnings = append(response.Warnings, sentence(&found[i]))
		}
	}
	if h.Unprotected != nil && !policy.DryRun {
		if pods := h.Unprotected(&policy); len(pods) > 0 {
			response.Warnings = append(response.Warnings, unprotected(pods))
		}
	}
	return response, nil
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
