package webhook

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// operation is one of RFC 6902.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// patch is what turns one object into another. Only what differs is named, so that fields which this program does not know stay as they are: both sides lack them.
func patch(from, to any) ([]operation, error) {
	a, err := plain(from)
	if err != nil {
		return nil, err
	}
	b, err := plain(to)
	if err != nil {
		return nil, err
	}
	return difference(nil, "", a, b), nil
}

// plain is an object as JSON has it.
func plain(v any) (any, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the patch: %w", err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("write the patch: %w", err)
	}
	return out, nil
}

func difference(out []operation, path string, a, b any) []operation {
	if reflect.DeepEqual(a, b) {
		return out
	}
	if x, ok := a.(map[string]any); ok {
		if y, ok := b.(map[string]any); ok {
			return members(out, path, x, y)
		}
	}
	if x, ok := a.([]any); ok {
		if y, ok := b.([]any); ok {
			return elements(out, path, x, y)
		}
	}
	return append(out, operation{"replace", path, b})
}

func members(out []operation, path string, a, b map[string]any) []operation {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		if _, both := a[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		at := path + "/" + escape(name)
		before, had := a[name]
		after, has := b[name]
		switch {
		case !has:
			out = append(out, operation{Op: "remove", Path: at})
		case !had:
			out = append(out, operation{"add", at, after})
		default:
			out = difference(out, at, before, after)
		}
	}
	return out
}

// elements compares lists whose elements have names by them: containers and volumes are put in front or at the end, and the others keep their places. Any other list that
// changed its length is replaced.
func elements(out []operation, path string, a, b []any) []operation {
	ahead := len(b) - len(a)
	switch {
	case ahead >= 0 && sameNames(a, b[ahead:]):
		for i := range ahead {
			out = append(out, operation{"add", path + "/" + strconv.Itoa(i), b[i]})
		}
		return each(out, path, ahead, a, b[ahead:])
	case ahead > 0 && sameNames(a, b[:len(a)]):
		out = each(out, path, 0, a, b)
		for _, added := range b[len(a):] {
			out = append(out, operation{"add", path + "/-", added})
		}
		return out
	}
	return append(out, operation{"replace", path, b})
}

func each(out []operation, path string, offset int, a, b []any) []operation {
	for i := range a {
		out = difference(out, path+"/"+strconv.Itoa(offset+i), a[i], b[i])
	}
	return out
}

func sameNames(a, b []any) bool {
	return slices.EqualFunc(a, b, func(x, y any) bool { return nameOf(x) != "" && nameOf(x) == nameOf(y) })
}

func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// escape writes a name as a part of a JSON pointer (RFC 6901).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
