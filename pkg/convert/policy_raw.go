package convert

import (
	"cmp"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/internal/mistyped"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// CodeUnreadable is the code of the one finding about a policy that could not be read.
const CodeUnreadable = "wrong-type"

// PolicyJSON converts a policy as an API server stores it. What cannot be read was written past the schema, or by a newer schema than this program
// knows: such a policy shuts every pod that it could have meant, like any that is broken as a whole. The metadata is the object's, already read: the body needs none.
func PolicyJSON(meta *metav1.ObjectMeta, body []byte) (*v1alpha1.L7Policy, model.Policy, []model.Diagnostic) {
	p := &v1alpha1.L7Policy{}
	unknown, err := kjson.UnmarshalStrict(body, p)
	p.ObjectMeta = *meta
	if err == nil && len(unknown) == 0 {
		converted, found := Policy(p)
		return p, converted, found
	}
	field, why, remedy := "spec", "it is no policy", "write the policy again, as the installed definition of L7Policy describes it"
	if wrong := mistyped.In(body, reflect.TypeFor[v1alpha1.L7Policy]()); len(wrong) > 0 {
		field, why, remedy = cmp.Or(wrong[0].Field, field), "it is "+wrong[0].Is, wrong[0].Remedy
	} else if err == nil {
		twice := false
		if field, twice = mistyped.Stray(unknown[0]); twice {
			why, remedy = "the field is written twice", "remove one of the two"
		} else {
			why = "a field that this version does not know"
		}
	}
	return p, undecodable(meta, body), []model.Diagnostic{{
		Code: CodeUnreadable, Severity: model.SeverityError, Object: policyObject(p), Field: field,
		Consequence: why + ": " + string(effectOf(rawAction(body), partFrame)), Remedy: remedy,
	}}
}

// undecodable is a policy of which nothing but the name, and perhaps the action and the selector, can be read.
func undecodable(meta *metav1.ObjectMeta, body []byte) model.Policy {
	action := rawAction(body)
	return model.Policy{
		PolicyRef: model.PolicyRef{Namespace: meta.Namespace, Name: meta.Name, UID: string(meta.UID), Generation: meta.Generation},
		Action:    action, Selector: labels.Everything(), IsolatesIngress: true, IsolatesEgress: true, Ingress: shutRules(action), Egress: shutRules(action),
		Guarded: guarded(meta),
	}
}

// rawAction is the action where it can be read; what is neither word denies.
func rawAction(body []byte) model.Action {
	var raw struct {
		Spec struct {
			Action any `json:"action"`
		} `json:"spec"`
	}
	_ = kjson.UnmarshalCaseSensitivePreserveInts(body, &raw)
	switch raw.Spec.Action {
	case nil, "", string(v1alpha1.ActionAllow):
		return model.Allow
	}
	return model.Deny
}
