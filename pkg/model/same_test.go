package model

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// No field is forgotten where it is asked whether something changed: a field that is new to the model is compared, or nothing that follows from it would be built again.
func TestEveryFieldTellsThingsApart(t *testing.T) {
	t.Parallel()
	eachField(t, func(a, b *Pod) bool { return SamePod(a, b) })
	eachField(t, func(a, b *ProxySettings) bool { return sameSettings(a, b) })
	eachField(t, func(a, b *Service) bool { return sameService(a, b) })
	eachField(t, func(a, b *Policy) bool { return SamePolicy(a, b) })
}

// eachField fills in one field after another of one of two zero values.
func eachField[T any](t *testing.T, same func(a, b *T) bool) {
	t.Helper()
	var zero T
	if again := zero; !same(&zero, &again) {
		t.Errorf("two %T without anything are not the same", zero)
	}
	for i := range reflect.TypeFor[T]().NumField() {
		var other T
		field := reflect.ValueOf(&other).Elem().Field(i)
		field.Set(something(t, field.Type()))
		again := other
		if same(&zero, &other) || !same(&other, &again) {
			t.Errorf("%T: field %s does not tell apart", zero, reflect.TypeFor[T]().Field(i).Name)
		}
	}
}

// something is a value of a type that is not its zero value.
func something(t *testing.T, of reflect.Type) reflect.Value {
	t.Helper()
	for _, known := range []any{time.Unix(1, 0), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort("10.0.0.1:1"), PolicyRef{Generation: 1}} {
		if reflect.TypeOf(known) == of {
			return reflect.ValueOf(known)
		}
	}
	out := reflect.New(of).Elem()
	switch of.Kind() {
	case reflect.String:
		out.SetString("x")
	case reflect.Bool:
		out.SetBool(true)
	case reflect.Int64:
		out.SetInt(1)
	case reflect.Slice:
		out.Set(reflect.MakeSlice(of, 1, 1))
	case reflect.Map:
		out.Set(reflect.ValueOf(map[string]string{"x": "y"}))
	case reflect.Struct:
		out.Field(0).Set(something(t, of.Field(0).Type))
	case reflect.Interface:
		out.Set(reflect.ValueOf(labels.SelectorFromSet(labels.Set{"x": "y"})))
	default:
		t.Fatalf("nothing is known of type %s", of)
	}
	return out
}

// An Indexer keeps what did not change, and only that; and what many changes concern is found whole, and not one by one.
func TestWhatDoesNotChangeStaysTheSame(t *testing.T) {
	t.Parallel()
	const workloads = 2 * FewMoved
	s := &Snapshot{Namespaces: []Namespace{{Name: "a", Labels: map[string]string{"team": "x"}}, {Name: "b"}}}
	for i := range workloads {
		for _, namespace := range []string{"a", "b"} {
			s.Pods = append(s.Pods, &Pod{
				Namespace: namespace, Name: fmt.Sprint("pod-", i), Owner: fmt.Sprint("app-", i), Labels: map[string]string{"app": fmt.Sprint(i)},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, namespace[0], 0, byte(i)})},
			})
		}
	}
	for _, namespace := range []string{"a", "b"} {
		s.Policies = append(s.Policies, &Policy{PolicyRef: PolicyRef{Namespace: namespace, Name: "all"}, Selector: labels.Everything()},
			&Policy{PolicyRef: PolicyRef{Namespace: namespace, Name: "one"}, Selector: labels.SelectorFromSet(labels.Set{"app": "7"})})
	}
	var x Indexer
	var selections Selections
	before := x.Index(s)
	was := selections.Of(before)

	scaled := *s
	scaled.Pods = append([]*Pod(nil), s.Pods...)
	p := *s.Pods[0]
	p.Name, p.Addresses = "pod-more", []netip.Addr{netip.MustParseAddr("10.1.1.1")}
	scaled.Pods = append(scaled.Pods, &p)
	after := x.Index(&scaled)
	gone, come := after.Since(before.Grouping)
	if len(gone) != 1 || len(come) != 1 || gone[0].Name != "app-0" || come[0].Name != "app-0" || len(come[0].Pods) != 2 || come[0].Key != gone[0].Key {
		t.Fatalf("one pod more moved %v and %v", gone, come)
	}
	for i, w := range after.Workloads {
		if old := before.Workloads[i]; (old == w) != (old != gone[0].Workload) {
			t.Errorf("workload %s: the same: %v", w.Key, old == w)
		}
	}
	for i, is := range selections.Of(after) {
		if touched := is.Namespace == "a" && is.Name == "all"; (is == was[i]) == touched || is.Policy != was[i].Policy {
			t.Errorf("policy %s/%s: the same selection: %v", is.Namespace, is.Name, is == was[i])
		}
	}

	was = selections.Of(after)
	relabelled := scaled
	relabelled.Namespaces = []Namespace{{Name: "a", Labels: map[string]string{"team": "y"}}, {Name: "b"}}
	last := x.Index(&relabelled)
	if gone, come := last.Since(after.Grouping); len(gone) != workloads || len(come) != workloads || gone[0].NamespaceLabels["team"] != "x" || come[0].NamespaceLabels["team"] != "y" {
		t.Errorf("another label of a namespace moved %d and %d workloads", len(gone), len(come))
	}
	for i, is := range selections.Of(last) {
		if is != was[i] {
			t.Errorf("policy %s/%s selects the same, and is another selection", is.Namespace, is.Name)
		}
	}
}
