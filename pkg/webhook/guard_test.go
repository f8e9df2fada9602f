package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

// gate opens what its name says.
type gate string

func (g gate) Opens(ctx context.Context, before, after *model.Policy) ([]string, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("the question has no deadline")
	}
	switch {
	case g == "nobody knows":
		return nil, errors.New("the cluster was not read whole yet")
	case g == "nothing":
		return nil, nil
	case before == nil:
		return []string{"made " + after.Namespace + "/" + after.Name}, nil
	case after == nil:
		return []string{"deleted " + before.Namespace + "/" + before.Name}, nil
	}
	return []string{"one", "two", "three", "four", "five"}, nil
}

func askAbout(t *testing.T, g webhook.Guard, operation, object, old string) *admissionv1.AdmissionResponse {
	t.Helper()
	s := serve(t, webhook.Config{Guard: g})
	status, answer := post(t, s, webhook.ValidatePath, "application/json", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"7","operation":"`+operation+`",
		"namespace":"shop","kind":{"group":"`+group+`","version":"v1alpha1","kind":"L7Policy"},"object":`+object+`,"oldObject":`+old+`}}`)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, answer)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal([]byte(answer), &review); err != nil {
		t.Fatal(err)
	}
	return review.Response
}

// because is a policy whose author says why it may open what is guarded.
func because(reason string) string {
	return `{"apiVersion":"policy.pilot-lite.io/v1alpha1","kind":"L7Policy","metadata":{"name":"web","annotations":{"policy.pilot-lite.io/opens-guarded":"` + reason + `"}},"spec":{"ingress":[{}]}}`
}

func TestEditsThatOpenWhatIsGuarded(t *testing.T) {
	t.Parallel()
	const plain = policy + `{"ingress":[{}]}}`
	for name, test := range map[string]struct {
		gate                   gate
		operation, object, old string
		refused, warns         string
	}{
		"nothing opens":                        {gate: "nothing", operation: "UPDATE", object: plain, old: plain},
		"made":                                 {operation: "CREATE", object: plain, old: "null", refused: "opens what is guarded: made shop/web. if that is meant, say why in the annotation policy.pilot-lite.io/opens-guarded"},
		"changed":                              {operation: "UPDATE", object: plain, old: plain, refused: "one. two. three. And 2 more"},
		"with a reason":                        {operation: "CREATE", object: because("CHG-1"), old: "null", warns: "made shop/web"},
		"with a new reason":                    {operation: "UPDATE", object: because("CHG-2"), old: because("CHG-1"), warns: "one. two"},
		"with the reason of an earlier edit":   {operation: "UPDATE", object: because("CHG-1"), old: because("CHG-1"), refused: "another edit has used as it stands"},
		"with an empty reason":                 {operation: "UPDATE", object: because(" "), old: plain, refused: "if that is meant"},
		"nobody knows":                         {gate: "nobody knows", operation: "UPDATE", object: plain, old: plain, refused: "it could not be found out whether this edit opens what is guarded: the cluster was not read whole yet. try again"},
		"nobody knows, with a reason":          {gate: "nobody knows", operation: "CREATE", object: because("CHG-1"), old: "null", warns: "could not be found out"},
		"deleted":                              {operation: "DELETE", object: "null", old: plain, warns: "this deletion opens what is guarded: deleted shop/web"},
		"deleted, and nothing opens":           {gate: "nothing", operation: "DELETE", object: "null", old: plain},
		"deleted, and nobody knows":            {gate: "nobody knows", operation: "DELETE", object: "null", old: plain, warns: "could not be found out"},
		"deleted, and it cannot be read":       {operation: "DELETE", object: "null", old: `[]`},
		"what was there before cannot be read": {gate: "nothing", operation: "UPDATE", object: plain, old: policy + `{"ingress":"all"}}`},
		"bad, and opens":                       {operation: "CREATE", object: policy + `{"ingress":[{"ports":[{"port":0}]}]}}`, old: "null", refused: "spec.ingress[0].ports[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := askAbout(t, test.gate, test.operation, test.object, test.old)
			message := ""
			if r.Result != nil {
				message = r.Result.Message
			}
			if r.Allowed != (test.refused == "") || !strings.Contains(message, test.refused) {
				t.Errorf("allowed: %t, %q; want %q", r.Allowed, message, test.refused)
			}
			if got := strings.Join(r.Warnings, "\n"); !strings.Contains(got, test.warns) || test.warns == "" && got != "" {
				t.Errorf("warns %q, want %q", got, test.warns)
			}
		})
	}
}
