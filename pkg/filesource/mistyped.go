package filesource

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// wrongType tells of a value that is not of its field's type, as those who write YAML name types, with its index and line. The decoder's own words are left for what is
// found in no other way.
func (d *decoder) wrongType(into any, err error) {
	if m := mistyped(d.document.node, reflect.TypeOf(into), ""); m != nil {
		d.bad(m.field, "it is "+m.is, m.remedy, "wrong-type")
		return
	}
	d.bad("", err.Error(), "correct the value", "wrong-type")
}

// mistake is a value of a wrong type.
type mistake struct{ field, is, remedy string }

// mistyped finds the first value that does not fit into a type. A document has no loops, and is small once its aliases are written out: toJSON has seen to both.
func mistyped(node *yaml.Node, t reflect.Type, field string) *mistake {
	node = resolved(node)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	remedy := ""
	switch {
	case node.ShortTag() == "!!null": // as if it were not written
	case t == reflect.TypeFor[intstr.IntOrString]():
		if node.ShortTag() != "!!int" && node.ShortTag() != "!!str" {
			remedy = "write a number or a name"
		}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()): // it knows better
	case t.Kind() == reflect.Struct:
		if node.Kind == yaml.MappingNode {
			return mistypedField(node, t, field)
		}
		remedy = "write an object" + someOf(t)
	case t.Kind() == reflect.Map:
		if node.Kind == yaml.MappingNode {
			return mistypedValue(node, t.Elem(), field)
		}
		remedy = "write an object"
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8: // bytes are text
		if node.Kind == yaml.SequenceNode {
			return mistypedItem(node, t.Elem(), field)
		}
		remedy = "write a list"
	default:
		remedy = scalarRemedy(node, t)
	}
	if remedy == "" {
		return nil
	}
	return &mistake{field, described(node), remedy}
}

func mistypedField(node *yaml.Node, t reflect.Type, field string) *mistake {
	for f := range fields(t) {
		if value := child(node, f.key); value != nil {
			if m := mistyped(value, f.is, strings.TrimPrefix(field+"."+f.key, ".")); m != nil {
				return m
			}
		}
	}
	return nil
}

func mistypedValue(node *yaml.Node, t reflect.Type, field string) *mistake {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if m := mistyped(node.Content[i+1], t, field+"."+node.Content[i].Value); m != nil {
			return m
		}
	}
	return nil
}

func mistypedItem(node *yaml.Node, t reflect.Type, field string) *mistake {
	for i, item := range node.Content {
		if m := mistyped(item, t, fmt.Sprintf("%s[%d]", field, i)); m != nil {
			return m
		}
	}
	return nil
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

// scalarRemedy says what to write in place of a value that is not of a type without parts; "" where it is.
func scalarRemedy(node *yaml.Node, t reflect.Type) string {
	tag, kind := node.ShortTag(), t.Kind()
	switch {
	case kind == reflect.String, kind == reflect.Slice:
		switch {
		case tag == "!!int" || tag == "!!float" || tag == "!!bool":
			return "put it in quotes"
		case node.Kind != yaml.ScalarNode:
			return "write text"
		}
	case kind == reflect.Bool:
		if tag != "!!bool" {
			return "write true or false"
		}
	case kind >= reflect.Int && kind <= reflect.Uint64:
		if tag != "!!int" {
			return "write a whole number"
		}
		if _, err := strconv.ParseInt(node.Value, 0, t.Bits()); err != nil {
			return "write a smaller number"
		}
	case kind == reflect.Float32, kind == reflect.Float64:
		if tag != "!!int" && tag != "!!float" {
			return "write a number"
		}
	}
	return ""
}

// described is what a value is, in words.
func described(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	}
	switch node.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return node.Value
	}
	return "text"
}
