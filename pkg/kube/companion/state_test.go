package companion

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// What changed is told once: of another view what differs from the last, of the same one what went bad or well again, and of a policy that is gone that nothing is known.
func TestStatesAreToldAsTheyChange(t *testing.T) {
	t.Parallel()
	c := New(Config{})
	view := func(generations ...int64) []*model.Policy {
		var out []*model.Policy
		for i, g := range generations {
			out = append(out, &model.Policy{PolicyRef: model.PolicyRef{UID: string(rune('a' + i)), Generation: g}})
		}
		return out
	}
	first, second := view(1, 1), view(1, 2)
	pending := map[string]State{"b": {Phase: Pending, Object: "x"}, "unknown": {Phase: Failed}}
	for _, step := range []struct {
		what  string
		view  []*model.Policy
		worse map[string]State
		want  map[string]State
	}{
		{"a view", first, nil, map[string]State{"a": {Phase: Stands, Generation: 1}, "b": {Phase: Stands, Generation: 1}}},
		{"the same", first, nil, nil},
		{"one is pending", first, pending, map[string]State{"b": {Phase: Pending, Generation: 1, Object: "x"}}},
		{"it still is", first, pending, nil},
		{"in another generation", second, pending, map[string]State{"b": {Phase: Pending, Generation: 2, Object: "x"}}},
		{"it stands", second, nil, map[string]State{"b": {Phase: Stands, Generation: 2}}},
		{"it is gone", view(1), pending, map[string]State{"b": {}}},
		{"nothing is known", nil, nil, map[string]State{"a": {}}},
	} {
		c.publish(step.view, step.worse)
		if told := len(c.changed) > 0; told != (step.want != nil) {
			t.Errorf("%s: told %t", step.what, told)
		}
		select {
		case <-c.changed:
		default:
		}
		if diff := cmp.Diff(step.want, c.Take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
}
