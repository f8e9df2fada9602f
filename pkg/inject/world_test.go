package inject_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	proxyLabel       = "policy.pilot-lite.io/proxy"
	accountLabel     = "policy.pilot-lite.io/service-account"
	injectLabel      = "policy.pilot-lite.io/inject"
	probesAnnotation = "policy.pilot-lite.io/probes"
	excludeAnnotated = "policy.pilot-lite.io/exclude-inbound-ports"
	tokenVolume      = "pilot-lite-token"
	runVolume        = "pilot-lite-run"
)

// failer is a test, or a property that is checked.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func web() *corev1.Pod {
	p := &corev1.Pod{Spec: corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{{Name: "web", Image: "web:1"}}}}
	p.Name, p.Labels = "web", map[string]string{"app": "web"}
	return p
}

// injected wants a pod to get its sidecar, and holds it against what holds for every pod.
func injected(t failer, in *corev1.Pod, c inject.Config) *inject.Result {
	t.Helper()
	before := in.DeepCopy()
	result, found := inject.Pod(in, injecttest.Namespace, c)
	if len(found) > 0 {
		t.Fatalf("refused: %v", found)
	}
	if diff := cmp.Diff(before, in); diff != "" {
		t.Errorf("the pod that was passed changed (-before +after):\n%s", diff)
	}
	invariants(t, in, result.Pod, c)
	return result
}

// invariants are what holds for every injected pod, whatever its author wrote.
func invariants(t failer, in, out *corev1.Pod, c inject.Config) {
	t.Helper()
	sidecar(t, out, c)
	if diff := cmp.Diff(asJSON(t, withoutOurs(t, in)), asJSON(t, withoutOurs(t, out))); diff != "" {
		t.Errorf("what the author wrote was lost (-written +kept):\n%s", diff)
	}
	account := in.Spec.ServiceAccountName
	switch {
	case account == "" && in.Spec.DeprecatedServiceAccount == "":
		account = "default"
	case account == "":
		account = in.Spec.DeprecatedServiceAccount
	}
	if len(account) <= 63 && out.Labels[accountLabel] != account || out.Labels[proxyLabel] != "injected" {
		t.Errorf("the labels are %v, the account is %q", out.Labels, account)
	}
	probes(t, out)
	again, found := inject.Pod(out, injecttest.Namespace, c)
	if len(found) > 0 {
		t.Fatalf("refused when injected again: %v", found)
	}
	if diff := cmp.Diff(asJSON(t, out), asJSON(t, again.Pod)); diff != "" {
		t.Errorf("injecting twice is not injecting once (-once +twice):\n%s", diff)
	}
	if diff := cmp.Diff(asJSON(t, out), patched(t, []byte(asJSON(t, in)), in, out)); diff != "" {
		t.Errorf("the patch does not lead to the pod (-pod +patched):\n%s", diff)
	}
}

// sidecar wants the two containers and volumes, first and as they should be, and nothing else that could get at them.
func sidecar(t failer, out *corev1.Pod, c inject.Config) {
	t.Helper()
	if len(out.Spec.InitContainers) < 2 || out.Spec.InitContainers[0].Name != "pilot-lite-capture" || out.Spec.InitContainers[1].Name != "pilot-lite-proxy" {
		t.Fatalf("the sidecar is not first: %v", names(out.Spec.InitContainers))
	}
	capture, proxy := &out.Spec.InitContainers[0], &out.Spec.InitContainers[1]
	if capture.Image != c.Image || proxy.Image != c.SidecarImage {
		t.Errorf("the images are %q and %q", capture.Image, proxy.Image)
	}
	if capture.RestartPolicy != nil || proxy.RestartPolicy == nil || *proxy.RestartPolicy != corev1.ContainerRestartPolicyAlways || proxy.StartupProbe == nil {
		t.Errorf("capture must end, and the sidecar must stay and hold the application back")
	}
	if capture.Args[0] != "capture" || len(capture.Command)+len(proxy.Command) > 0 {
		t.Errorf("the commands are %v %v and %v", capture.Command, capture.Args, proxy.Command)
	}
	if s := proxy.SecurityContext; *s.RunAsUser != inject.ProxyUser || *s.RunAsGroup != inject.ProxyUser || len(s.Capabilities.Add) > 0 || *s.AllowPrivilegeEscalation {
		t.Errorf("the sidecar runs as %+v", s)
	}
	if s := capture.SecurityContext; len(s.Capabilities.Add) != 1 || s.Capabilities.Add[0] != "NET_ADMIN" || *s.Privileged {
		t.Errorf("capture runs as %+v", s)
	}
	ours := map[string]bool{}
	for _, v := range out.Spec.Volumes {
		if v.Name == tokenVolume && v.Projected != nil || v.Name == runVolume && v.EmptyDir != nil {
			ours[v.Name] = true
		}
	}
	if len(ours) != 2 {
		t.Errorf("the sidecar's volumes are %v", slices.Sorted(maps.Keys(ours)))
	}
	for i := range out.Spec.Containers {
		for _, m := range out.Spec.Containers[i].VolumeMounts {
			if m.Name == tokenVolume || m.Name == runVolume {
				t.Errorf("%s mounts %s", out.Spec.Containers[i].Name, m.Name)
			}
		}
	}
}

// probes wants each of the kubelet's probes of an injected pod to be answered by its sidecar's bootstrap, but for those that do not come over the network.
func probes(t failer, out *corev1.Pod) {
	t.Helper()
	asked := map[string]bool{}
	for _, list := range [][]corev1.Container{out.Spec.InitContainers[2:], out.Spec.Containers} {
		for i := range list {
			for _, p := range []*corev1.Probe{list[i].LivenessProbe, list[i].ReadinessProbe, list[i].StartupProbe} {
				if p != nil && p.HTTPGet != nil && p.HTTPGet.Host == "" && p.HTTPGet.Port.IntVal == int32(bootstrap.HealthPort) {
					asked[p.HTTPGet.Path] = true
				}
			}
		}
	}
	answered := map[string]bool{}
	for _, cluster := range bootstrapOf(t, out).GetStaticResources().GetClusters() {
		if name, isProbe := strings.CutPrefix(cluster.GetName(), "probe/"); isProbe {
			answered[bootstrap.ProbePath(name)] = true
		}
	}
	if diff := cmp.Diff(asked, answered); diff != "" {
		t.Errorf("probes that are asked and answered (-asked +answered):\n%s", diff)
	}
}

// bootstrapOf is what the sidecar of a running pod is given.
func bootstrapOf(t failer, p *corev1.Pod) *bootstrapv3.Bootstrap {
	t.Helper()
	args := p.Spec.InitContainers[1].Args
	if len(args) < 2 || args[0] != "--config-yaml" {
		t.Fatalf("the sidecar's arguments are %q", args)
	}
	b := &bootstrapv3.Bootstrap{}
	text := bootstrap.Expand(args[1], map[string]string{"POD_NAME": "web", "POD_NAMESPACE": "shop", "POD_IP": "10.0.0.7"})
	if err := protojson.Unmarshal([]byte(text), b); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b
}

// withoutOurs undoes an injection, as the documentation describes one.
func withoutOurs(t failer, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	out := p.DeepCopy()
	if out.Labels[proxyLabel] == "injected" && len(out.Spec.InitContainers) > 1 {
		written := map[string]corev1.ProbeHandler{}
		if err := json.Unmarshal([]byte(out.Annotations[probesAnnotation]), &written); err != nil {
			written = nil // nobody knows what the probes were
		}
		for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
			for i := range list {
				for kind, probe := range map[string]*corev1.Probe{"liveness": list[i].LivenessProbe, "readiness": list[i].ReadinessProbe, "startup": list[i].StartupProbe} {
					name := list[i].Name + "/" + kind
					if h, known := written[name]; known && probe != nil && probe.HTTPGet != nil && probe.HTTPGet.Path == bootstrap.ProbePath(name) {
						probe.ProbeHandler = h
					}
				}
			}
		}
		isOurs := func(name string) bool { return strings.HasPrefix(name, "pilot-lite-") }
		out.Spec.InitContainers = slices.DeleteFunc(out.Spec.InitContainers, func(c corev1.Container) bool { return isOurs(c.Name) })
		out.Spec.Volumes = slices.DeleteFunc(out.Spec.Volumes, func(v corev1.Volume) bool { return isOurs(v.Name) })
	}
	delete(out.Labels, proxyLabel)
	delete(out.Labels, accountLabel)
	delete(out.Annotations, probesAnnotation)
	return out
}

func patched(t failer, raw []byte, from, to *corev1.Pod) string {
	t.Helper()
	operations, err := inject.Patch(raw, from, to)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if operations == nil {
		return canonical(t, raw)
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		t.Fatalf("%v", err)
	}
	after, err := patch.Apply(raw)
	if err != nil {
		t.Fatalf("%v: %s", err, operations)
	}
	return canonical(t, after)
}

// canonical is JSON with its keys sorted.
func canonical(t failer, text []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v", err)
	}
	return asJSON(t, v)
}

func asJSON(t failer, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if _, isPod := v.(*corev1.Pod); isPod {
		return canonical(t, text)
	}
	return string(text)
}

func names(containers []corev1.Container) []string {
	var out []string
	for i := range containers {
		out = append(out, containers[i].Name)
	}
	return out
}

func fields(found []model.Diagnostic) []string {
	var out []string
	for i := range found {
		out = append(out, found[i].Field)
	}
	return out
}

func codes(found []model.Diagnostic) []string {
	var out []string
	for i := range found {
		out = append(out, found[i].Code)
	}
	return out
}

// refused wants a refusal that names fields, each with a remedy.
func refused(t *testing.T, in *corev1.Pod, c inject.Config, want ...string) {
	t.Helper()
	result, found := inject.Pod(in, injecttest.Namespace, c)
	if result != nil {
		t.Errorf("a pod that is refused is returned all the same")
	}
	if diff := cmp.Diff(want, fields(found)); diff != "" {
		t.Errorf("fields that are refused (-want +got):\n%s\n%v", diff, found)
	}
	for i := range found {
		if d := &found[i]; d.Remedy == "" || d.Consequence == "" || d.Code == "" || d.Severity != model.SeverityError || !strings.HasPrefix(fmt.Sprint(d.Object), "Pod shop/web") {
			t.Errorf("no full answer: %s", d)
		}
	}
}

func port(n int32) intstr.IntOrString { return intstr.FromInt32(n) }

func portNamed(name string) intstr.IntOrString { return intstr.FromString(name) }
