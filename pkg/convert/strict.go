package convert

import (
	"errors"
	"reflect"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/mistyped"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Strict reads one of our own kinds: an unknown field is an error, since what it was meant to close would stay open. All that is wrong is found, and whether what is
// right could be read, so that it can be checked all the same. The findings name no object.
func Strict(body []byte, into any) (found []model.Diagnostic, read bool) {
	unread, err := kjson.UnmarshalStrict(body, into)
	if err != nil {
		return WrongTypes(body, into, err), false
	}
	for _, e := range unread {
		field, twice := mistyped.Stray(e)
		d := model.Diagnostic{Code: "unknown-field", Severity: model.SeverityError, Field: field, Consequence: "unknown field", Remedy: "correct its spelling or its place, or remove it"}
		if twice {
			d.Consequence, d.Remedy = "the field is written twice", "remove one of the two"
		}
		found = append(found, d)
	}
	return found, true
}

// WrongTypes are the values that are not of their fields' types. The decoder's own words are left for what is found in no other way.
func WrongTypes(body []byte, into any, err error) []model.Diagnostic {
	var found []model.Diagnostic
	add := func(field, why, remedy string) {
		found = append(found, model.Diagnostic{Code: "wrong-type", Severity: model.SeverityError, Field: field, Consequence: why, Remedy: remedy})
	}
	for _, v := range mistyped.In(body, reflect.TypeOf(into)) {
		add(v.Field, "it is "+v.Is, v.Remedy)
	}
	if len(found) == 0 {
		add("", err.Error(), "correct the value")
	}
	return found
}

// MeshJSON is the text of a ConfigMap with settings as JSON. The error is the YAML library's, without what it puts around it.
func MeshJSON(written string) ([]byte, error) {
	body, err := yaml.YAMLToJSONStrict([]byte(written))
	if err == nil {
		return body, nil
	}
	why := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n  ")
	return nil, errors.New(MeshConfigKey + " is not YAML: " + strings.ReplaceAll(why, "\n  ", "; "))
}
