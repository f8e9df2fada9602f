package companion

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// failure is how a write went wrong; the zero one, that it did not.
type failure struct {
	message  string // the API server's words
	conflict bool   // what is known here is old: it is compared again
	refused  bool   // it will be refused until somebody grants or corrects something
}

func failureOf(err error) failure {
	switch {
	case err == nil:
		return failure{}
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return failure{message: err.Error(), conflict: true}
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsNotFound(err),
		apierrors.IsMethodNotSupported(err), apierrors.IsRequestEntityTooLargeError(err):
		return failure{message: err.Error(), refused: true}
	}
	return failure{message: err.Error()}
}

// perform does one write.
func (c *Controller) perform(ctx context.Context, a *action) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if a.doubtful() {
		behind, err := c.behind(ctx, a)
		if err != nil {
			a.outcome = failureOf(err)
			return
		}
		if behind {
			a.outcome = failure{message: "the policy changed since: the companion stays as it is until that is known here", conflict: true}
			return
		}
	}
	// The lease is looked at last, so that a process that was stopped for a while notices that it is gone.
	a.skipped = ctx.Err() != nil || !c.Leads()
	switch {
	case a.skipped:
	case a.desired == nil:
		a.outcome = failureOf(c.remove(ctx, a))
	default:
		a.outcome = failureOf(c.apply(ctx, a))
	}
}

// doubtful says whether a write may take back what somebody with a later view did: it deletes, or replaces what tells of another generation, or makes again what has
// vanished, perhaps with its policy. An earlier generation is no proof, either: a later one that made the same left it as it is. All that can also be somebody's meddling,
// which the API server alone can tell.
func (a *action) doubtful() bool {
	if a.desired == nil {
		return true
	}
	if a.standing == nil {
		return a.repair
	}
	uid, generation := builtFrom(a.standing)
	return uid == a.policy.UID && generation != a.policy.Generation
}

// behind says whether the API server has another policy, or generation of it, than the view that asks for a write.
func (c *Controller) behind(ctx context.Context, a *action) (bool, error) {
	if c.Live == nil {
		return false, nil
	}
	live, found, err := c.Live(ctx, a.policy.Namespace, a.policy.Name)
	switch {
	case err != nil:
		return false, fmt.Errorf("read L7Policy %s/%s: %w", a.policy.Namespace, a.policy.Name, err)
	case !found || live.UID != a.policy.UID: // what belonged to it may go, and nothing more is made for it
		return a.desired != nil, nil
	}
	return live.Generation != a.policy.Generation, nil
}

// applyBody is what we apply. Every field that decides anything is written, empty ones too: what is left out would stay as somebody else set it.
type applyBody struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"`
	Metadata   applyMetadata `json:"metadata"`
	Spec       applySpec     `json:"spec"`
}

type applyMetadata struct {
	Name            string                  `json:"name"`
	Namespace       string                  `json:"namespace"`
	UID             types.UID               `json:"uid,omitempty"`
	ResourceVersion string                  `json:"resourceVersion,omitempty"`
	Labels          map[string]string       `json:"labels"`
	Annotations     map[string]string       `json:"annotations"`
	OwnerReferences []metav1.OwnerReference `json:"ownerReferences,omitempty"`
}

type applySpec struct {
	PodSelector metav1.LabelSelector                    `json:"podSelector"`
	PolicyTypes []networkingv1.PolicyType               `json:"policyTypes"`
	Ingress     []networkingv1.NetworkPolicyIngressRule `json:"ingress"`
	Egress      []networkingv1.NetworkPolicyEgressRule  `json:"egress"`
}

func (a *action) body() ([]byte, error) {
	d := a.desired
	b := applyBody{
		APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy",
		Metadata: applyMetadata{
			Name: d.Name, Namespace: d.Namespace, Labels: d.Labels, OwnerReferences: d.OwnerReferences,
			Annotations: map[string]string{AnnotationBuiltFrom: builtFromText(a.policy)},
		},
		Spec: applySpec{PodSelector: d.Spec.PodSelector, PolicyTypes: d.Spec.PolicyTypes, Ingress: d.Spec.Ingress, Egress: d.Spec.Egress},
	}
	if b.Spec.Ingress == nil {
		b.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{}
	}
	if b.Spec.Egress == nil {
		b.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{}
	}
	if a.standing != nil {
		b.Metadata.UID, b.Metadata.ResourceVersion = a.standing.UID, a.standing.ResourceVersion
	}
	return json.Marshal(b)
}

// apply writes a companion: over what stands with force, on condition that it is still what was compared; a new one without, so that what somebody else made under its
// name meanwhile is not taken over.
func (c *Controller) apply(ctx context.Context, a *action) error {
	body, err := a.body()
	if err != nil {
		return err
	}
	force := a.standing != nil
	_, err = c.Client.NetworkPolicies(a.name.Namespace).Patch(ctx, a.name.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: FieldManager, Force: &force})
	return err
}

// remove deletes a companion, on condition that it is still what was compared.
func (c *Controller) remove(ctx context.Context, a *action) error {
	err := c.Client.NetworkPolicies(a.name.Namespace).Delete(ctx, a.name.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &a.standing.UID, ResourceVersion: &a.standing.ResourceVersion},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
