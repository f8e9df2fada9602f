package validation_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	schemacel "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// apiServer judges policies with the API server's own code.
type apiServer struct {
	structural *structuralschema.Structural
	schema     schemavalidation.SchemaValidator
	cel        *schemacel.Validator
}

// loadCRD reads the CRD that is applied to clusters, as the API server would.
func loadCRD(t testing.TB) *apiextensions.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "manifests", "crd", "policy.pilot-lite.io_l7policies.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &v1); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	var internal apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &internal, nil); err != nil {
		t.Fatal(err)
	}
	// The API server fills the status in before it validates.
	internal.Status.StoredVersions = []string{"v1alpha1"}
	return &internal
}

// The API server refuses a CRD whose checks could cost too much, one without bounds on its lists and strings above all.
func TestAPIServerAcceptsCRD(t *testing.T) {
	t.Parallel()
	if errs := crdvalidation.ValidateCustomResourceDefinition(t.Context(), loadCRD(t)); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	crd := loadCRD(t)
	schema := crd.Spec.Validation
	if schema == nil {
		schema = crd.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	validator, _, err := schemavalidation.NewSchemaValidator(schema.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return &apiServer{structural: structural, schema: validator, cel: schemacel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// create does to an object what the API server does on creation. It returns the unknown fields that were pruned, and the refusal.
func (s *apiServer) create(t testing.TB, object map[string]any) (pruned []string, errs field.ErrorList) {
	t.Helper()
	object = runtime.DeepCopyJSON(object)
	pruned = pruning.PruneWithOptions(object, s.structural, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	errs = schemavalidation.ValidateCustomResource(nil, object, s.schema)
	if !slices.ContainsFunc(errs, blocks) {
		found, _ := s.cel.Validate(t.Context(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
		errs = append(errs, found...)
	}
	return pruned, errs
}

// blocks says whether the API server asks no rule of CEL after such an error, as hasBlockingErr of its strategy for custom resources does.
func blocks(e *field.Error) bool {
	return slices.Contains([]field.ErrorType{
		field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid,
	}, e.Type)
}

// The checks of the largest policies stay within what the API server spends on one object.
func TestLargestPoliciesAreAccepted(t *testing.T) {
	t.Parallel()
	server := newAPIServer(t)
	repeat := func(n int, item string) string { return "[" + strings.Repeat(item+",", n-1) + item + "]" }
	cidrs := repeat(32, "10.255.255.0/24")
	paths := repeat(16, "{type: Exact, value: /"+strings.Repeat("a", 1023)+"}")
	hosts := repeat(16, strings.TrimSuffix(strings.Repeat(strings.Repeat("h", 62)+".", 4), "."))
	methods := repeat(16, strings.Repeat("M", 64))
	headers := repeat(16, "{name: "+strings.Repeat("x", 253)+", value: "+strings.Repeat("v", 253)+"}")
	for name, rules := range map[string]string{
		"peers":   repeat(64, "{from: "+repeat(32, "{ipBlock: {cidr: 10.0.0.0/8, except: "+cidrs+"}}")+"}"),
		"ports":   repeat(64, "{ports: "+repeat(32, "{protocol: TCP, port: 60000, endPort: 65535}")+", http: [{methods: [GET]}]}"),
		"named":   repeat(64, "{ports: "+repeat(32, "{port: a-long-name-123}")+"}"),
		"paths":   repeat(64, "{http: [{paths: "+paths+"}]}"),
		"hosts":   repeat(64, "{http: "+repeat(4, "{hosts: "+hosts+", methods: "+methods+"}")+"}"),
		"headers": repeat(64, "{http: [{headers: "+headers+"}, {headers: "+headers+"}]}"),
	} {
		policy := "{apiVersion: policy.pilot-lite.io/v1alpha1, kind: L7Policy, metadata: {name: a}, spec: {ingress: " + rules + "}}"
		t.Logf("%s: %d bytes", name, len(policy))
		if _, errs := server.create(t, decode(t, []byte(policy))); len(errs) > 0 {
			t.Errorf("%s: %.300v", name, errs.ToAggregate())
		}
	}
	var names []string
	for i := range 64 {
		names = append(names, fmt.Sprintf("{name: %s%02d}", strings.Repeat("r", 251), i))
	}
	policy := "{apiVersion: policy.pilot-lite.io/v1alpha1, kind: L7Policy, metadata: {name: a}, spec: {ingress: [" + strings.Join(names, ", ") + "]}}"
	if _, errs := server.create(t, decode(t, []byte(policy))); len(errs) > 0 {
		t.Errorf("rule names: %v", errs.ToAggregate())
	}
}
