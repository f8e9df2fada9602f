package filesource_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// A place is the line of the field, of the nearest thing around it that is written, or of the object.
func TestPlaces(t *testing.T) {
	t.Parallel()
	loaded, err := filesource.Load([]string{"-"}, strings.NewReader(`apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: cart}
spec:
  ingress:
  - ports:
    - port: 80
    - port: 81
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  namespace: shop
`))
	if err != nil {
		t.Fatal(err)
	}
	policy := model.ObjectRef{Kind: "L7Policy", Namespace: "default", Name: "cart"}
	workload := model.ObjectRef{Kind: "Workload", Namespace: "shop", Name: "cart"}
	got := map[string]string{
		"a field":                loaded.Places.Of(policy, "spec.ingress[0].ports[1]"),
		"one that is not there":  loaded.Places.Of(policy, "spec.ingress[0].from"),
		"an object":              loaded.Places.Of(policy, ""),
		"a namespace":            loaded.Places.Of(model.ObjectRef{Kind: "Namespace", Name: "shop"}, ""),
		"what makes pods":        loaded.Places.Of(workload, "metadata.name"),
		"an object that is not":  loaded.Places.Of(model.ObjectRef{Kind: "Service", Namespace: "shop", Name: "cart"}, ""),
		"nothing that was read":  (*filesource.Places)(nil).Of(policy, ""),
		"a finding with a place": loaded.Places.Locate([]model.Diagnostic{{Object: model.ObjectRef{Kind: "Namespace", Name: "shop", Source: "x:1"}}})[0].Object.Source,
		"a finding without":      loaded.Places.Locate([]model.Diagnostic{{Object: policy, Field: "spec"}})[0].Object.Source,
	}
	want := map[string]string{
		"a field": "-:12", "one that is not there": "-:10", "an object": "-:5", "a namespace": "-:1", "what makes pods": "-:17", "an object that is not": "",
		"nothing that was read": "", "a finding with a place": "x:1", "a finding without": "-:9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
