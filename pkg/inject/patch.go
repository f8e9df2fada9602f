package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// operation is one of RFC 6902.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Patch is what turns a pod into another, as RFC 6902 has it; nil where nothing changes. The first pod is given twice: as it was written, and as it was read. Only
// what differs is named, so that fields which this program does not know stay as they are. Containers and volumes of an earlier injection are none of the author's, and
// leave nothing behind: they are written anew as a whole, unless they are exactly what they should be, and where.
func Patch(written []byte, from, to *corev1.Pod) ([]byte, error) {
	raw, err := decodeTree(written)
	if err != nil {
		return nil, err
	}
	a, err := treeOf(from)
	if err != nil {
		return nil, err
	}
	b, err := treeOf(to)
	if err != nil {
		return nil, err
	}
	// Both are there in whatever this program writes.
	for _, part := range []string{"metadata", "spec"} {
		if _, isThere := raw[part].(map[string]any); !isThere {
			delete(a, part)
		}
	}
	p := &patcher{}
	for _, list := range []string{"initContainers", "volumes"} {
		p.takeOut(list, raw, a, b)
	}
	p.members("", a, b)
	if len(p.operations) == 0 {
		return nil, nil
	}
	return marshal(p.operations)
}

func treeOf(p *corev1.Pod) (map[string]any, error) {
	text, err := marshal(p)
	if err != nil {
		return nil, err
	}
	return decodeTree(text)
}

func marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return text, nil
}

// decodeTree reads an object as JSON has it. Numbers stay as they are written: a float does not hold every one.
func decodeTree(text []byte) (map[string]any, error) {
	var out map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&out); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return out, nil
}

type patcher struct{ operations []operation }

// takeOut removes from a list of the spec what is ours, unless it is as it should be.
func (p *patcher) takeOut(list string, raw, a, b map[string]any) {
	ours := func(tree map[string]any) map[int]any {
		out := map[int]any{}
		for i, v := range listOf(tree, list) {
			if isOurs(nameOf(v)) {
				out[i] = v
			}
		}
		return out
	}
	if written := ours(raw); len(written) == 0 || reflect.DeepEqual(written, ours(b)) {
		return
	}
	kept := listOf(a, list)
	for i, v := range slices.Backward(kept) {
		if isOurs(nameOf(v)) {
			p.add(operation{Op: "remove", Path: "/spec/" + list + "/" + strconv.Itoa(i)})
			kept = slices.Delete(kept, i, i+1)
		}
	}
	if spec, isThere := a["spec"].(map[string]any); isThere {
		spec[list] = kept
	}
}

func listOf(tree map[string]any, name string) []any {
	spec, _ := tree["spec"].(map[string]any)
	list, _ := spec[name].([]any)
	return list
}

func (p *patcher) add(o operation) { p.operations = append(p.operations, o) }

func (p *patcher) difference(path string, a, b any) {
	if reflect.DeepEqual(a, b) {
		return
	}
	if x, ok := a.(map[string]any); ok {
		if y, ok := b.(map[string]any); ok {
			p.members(path, x, y)
			return
		}
	}
	if x, ok := a.([]any); ok {
		if y, ok := b.([]any); ok && grows(x, y) {
			p.elements(path, x, y)
			return
		}
	}
	p.add(operation{Op: "replace", Path: path, Value: b})
}

func (p *patcher) members(path string, a, b map[string]any) {
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
			p.add(operation{Op: "remove", Path: at})
		case !had:
			p.add(operation{Op: "add", Path: at, Value: after})
		default:
			p.difference(at, before, after)
		}
	}
}

// grows says whether a list of elements with names has become another by additions only.
func grows(a, b []any) bool {
	for _, v := range b {
		if len(a) > 0 && nameOf(a[0]) != "" && nameOf(a[0]) == nameOf(v) {
			a = a[1:]
		}
	}
	return len(a) == 0
}

// elements compares lists by the names of their elements, each of the first with its like in the second.
func (p *patcher) elements(path string, a, b []any) {
	for i, want := range b {
		at := path + "/" + strconv.Itoa(i)
		if len(a) > 0 && nameOf(a[0]) == nameOf(want) {
			p.difference(at, a[0], want)
			a = a[1:]
			continue
		}
		p.add(operation{Op: "add", Path: at, Value: want})
	}
}

func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// escape writes a name as a part of a JSON pointer (RFC 6901).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
