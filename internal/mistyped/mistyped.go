// Package mistyped says which values do not fit into a Go type, in the words of those who write YAML: a decoder's own are Go's. Input: JSON, and the type that it is read into.
// Output: every such value, with its field and what to write instead. Entry points: In; and Stray, for fields that a type does not have.
package mistyped

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	kjson "sigs.k8s.io/json"
)

// Value is a value of a wrong type.
type Value struct {
	Field  string // where it stands, such as spec.ingress[0].http
	Is     string // what it is, such as "a number"
	Remedy string
}

// In finds the values that do not fit into a type; none in what is no JSON.
func In(text []byte, t reflect.Type) []Value {
	var document any
	if kjson.UnmarshalCaseSensitivePreserveInts(text, &document) != nil {
		return nil
	}
	var f finder
	f.look(document, t, "")
	return f
}

// Stray is the field that one of kjson.UnmarshalStrict's errors is about: one that is written twice, else one that the type does not have.
func Stray(err error) (field string, twice bool) {
	if at, ok := errors.AsType[kjson.FieldError](err); ok {
		return at.FieldPath(), strings.HasPrefix(at.Error(), "duplicate field ") // no type tells them apart
	}
	return "", false
}

// finder holds what was found.
type finder []Value

func (f *finder) look(value any, t reflect.Type, field string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	object, isObject := value.(map[string]any)
	list, isList := value.([]any)
	remedy := ""
	switch {
	case value == nil: // as if it were not written
	case t == reflect.TypeFor[intstr.IntOrString]():
		if _, isText := value.(string); !isText && wholeNumber(value, reflect.TypeFor[int32]()) != "" {
			remedy = "write a port's number or name"
		}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()): // it knows better
		if written, err := json.Marshal(value); err == nil && json.Unmarshal(written, reflect.New(t).Interface()) != nil {
			*f = append(*f, Value{field, string(written), form(t)})
		}
	case t.Kind() == reflect.Struct && isObject:
		for known := range fields(t) {
			f.look(object[known.key], known.is, strings.TrimPrefix(field+"."+known.key, "."))
		}
	case t.Kind() == reflect.Struct:
		remedy = "write an object" + someOf(t)
	case t.Kind() == reflect.Map && isObject:
		for _, key := range slices.Sorted(maps.Keys(object)) {
			f.look(object[key], t.Elem(), field+"."+key)
		}
	case t.Kind() == reflect.Map:
		remedy = "write an object"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		remedy = text(value) // bytes are text
	case t.Kind() == reflect.Slice && isList:
		for i, item := range list {
			f.look(item, t.Elem(), fmt.Sprintf("%s[%d]", field, i))
		}
	case t.Kind() == reflect.Slice:
		remedy = "write a list"
	default:
		remedy = scalar(value, t)
	}
	if remedy != "" {
		*f = append(*f, Value{field, described(value), remedy})
	}
}

// form is how to write a value of a type that has a decoder of its own.
func form(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
		return "write a time, such as 2006-01-02T15:04:05Z"
	case reflect.TypeFor[resource.Quantity]():
		return "write a quantity, such as 100m or 128Mi"
	case reflect.TypeFor[metav1.Duration]():
		return "write a duration, such as 10s"
	}
	return "correct the value"
}

// typed is a key of an object, and the type of its value.
type typed struct {
	key string
	is  reflect.Type
}

// fields are the keys that a struct is read from.
func fields(t reflect.Type) iter.Seq[typed] {
	return func(yield func(typed) bool) {
		for f := range t.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch {
			case key == "" && f.Anonymous:
				for inner := range fields(f.Type) {
					if !yield(inner) {
						return
					}
				}
			case key != "" && key != "-":
				if !yield(typed{key, f.Type}) {
					return
				}
			}
		}
	}
}

// someOf names the keys of an object that has few.
func someOf(t reflect.Type) string {
	const few = 9
	var keys []string
	for f := range fields(t) {
		keys = append(keys, f.key)
	}
	switch {
	case len(keys) == 0 || len(keys) > few:
		return ""
	case len(keys) == 1:
		return " with " + keys[0]
	}
	return " with some of " + strings.Join(keys, ", ")
}

// scalar says what to write in place of a value that is not of a type without parts; "" where it is.
func scalar(value any, t reflect.Type) string {
	switch kind := t.Kind(); {
	case kind == reflect.String:
		return text(value)
	case kind == reflect.Bool:
		if _, ok := value.(bool); !ok {
			return "write true or false"
		}
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return wholeNumber(value, t)
	case kind == reflect.Float32, kind == reflect.Float64:
		if described(value) != number {
			return "write a number"
		}
	}
	return ""
}

func text(value any) string {
	switch value.(type) {
	case string:
		return ""
	case map[string]any, []any:
		return "write text"
	}
	return "put it in quotes"
}

func wholeNumber(value any, t reflect.Type) string {
	n, ok := value.(int64)
	switch {
	case !ok:
		return "write a whole number"
	case t.Kind() >= reflect.Uint && (n < 0 || t.OverflowUint(uint64(n))):
		return "write a number that is not below 0, nor too large"
	case t.Kind() < reflect.Uint && t.OverflowInt(n):
		return "write a smaller number"
	}
	return ""
}

const number = "a number"

// described is what a value is, in words.
func described(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case bool:
		return strconv.FormatBool(v)
	case string:
		return "text"
	}
	return number
}
