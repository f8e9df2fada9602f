package webhook

import (
	"fmt"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// inject puts the sidecar into a pod that is being created.
func (h *handler) inject(r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
	if r.Operation != admissionv1.Create || r.Kind != (metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}) || r.SubResource != "" {
		return nil, fmt.Errorf("%s of %s: want the creation of a v1 Pod", r.Operation, r.Kind.Kind)
	}
	if err := screen(r.Object.Raw, maxPodValues); err != nil {
		return tooMuch(err), nil
	}
	var pod corev1.Pod
	if err := kjson.UnmarshalCaseSensitivePreserveInts(r.Object.Raw, &pod); err != nil {
		return nil, fmt.Errorf("read the pod: %w", err)
	}
	config, err := h.Injection()
	if err != nil {
		return refused(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "no sidecar can be injected yet: "+err.Error()), nil
	}
	result, found := inject.Pod(&pod, r.Namespace, config)
	if len(found) > 0 {
		return refused(http.StatusForbidden, metav1.StatusReasonForbidden, "pilot-lite: "+sentences(found)), nil
	}
	response := allowed()
	for i := range result.Notices {
		if result.Notices[i].Severity != model.SeverityNotice {
			response.Warnings = append(response.Warnings, sentence(&result.Notices[i]))
		}
	}
	patch, err := inject.Patch(r.Object.Raw, &pod, result.Pod)
	if err != nil || patch == nil {
		return response, err
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &kind
	return response, nil
}

// mostShown is how many findings a refusal lists.
const mostShown = 20

func sentences(found []model.Diagnostic) string {
	var out []string
	for i := range found {
		if i == mostShown {
			out = append(out, fmt.Sprintf("and %d more", len(found)-mostShown))
			break
		}
		out = append(out, sentence(&found[i]))
	}
	return strings.Join(out, "\n")
}
