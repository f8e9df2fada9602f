package companion_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	networkingclient "k8s.io/client-go/kubernetes/typed/networking/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
)

type meddler = func(*testing.T, networkingclient.NetworkPolicyInterface, *networkingv1.NetworkPolicy)

// update meddles as kubectl edit does.
func update(edit func(*networkingv1.NetworkPolicy)) meddler {
	return func(t *testing.T, client networkingclient.NetworkPolicyInterface, np *networkingv1.NetworkPolicy) {
		t.Helper()
		edit(np)
		if _, err := client.Update(t.Context(), np, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
			t.Fatal(err)
		}
	}
}

func patch(kind types.PatchType, body string, o metav1.PatchOptions) meddler {
	return func(t *testing.T, client networkingclient.NetworkPolicyInterface, np *networkingv1.NetworkPolicy) {
		t.Helper()
		if _, err := client.Patch(t.Context(), np.Name, kind, []byte(body), o); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, client networkingclient.NetworkPolicyInterface, np *networkingv1.NetworkPolicy) {
	t.Helper()
	if err := client.Delete(t.Context(), np.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func open(np *networkingv1.NetworkPolicy) {
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
}

// meddling is what somebody may do to a companion.
func meddling() map[string]meddler {
	force := true
	return map[string]meddler{
		"a rule that opens": update(open),
		"a rule fewer":      update(func(np *networkingv1.NetworkPolicy) { np.Spec.Ingress = nil }),
		"other pods": update(func(np *networkingv1.NetworkPolicy) {
			np.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "none"}}
		}),
		"a direction fewer":     update(func(np *networkingv1.NetworkPolicy) { np.Spec.PolicyTypes = np.Spec.PolicyTypes[:1] }),
		"our labels":            update(func(np *networkingv1.NetworkPolicy) { np.Labels = nil }),
		"our annotation":        update(func(np *networkingv1.NetworkPolicy) { np.Annotations = nil }),
		"its owner":             update(func(np *networkingv1.NetworkPolicy) { np.OwnerReferences = nil }),
		"an owner that differs": update(func(np *networkingv1.NetworkPolicy) { np.OwnerReferences[0].Name = "other" }),
		"a generation to come": update(func(np *networkingv1.NetworkPolicy) {
			open(np)
			uid := string(np.OwnerReferences[0].UID)
			np.Annotations[companion.AnnotationBuiltFrom] = uid + "/999999"
		}),
		"no generation": update(func(np *networkingv1.NetworkPolicy) {
			np.Annotations[companion.AnnotationBuiltFrom] = string(np.OwnerReferences[0].UID) + "/x"
		}),
		"everything at once": update(func(np *networkingv1.NetworkPolicy) {
			np.Labels, np.Annotations, np.OwnerReferences = nil, nil, nil
			np.Spec = networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Ingress"}, Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}
		}),
		"who wrote it": patch(types.MergePatchType,
			`{"metadata":{"managedFields":[{}],"labels":{"app.kubernetes.io/managed-by":"me"}},"spec":{"ingress":[{}]}}`, metav1.PatchOptions{}),
		"by server-side apply": patch(types.ApplyPatchType,
			`{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","spec":{"ingress":[{}]}}`, metav1.PatchOptions{FieldManager: "me", Force: &force}),
		"deleted":               remove,
		"opened as it is ended": openTerminating,
	}
}

// openTerminating: an object that waits for a finalizer still stands, and can be edited.
func openTerminating(t *testing.T, client networkingclient.NetworkPolicyInterface, np *networkingv1.NetworkPolicy) {
	t.Helper()
	before := np.DeepCopy()
	update(func(np *networkingv1.NetworkPolicy) { np.Finalizers = []string{"example.com/never"} })(t, client, np)
	remove(t, client, np)
	patch(types.MergePatchType, `{"spec":{"ingress":[{}]}}`, metav1.PatchOptions{})(t, client, np)
	apitest.Eventually(t, within, "it is shut again while it waits to be deleted", func() error {
		now, err := client.Get(t.Context(), np.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if diff := cmp.Diff(before.Spec, now.Spec); diff != "" {
			return fmt.Errorf("(-before +now):\n%s", diff)
		}
		if now.DeletionTimestamp == nil {
			return errors.New("it does not wait to be deleted")
		}
		return nil
	})
	patch(types.MergePatchType, `{"metadata":{"finalizers":null}}`, metav1.PatchOptions{})(t, client, np)
}
