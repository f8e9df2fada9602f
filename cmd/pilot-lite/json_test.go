package main

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/diff"
)

// The reference has every field of what -o json prints, in the row of its object, and no other. Objects of one or two fields stand where they are used.
func TestJSONIsDocumented(t *testing.T) {
	t.Parallel()
	objects := map[string][]any{
		"a call": {jsonCall{}}, "a party": {jsonParty{}}, "a request": {jsonRequest{}, jsonHeader{}}, "a step": {jsonStep{}, jsonDryRun{}}, "a nearest rule": {jsonMiss{}},
		"a sidecar's answer": {jsonSidecar{}}, "a row": {jsonRow{}}, "a checked proxy": {proxyReport{}, proxyPolicy{}}, "a resource": {jsonResource{}, jsonPolicy{}},
		"a proxy": {jsonProxy{}}, "a policy": {policyCount{}}, "`diff`": {diff.Report{}}, "a flip": {diff.Flip{}, diff.PortRange{}, diff.Verdict{}}, "callers, callees": {diff.Parties{}},
		"pods": {diff.Pods{}}, "a finding": {jsonFinding{}}, "`translate`": {printable{}, printableWorkload{}},
	}
	documented := map[string][]string{}
	for line := range strings.Lines(section(t, "../../docs/reference.md", "Output as JSON")) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, word := range regexp.MustCompile("`([a-zA-Z0-9]+)`").FindAllStringSubmatch(cells[2], -1) {
				documented[strings.TrimSpace(cells[1])] = append(documented[strings.TrimSpace(cells[1])], word[1])
			}
		}
	}
	for object, types := range objects {
		fields := map[string]bool{}
		for _, v := range types {
			fieldsOf(reflect.TypeOf(v), fields)
		}
		names := map[string]bool{}
		for _, name := range documented[object] {
			names[name] = true
		}
		if diff := cmp.Diff(fields, names); diff != "" {
			t.Errorf("%s (-printed +documented):\n%s", object, diff)
		}
	}
	known := []any{proxyResource{}, diff.Request{}, diff.Header{}, diff.Members{}} // as a resource, a request and callers
	for _, list := range objects {
		known = append(known, list...)
	}
	for _, v := range known {
		nested(t, reflect.TypeOf(v), known)
	}
}

// fieldsOf adds the names that a type's fields have in JSON, those of embedded types among them.
func fieldsOf(of reflect.Type, out map[string]bool) {
	for _, f := range reflect.VisibleFields(of) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			out[name] = true
		}
	}
}

// nested wants every type of ours that stands in a documented one to be documented, too.
func nested(t *testing.T, of reflect.Type, known []any) {
	t.Helper()
	for _, f := range reflect.VisibleFields(of) {
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct && strings.Contains(inner.PkgPath(), "pilot-lite") && !slices.ContainsFunc(known, func(v any) bool { return reflect.TypeOf(v) == inner }) {
			t.Errorf("%s.%s is a %s, which no row of the reference tells of", of, f.Name, inner)
		}
	}
}
