package inject_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

// fromTheFuture is a pod of a newer Kubernetes: it has fields that this program does not know, and a number that no float holds.
const fromTheFuture = `{"metadata":{"name":"web","new":1},"spec":{"new":{"a":1},
	"initContainers":[{"name":"first","image":"x","new":1},{"name":"second","image":"x","new":2}],
	"containers":[{"name":"web","image":"web:1","new":3,"securityContext":{"runAsUser":9007199254740993},"readinessProbe":{"httpGet":{"path":"/","port":8080},"new":4}}],
	"volumes":[{"name":"data","new":{}}]}}`

// readAndInject is what the webhook does with a pod.
func readAndInject(t *testing.T, raw string) string {
	t.Helper()
	var p corev1.Pod
	if err := json.Unmarshal([]byte(raw), &p); err != nil {
		t.Fatal(err)
	}
	result, found := inject.Pod(&p, injecttest.Namespace, injecttest.Config())
	if len(found) > 0 {
		t.Fatal(found)
	}
	return patched(t, []byte(raw), &p, result.Pod)
}

func TestPatchKeepsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	once := readAndInject(t, fromTheFuture)
	wantAll(t, once, `"new":1`, `"new":2`, `"new":3`, `"new":4`, `"new":{"a":1}`, `"new":{}`, `9007199254740992`) // the test's own reading rounds it
	if twice := readAndInject(t, once); twice != once {
		t.Errorf("injecting twice is not injecting once:\n%s", cmp.Diff(once, twice))
	}
	// Another webhook puts a container in front, with a field of its own, and one behind: the sidecar comes first again, and nothing is lost.
	before := strings.Replace(once, `"initContainers":[`, `"initContainers":[{"name":"early","image":"y","new":5},`, 1)
	before = strings.Replace(before, `"containers":[`, `"containers":[{"name":"late","image":"z","new":6},`, 1)
	again := readAndInject(t, before)
	wantAll(t, again, `"new":1`, `"new":2`, `"new":3`, `"new":4`, `"new":5`, `"new":6`)
	var p corev1.Pod
	if err := json.Unmarshal([]byte(again), &p); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pilot-lite-capture", "pilot-lite-proxy", "early", "first", "second"}, names(p.Spec.InitContainers)); diff != "" {
		t.Errorf("init containers (-want +got):\n%s", diff)
	}
}

// What an earlier injection left, or what somebody put in by hand, is none of the author's: no field of it stays that this program does not know.
func TestPatchLeavesNothingInTheSidecar(t *testing.T) {
	t.Parallel()
	once := readAndInject(t, fromTheFuture)
	for name, change := range map[string][2]string{
		"a field of a newer Kubernetes": {`"name":"pilot-lite-proxy"`, `"name":"pilot-lite-proxy","new":"right"`},
		"one of its security context":   {`"runAsGroup":1337`, `"runAsGroup":1337,"new":"right"`},
		"one of a volume":               {`"name":"pilot-lite-run"`, `"name":"pilot-lite-run","new":"right"`},
		"another image":                 {injecttest.SidecarImage, "right"},
		"a known field":                 {`"name":"pilot-lite-capture"`, `"name":"pilot-lite-capture","workingDir":"right"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(once, change[0], change[1], 1)
			if !strings.Contains(changed, "right") {
				t.Fatal("nothing was changed")
			}
			if diff := cmp.Diff(once, readAndInject(t, changed)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A number is never rewritten: what the patch does not name stays as it is.
func TestPatchNamesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	var p corev1.Pod
	if err := json.Unmarshal([]byte(fromTheFuture), &p); err != nil {
		t.Fatal(err)
	}
	result, found := inject.Pod(&p, injecttest.Namespace, injecttest.Config())
	if len(found) > 0 {
		t.Fatal(found)
	}
	patch, err := inject.Patch([]byte(fromTheFuture), &p, result.Pod)
	if err != nil {
		t.Fatal(err)
	}
	var operations []struct{ Op, Path string }
	if err := json.Unmarshal(patch, &operations); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range operations {
		got = append(got, o.Op+" "+o.Path)
	}
	want := []string{
		"add /metadata/annotations", "add /metadata/labels",
		"add /spec/containers/0/readinessProbe/httpGet/scheme", "replace /spec/containers/0/readinessProbe/httpGet/path", "replace /spec/containers/0/readinessProbe/httpGet/port",
		"add /spec/initContainers/0", "add /spec/initContainers/1", "add /spec/volumes/1", "add /spec/volumes/2",
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("sorted", sorted)); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
}

func wantAll(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s was lost: %s", part, text)
		}
	}
}
