package inject_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
)

// hostile are texts that mean something to one language or another: YAML, JSON, templates, shells, the kubelet's references, Envoy's formatters, HTTP.
func hostile() []string {
	return []string{
		"9090\n- --dry-run", "9090\r\n", "\n9090", "9090,\n9091", `"`, `'`, "`", `9090"`, `9090","x`, "9090'", "{{ .Values.port }}", "{{9090}}", "&a 9090", "*a", "<<: *a", "!!int 9090", "- 9090", "# 9090",
		"9090 --dry-run", "--dry-run", "9090;true", "9090|9091", "$(reboot)", "$(POD_IP)", "$$(POD_IP)", "${PORT}", "%REQ(x)%", "%", "\x00", "9090\x00", "\x1b[2J", "\u2028", "\u00a09090", "9090\u200b", "\xff\xfe", "\\u0000",
		"٩٠", "9090,,9091", ",", "9090,", " ", "+9090", "-1", "0x2382", "9_090", "9090.0", "1e3", "65536", "99999999999999999999", "0", "15021", "true\n", "True", "1", "yes", "on", `{"a":1}`, "[]", "null", "~",
	}
}

func annotated() []string {
	return []string{"bound", "server-first-ports", "exclude-inbound-ports", "allow-escaped-slashes", "allow-underscore-headers", "allow-http10", "max-stream-duration", "probes", "unknown", "sidecar-image"}
}

// Whatever an annotation or a label holds, the pod is refused, or its sidecar is the one of every pod; the capture gets ports and nothing else.
func TestNoTextReachesTheSidecar(t *testing.T) {
	t.Parallel()
	plain := injected(t, web(), injecttest.Config()).Pod.Spec.InitContainers
	onlyPorts := regexp.MustCompile(`^[0-9]+(,[0-9]+)*$`)
	for _, text := range hostile() {
		for _, name := range annotated() {
			p := web()
			p.Annotations = map[string]string{"policy.pilot-lite.io/" + name: text}
			got := sidecarOf(t, p)
			if got == nil {
				continue
			}
			capture := got[0]
			switch {
			case len(capture.Args) == 1:
			case len(capture.Args) != 3 || name != "exclude-inbound-ports" || capture.Args[1] != "--exclude-inbound-ports" || !onlyPorts.MatchString(capture.Args[2]):
				t.Errorf("%s %q: capture is called with %q", name, text, capture.Args)
			default:
				capture.Args = plain[0].Args
			}
			if diff := cmp.Diff(plain, []corev1.Container{capture, got[1]}); diff != "" {
				t.Errorf("%s %q changes the sidecar (-plain +got):\n%s", name, text, diff)
			}
		}
		for _, name := range []string{"policy.pilot-lite.io/proxy", "policy.pilot-lite.io/service-account", "policy.pilot-lite.io/inject", "policy.pilot-lite.io/anything", "app"} {
			p := web()
			p.Labels[name] = text
			if got := sidecarOf(t, p); got != nil {
				if diff := cmp.Diff(plain, got); diff != "" {
					t.Errorf("label %s %q changes the sidecar (-plain +got):\n%s", name, text, diff)
				}
			}
		}
	}
}

// sidecarOf is what a pod is given; nil where it is refused.
func sidecarOf(t *testing.T, p *corev1.Pod) []corev1.Container {
	t.Helper()
	result, found := inject.Pod(p, injecttest.Namespace, injecttest.Config())
	if len(found) > 0 {
		for i := range found {
			if found[i].Field == "" || found[i].Field == "spec" || found[i].Remedy == "" {
				t.Errorf("no field or no remedy: %s", found[i])
			}
		}
		return nil
	}
	return result.Pod.Spec.InitContainers[:2]
}

// A probe is its author's text, and goes into the bootstrap. Each part is refused, with the probe's field, or stands there as it was written and changes nothing else.
func TestProbesAreOnlyProbes(t *testing.T) {
	t.Parallel()
	plain := bootstrapOf(t, injected(t, web(), injecttest.Config()).Pod)
	for _, text := range hostile() {
		for part, probe := range map[string]corev1.ProbeHandler{
			"path":         {HTTPGet: &corev1.HTTPGetAction{Path: text, Port: port(8080)}},
			"query":        {HTTPGet: &corev1.HTTPGetAction{Path: "/?" + text, Port: port(8080)}},
			"host":         {HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: port(8080), HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: text}}}},
			"header":       {HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: port(8080), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: text}}}},
			"header name":  {HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: port(8080), HTTPHeaders: []corev1.HTTPHeader{{Name: text, Value: "x"}}}},
			"gRPC service": {GRPC: &corev1.GRPCAction{Port: 8080, Service: &text}},
		} {
			p := web()
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: probe}
			result, found := inject.Pod(p, injecttest.Namespace, injecttest.Config())
			if len(found) > 0 {
				if diff := cmp.Diff([]string{"spec.containers[0].livenessProbe"}, fields(found)); diff != "" {
					t.Errorf("%s %q: fields that are refused (-want +got):\n%s", part, text, diff)
				}
				continue
			}
			got := bootstrapOf(t, result.Pod)
			if clusters := got.GetStaticResources().GetClusters(); len(clusters) != 3 || clusters[1].GetName() != "probe/web/liveness" {
				t.Fatalf("%s %q: not one probe: %v", part, text, clusters)
			}
			check := got.GetStaticResources().GetClusters()[1].GetHealthChecks()[0]
			if part == "gRPC service" && check.GetGrpcHealthCheck().GetServiceName() != text {
				t.Errorf("%s %q: asked for %q", part, text, check.GetGrpcHealthCheck().GetServiceName())
			}
			if part == "host" && text != "" && check.GetHttpHealthCheck().GetHost() != text {
				t.Errorf("%s %q: asks %q", part, text, check.GetHttpHealthCheck().GetHost())
			}
			got.StaticResources.Clusters = slices.Delete(got.StaticResources.Clusters, 1, 2)
			got.StaticResources.Listeners = plain.StaticResources.Listeners
			if !proto.Equal(plain, got) {
				t.Errorf("%s %q changes something else (-plain +got):\n%s", part, text, cmp.Diff(plain, got, protocmp.Transform()))
			}
		}
	}
}
