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
	From  string `json:"from,omitempty"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Patch is what turns a pod into another, as RFC 6902 has it; nil where nothing changes. The first pod is given twice: as it was written, and as it was read. Only
// what differs is named, so that fields which this program does not know stay as they are. Containers and volumes of an earlier injection are none of the author's, and
// leave nothing behind: they are written anew as a whole, unless they are exactly what they should be.
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

// takeOut removes from a list of the spec what is ours and not as it should be.
func (p *patcher) takeOut(list string, raw, a, b map[string]any) {
	ours := func(tree map[string]any) []any {
		return slices.DeleteFunc(slices.Clone(listOf(tree, list)), func(v any) bool { return !isOurs(nameOf(v)) })
	}
	if len(ours(raw)) == 0 || reflect.DeepEqual(ours(raw), ours(b)) {
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
		if y, ok := b.([]any); ok && named(x) && named(y) {
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

// elements compares lists whose elements have names by them: one that changed its place is moved, not written anew, so that it keeps what this program does not know.
func (p *patcher) elements(path string, a, b []any) {
	at := func(i int) string { return path + "/" + strconv.Itoa(i) }
	now := slices.Clone(a)
	for i, v := range slices.Backward(now) {
		if indexOf(b, nameOf(v)) < 0 {
			p.add(operation{Op: "remove", Path: at(i)})
			now = slices.Delete(now, i, i+1)
		}
	}
	for i, want := range b {
		switch from := indexOf(now, nameOf(want)); {
		case from < 0:
			p.add(operation{Op: "add", Path: at(i), Value: want})
			now = slices.Insert(now, i, want)
		case from != i:
			p.add(operation{Op: "move", From: at(from), Path: at(i)})
			moved := now[from]
			now = slices.Insert(slices.Delete(now, from, from+1), i, moved)
		}
		p.difference(at(i), now[i], want)
	}
}

// named says whether each element has a name of its own.
func named(list []any) bool {
	seen := map[string]bool{}
	for _, v := range list {
		name := nameOf(v)
		if name == "" || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

func indexOf(list []any, name string) int {
	return slices.IndexFunc(list, func(v any) bool { return nameOf(v) == name })
}

func nameOf(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// escape writes a name as a part of a JSON pointer (RFC 6901).
func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }
