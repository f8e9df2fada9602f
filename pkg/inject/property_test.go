package inject_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

// maker makes pods. It draws from few values, so that names, ports and offences meet often; a careful one makes none for which a pod is refused.
type maker struct {
	*rapid.T

	careful bool
	named   int
}

// or is a value of those that are fine, or, where offences are wanted, of all.
func or[T any](m *maker, label string, fine, bad []T) T {
	if !m.careful {
		fine = append(slices.Clip(fine), bad...)
	}
	return pick(m.T, label, fine...)
}

func pick[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func some[T any](t *rapid.T, label string, most int, one func() T) []T {
	var out []T
	for range rapid.IntRange(0, most).Draw(t, label) {
		out = append(out, one())
	}
	return out
}

func maybe[T any](t *rapid.T, label string, one func() T) *T {
	if pick(t, label, true, false) {
		return nil
	}
	v := one()
	return &v
}

func (m *maker) text() string {
	return or(m, "text", []string{"", "/", "/a?b=c", "web", `"`, "$(POD_IP)", "$$", "%", "{{ .x }}", "9090", "1,2", "true"}, []string{"a\nb", "\x00", rapid.String().Draw(m.T, "any")})
}

func (m *maker) port() int32 {
	return or(m, "port", []int32{80, 8080, 9000, 14999, 15100, 65535}, []int32{0, -1, 65536, 15000, 15006, 15021, 15099})
}

func (m *maker) handler() corev1.ProbeHandler {
	at := pick(m.T, "by name", port(m.port()), portNamed("http"), portNamed("none"))
	// The last is what an injected pod has.
	switch or(m, "probe", []string{"http", "http", "tcp", "grpc", "exec", "none"}, []string{"sidecar"}) {
	case "http":
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: m.text(), Port: at, Host: pick(m.T, "host", "", "", "x.example"), Scheme: pick(m.T, "scheme", "", corev1.URISchemeHTTP, corev1.URISchemeHTTPS),
			HTTPHeaders: some(m.T, "headers", 2, func() corev1.HTTPHeader {
				return corev1.HTTPHeader{Name: or(m, "header", []string{"X-A", "x-a", "User-Agent"}, []string{"Host", "a b"}), Value: m.text()}
			}),
		}}
	case "tcp":
		return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: at, Host: pick(m.T, "host", "", "", "10.0.0.1")}}
	case "grpc":
		return corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: m.port(), Service: maybe(m.T, "service", m.text)}}
	case "exec":
		return corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}
	case "sidecar":
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/probe/web%2Fliveness", Port: port(15021), Scheme: corev1.URISchemeHTTP}}
	}
	return corev1.ProbeHandler{}
}

func (m *maker) probe() *corev1.Probe {
	return maybe(m.T, "probed", func() corev1.Probe {
		return corev1.Probe{ProbeHandler: m.handler(), PeriodSeconds: or(m, "period", []int32{0, 1, 60}, []int32{-1}), TimeoutSeconds: pick[int32](m.T, "timeout", 0, 1, 60)}
	})
}

// name is a new one, or one that may be there already or is the injector's.
func (m *maker) name() string {
	m.named++
	return or(m, "name", []string{fmt.Sprint("n", m.named)}, []string{"web", "web", "", "pilot-lite-proxy", "pilot-lite-run"})
}

func (m *maker) container() corev1.Container {
	c := corev1.Container{
		Name: m.name(), Image: pick(m.T, "image", "x:1", ""), Args: some(m.T, "args", 2, m.text),
		Ports: some(m.T, "ports", 2, func() corev1.ContainerPort {
			return corev1.ContainerPort{Name: pick(m.T, "port name", "", "http"), ContainerPort: m.port()}
		}),
		VolumeMounts:  some(m.T, "mounts", 1, func() corev1.VolumeMount { return corev1.VolumeMount{Name: m.name(), MountPath: "/x"} }),
		LivenessProbe: m.probe(), ReadinessProbe: m.probe(), StartupProbe: m.probe(),
		RestartPolicy: maybe(m.T, "sidecar", func() corev1.ContainerRestartPolicy { return corev1.ContainerRestartPolicyAlways }),
	}
	c.Lifecycle = maybe(m.T, "hooks", func() corev1.Lifecycle {
		h := m.handler()
		return corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}}
	})
	c.SecurityContext = maybe(m.T, "security", func() corev1.SecurityContext {
		return corev1.SecurityContext{
			RunAsUser:  maybe(m.T, "user", func() int64 { return or(m, "uid", []int64{0, 1000}, []int64{1337}) }),
			Privileged: maybe(m.T, "privileged", func() bool { return or(m, "yes", []bool{false}, []bool{true}) }),
			Capabilities: maybe(m.T, "capabilities", func() corev1.Capabilities {
				return corev1.Capabilities{Add: some(m.T, "added", 2, func() corev1.Capability {
					return or(m, "capability", []corev1.Capability{"CHOWN", ""}, []corev1.Capability{"NET_ADMIN", "cap_bpf"})
				})}
			}),
		}
	})
	return c
}

func (m *maker) volume() corev1.Volume {
	v := corev1.Volume{Name: m.name()}
	switch pick(m.T, "volume", "empty", "host", "token", "none") {
	case "empty":
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	case "host":
		v.HostPath = &corev1.HostPathVolumeSource{Path: or(m, "path", []string{"/var/log", "/srv/"}, []string{"/", "/var/lib/kubelet", "", "relative", m.text()})}
	case "token":
		audience := or(m, "audience", []string{"", "vault"}, []string{"pilot-lite"})
		v.Projected = &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{}, {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience}}}}
	}
	return v
}

// strings are labels or annotations: each is left out, or has a value that is fine for it, or any.
func (m *maker) strings(label string, fine map[string]string) map[string]string {
	if pick(m.T, label+" at all", true, false) {
		return nil
	}
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(fine)) {
		if pick(m.T, key, true, false) {
			out[key] = or(m, "value", []string{fine[key]}, []string{"enabled", "disabled", "15006", "yes", m.text()})
		}
	}
	return out
}

func (m *maker) pod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: pick(m.T, "pod", "web", ""), GenerateName: pick(m.T, "generate", "", "web-"),
		Labels: m.strings("labels", map[string]string{"app": "web", proxyLabel: "injected", accountLabel: "admin", injectLabel: "enabled"}),
		Annotations: m.strings("annotations", map[string]string{
			"note": "x", probesAnnotation: `{"n1/liveness":{"exec":{}}}`, excludeAnnotated: "9090, 80", "policy.pilot-lite.io/server-first-ports": "25",
			"policy.pilot-lite.io/allow-http10": "true", "policy.pilot-lite.io/max-stream-duration": "10m", "policy.pilot-lite.io/bound": "",
		}),
	}}
	p.Spec = corev1.PodSpec{
		ServiceAccountName: pick(m.T, "account", "", "web", "an-account-whose-name-is-longer-than-the-sixty-three-characters-of-a-label"),
		InitContainers:     some(m.T, "init", 3, m.container),
		Containers:         some(m.T, "containers", 3, m.container),
		Volumes:            some(m.T, "volumes", 2, m.volume),
		HostNetwork:        or(m, "hostNetwork", []bool{false}, []bool{true}),
		DNSPolicy:          pick(m.T, "dns", "", corev1.DNSClusterFirst, corev1.DNSDefault),
	}
	if pick(m.T, "by hand", false, false, true) {
		m.byHand(p)
	}
	return p
}

// byHand makes a pod look injected.
func (m *maker) byHand(p *corev1.Pod) {
	for _, name := range rapid.Permutation([]string{"pilot-lite-capture", "pilot-lite-proxy"}).Draw(m.T, "order") {
		c := m.container()
		c.Name = name
		p.Spec.InitContainers = slices.Insert(p.Spec.InitContainers, rapid.IntRange(0, len(p.Spec.InitContainers)).Draw(m.T, "at"), c)
	}
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[proxyLabel] = "injected"
}

// property: a pod is refused, with a field and a remedy for each reason, or gets its sidecar with everything that holds for one.
func property(t *rapid.T) {
	m := &maker{T: t, careful: pick(t, "careful", true, true, false)}
	p := m.pod()
	result, found := inject.Pod(p, injecttest.Namespace, injecttest.Config())
	if (result == nil) != (len(found) > 0) {
		t.Fatalf("neither a pod nor a reason, or both: %v", found)
	}
	if m.careful && result == nil {
		t.Fatalf("refused for nothing: %v", found)
	}
	for i := range found {
		if d := &found[i]; d.Field == "" || d.Remedy == "" || d.Consequence == "" {
			t.Errorf("no full answer: %s", d)
		}
	}
	if result != nil {
		invariants(t, p, result.Pod, injecttest.Config())
	}
}

func TestEveryPod(t *testing.T) {
	t.Parallel()
	rapid.Check(t, property)
}

func FuzzInject(f *testing.F) { f.Fuzz(rapid.MakeFuzz(property)) }

// Whatever stands in a file, it is refused, or stays as it is, or is an object that is injected once and for all.
func FuzzObject(f *testing.F) {
	f.Add([]byte(fromTheFuture))
	f.Add([]byte(controller("apps/v1", "Deployment", `{"template":`+template+`}`)))
	f.Add([]byte(`{"kind":"List","items":[{"apiVersion":"v1","kind":"Pod",` + asPod + `},null,{"items":[]}]}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"PodList","items":[{"spec":{"containers":[null,{}],"initContainers":[{"name":"a"},{"name":"a"}]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, found := inject.Object(text, injecttest.Config())
		if (got == nil) != (len(found) > 0) {
			t.Fatalf("neither an object nor a reason, or both: %v", found)
		}
		if got == nil || got.JSON == nil {
			return
		}
		if !json.Valid(got.JSON) {
			t.Fatalf("no JSON: %s", got.JSON)
		}
		again, found := inject.Object(got.JSON, injecttest.Config())
		if len(found) > 0 || again.JSON != nil {
			t.Errorf("injecting twice is not injecting once: %v\n%s\n%s", found, got.JSON, again.JSON)
		}
	})
}
