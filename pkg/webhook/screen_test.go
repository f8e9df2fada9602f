package webhook

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Every quantity of a pod stands under a key that the screen knows, in the version of Kubernetes' types that this program is built with.
func TestEveryQuantityIsScreened(t *testing.T) {
	t.Parallel()
	found := 0
	var walk func(at reflect.Type, path []string)
	walk = func(at reflect.Type, path []string) {
		if at == reflect.TypeFor[resource.Quantity]() {
			found++
			if !slices.ContainsFunc(path, func(key string) bool { return slices.Contains(quantityKeys(), key) }) {
				t.Errorf("a quantity stands at %s", strings.Join(path, "."))
			}
			return
		}
		switch at.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
			walk(at.Elem(), path)
		case reflect.Struct:
			for f := range at.Fields() {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.IsExported() {
					walk(f.Type, append(slices.Clip(path), name))
				}
			}
		}
	}
	walk(reflect.TypeFor[corev1.Pod](), nil)
	if found < 8 {
		t.Errorf("%d quantities were found: the search is broken", found)
	}
}

func TestScreen(t *testing.T) {
	t.Parallel()
	const huge = `"1234567890123456789012e1000000"`
	container := func(fields string) string { return `{"spec":{"containers":[{"name":"web",` + fields + `}]}}` }
	for name, test := range map[string]struct {
		object string
		says   string
	}{
		"a pod":                            {container(`"resources":{"limits":{"cpu":"1","memory":"512Mi","x/y":"1e3"}},"env":[{"name":"A","value":"1"}]`), ""},
		"a limit":                          {container(`"resources":{"limits":{"cpu":` + huge + `}}`), "out of all proportion"},
		"a limit, as a number":             {container(`"resources":{"limits":{"cpu":` + strings.Trim(huge, `"`) + `}}`), "out of all proportion"},
		"a limit that comes twice":         {container(`"resources":{"limits":{"cpu":` + huge + `}},"resources":{}`), "out of all proportion"},
		"a key that comes twice":           {container(`"resources":{"limits":{"cpu":` + huge + `,"cpu":"1"}}`), "out of all proportion"},
		"a request, after others":          {container(`"resources":{"limits":{"cpu":"1"},"requests":{"a":"1","cpu":` + huge + `}}`), "out of all proportion"},
		"a limit with a capital exponent":  {container(`"resources":{"limits":{"cpu":"1E+12345"}}`), "out of all proportion"},
		"a limit with a negative exponent": {container(`"resources":{"limits":{"cpu":"1e-12345"}}`), "out of all proportion"},
		"a limit of many digits":           {container(`"resources":{"limits":{"cpu":"` + strings.Repeat("9", 65) + `"}}`), "out of all proportion"},
		"the size of a volume":             {`{"spec":{"volumes":[{"emptyDir":{"medium":"Memory","sizeLimit":` + huge + `}}]}}`, "out of all proportion"},
		"a volume to be claimed":           {`{"spec":{"volumes":[{"ephemeral":{"volumeClaimTemplate":{"spec":{"resources":{"requests":{"storage":` + huge + `}}}}}}]}}`, "out of all proportion"},
		"a divisor":                        {container(`"env":[{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":` + huge + `}}}]`), "out of all proportion"},
		"an overhead":                      {`{"spec":{"overhead":{"cpu":` + huge + `}}}`, "out of all proportion"},
		"a pod's own":                      {`{"spec":{"resources":{"limits":{"cpu":` + huge + `}}}}`, "out of all proportion"},
		"a status":                         {`{"status":{"containerStatuses":[{"allocatedResources":{"cpu":` + huge + `}}]}}`, "out of all proportion"},
		"the same where it is text":        {container(`"args":[` + huge + `],"env":[{"name":"limits","value":` + huge + `}],"resources":{}`), ""},
		"a value after a quantity":         {container(`"resources":{"limits":{"cpu":"1"}},"image":` + huge), ""},
		"many containers":                  {`{"spec":{"containers":[` + strings.Repeat("{},", 50) + `{}]}}`, "more than 99 values"},
		"many lists":                       {`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "more than 99 values"},
		"no object":                        {`nonsense`, "read the object"},
		"nothing":                          {``, ""},
		"more than one":                    {`{} {"limits":` + huge + `}`, "out of all proportion"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := screen([]byte(test.object), 99)
			if test.says == "" && err != nil || test.says != "" && !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
}
