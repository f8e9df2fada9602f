package kube

import (
	"encoding/json"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func decodePolicies(t *testing.T, text string, into runtime.Object) runtime.Object {
	t.Helper()
	out, _, err := newPolicySerializer().SupportedMediaTypes()[0].Serializer.Decode([]byte(text), nil, into)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What an API server answers about policies: one, a page of a list, a bookmark, and a refusal.
func TestPoliciesAreReadAsTheyArrive(t *testing.T) {
	t.Parallel()
	const head = `"apiVersion":"policy.pilot-lite.io/v1alpha1"`
	one, ok := decodePolicies(t, `{`+head+`,"kind":"L7Policy","metadata":{"name":"a","generation":2,"managedFields":[{"manager":"m"}]},"spec":{"action":"Deny"},"status":{"enforced":"1/1"}}`, nil).(*policyText)
	if !ok || one.Name != "a" || one.Generation != 2 || string(one.spec) != `{"action":"Deny"}` || string(one.status) != `{"enforced":"1/1"}` {
		t.Errorf("got %+v", one)
	}
	page := &policyTexts{}
	decodePolicies(t, `{`+head+`,"kind":"L7PolicyList","metadata":{"resourceVersion":"7","continue":"more"},"items":[{"metadata":{"name":"a"}},{"metadata":{"name":"b"},"spec":{}}]}`, page)
	items, err := meta.ExtractList(page)
	if err != nil || len(items) != 2 || page.ResourceVersion != "7" || page.Continue != "more" {
		t.Errorf("got %+v, %v", page, err)
	}
	bookmark, ok := decodePolicies(t, `{`+head+`,"kind":"L7Policy","metadata":{"resourceVersion":"8","annotations":{"k8s.io/initial-events-end":"true"}}}`, nil).(*policyText)
	if !ok || bookmark.ResourceVersion != "8" || bookmark.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
		t.Errorf("got %+v", bookmark)
	}
	refused := decodePolicies(t, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}`, nil)
	if !apierrors.IsResourceExpired(apierrors.FromObject(refused)) {
		t.Errorf("got %+v", refused)
	}
}

// A written status brings the words that were converted before. Other words are converted, whatever the generation says: a store that was restored gives numbers twice.
func TestTheSameWordsAreConvertedOnce(t *testing.T) {
	t.Parallel()
	s := NewSource(Config{Client: fake.NewClientset()})
	put := func(change func(*policyText)) Policy {
		t.Helper()
		o := policyObject(map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{"ports": []any{map[string]any{"port": int64(80)}}}}})
		change(o)
		if err := s.policies.Update(o); err != nil {
			t.Fatal(err)
		}
		p, _ := s.Policy(o.Namespace, o.Name)
		return p
	}
	before := put(func(*policyText) {})
	written := put(func(o *policyText) { o.status, o.ResourceVersion = json.RawMessage(`{"enforced":"0/1"}`), "10" })
	if &written.Ingress[0] != &before.Ingress[0] || written.Status.Enforced != "0/1" || written.ResourceVersion != "10" {
		t.Errorf("a written status: %+v", written)
	}
	for name, change := range map[string]func(*policyText){
		"other ports":        func(o *policyText) { o.spec = json.RawMessage(`{"ingress":[{"ports":[{"port":81}]}]}`) },
		"broken":             func(o *policyText) { o.spec = json.RawMessage(`{"ingress":[{"ports":"none"}]}`) },
		"another generation": func(o *policyText) { o.Generation++ },
		"another policy":     func(o *policyText) { o.UID += "x" },
		"guarded":            func(o *policyText) { o.Annotations = map[string]string{"policy.pilot-lite.io/guarded": "true"} },
	} {
		put(func(*policyText) {})
		got := put(change)
		o := policyObject(map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{"ports": []any{map[string]any{"port": int64(80)}}}}})
		change(o)
		want, _ := convertPolicy(o)
		if a, b := fmt.Sprintf("%+v %v", want.Policy, want.Diagnostics), fmt.Sprintf("%+v %v", got.Policy, got.Diagnostics); a != b {
			t.Errorf("%s: want %s, got %s", name, a, b)
		}
		if same(&got.Policy, &before.Policy) {
			t.Errorf("%s: it means what the policy did before", name)
		}
	}
}
