package inject_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

// A real Envoy takes what the sidecars of the golden cases are given, as the kubelet passes it on, and so it does with probes that are full of what means something elsewhere.
func TestEnvoyTakesTheBootstrap(t *testing.T) {
	t.Parallel()
	program := envoytest.Binary(t)
	pods := map[string]*corev1.Pod{}
	for _, name := range []string{plainCase, "every-probe", "init-containers", "ipv6"} {
		pods[name] = run(t, filepath.Join("testdata", name)).pod
	}
	odd := web()
	text := "%REQ(:path)% {{ .x }} \"'` $(POD_NAME) $$ ü"
	odd.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/" + text, Port: port(8080), HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: text}},
	}}}
	odd.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 9000, Service: &text}}}
	pods["odd"] = injected(t, odd, injecttest.Config()).Pod
	for name, pod := range pods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte("token"), 0o600); err != nil {
				t.Fatal(err)
			}
			address := map[bool]string{true: "fd00::7", false: "10.0.0.7"}[name == "ipv6"]
			args := []string{"--mode", "validate"}
			for _, a := range pod.Spec.InitContainers[1].Args {
				a = bootstrap.Expand(a, map[string]string{"POD_NAME": "web-1", "POD_NAMESPACE": "shop", "POD_IP": address})
				// The pod's folders are not there.
				args = append(args, strings.NewReplacer("/var/run/secrets/pilot-lite", dir, "/run/pilot-lite/", dir+"/").Replace(a))
			}
			if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
