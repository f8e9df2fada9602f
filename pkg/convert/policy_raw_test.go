package convert_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A policy that got past the schema is told of by field, in words that are not a decoder's, and shuts.
func TestPolicyPastTheSchema(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"spec":{"ingress":[{},{"ports":[{"port":1.5}]}]}}`: "spec.ingress[1].ports[0].port: it is a number: the policy isolates every pod that it could have meant, and allows nothing; write a port's number or name",
		`{"spec":{"podSelector":{"matchLabels":{"app":5}}}}`: "spec.podSelector.matchLabels.app: it is a number: ",
		`{"spec":{"action":"Deny","ingress":{}}}`:            "spec.ingress: it is an object: the policy denies everything, to every pod that it could have meant; write a list",
		`{"spec":{"ingress":[{"frm":[]}]}}`:                  "spec.ingress[0].frm: a field that this version does not know: ",
		`{"spec":{"ingress":[{}],"ingress":[]}}`:             "spec.ingress: the field is written twice: the policy isolates every pod that it could have meant, and allows nothing; remove one of the two",
		`[]`:                                                 "spec: it is a list: ",
		`{`:                                                  "spec: it is no policy: ",
	} {
		_, policy, found := convert.PolicyJSON(&metav1.ObjectMeta{Namespace: "shop", Name: "p"}, []byte(body))
		if policy.Accepted {
			t.Errorf("%s: accepted", body)
		}
		if len(found) == 0 || !strings.Contains(found[0].String(), want) || found[0].Severity != model.SeverityError || found[0].Remedy == "" {
			t.Errorf("%s:\nwant %s\ngot  %v", body, want, found)
		}
		for _, d := range found {
			if strings.Contains(d.String(), "json:") || strings.Contains(d.String(), "v1alpha1") {
				t.Errorf("%s: Go's words: %s", body, d)
			}
		}
	}
}
