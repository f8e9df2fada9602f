package manifests_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// verdictsAgree: what the injector makes passes, and what it refuses is refused without it, too, where the admission policies promise so.
func (c *cluster) verdictsAgree(t *testing.T) {
	for _, v := range injecttest.Verdicts(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			result, found := inject.Pod(v.Pod, injecttest.Namespace, injecttest.Config())
			if (result == nil) != (len(v.Refused) > 0) {
				t.Fatalf("the injector says otherwise: %v", found)
			}
			if result != nil {
				_, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), result.Pod, dryRun())
				check(t, err, "")
				return
			}
			_, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), byHand(t, v.Pod), dryRun())
			check(t, err, v.Admission)
		})
	}
}

// byHand puts a sidecar into a pod that the injector refuses, as carefully as somebody could who wants it to pass.
func byHand(t *testing.T, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	sidecar := injected(t, "web", nil)
	if ports := p.Annotations["policy.pilot-lite.io/exclude-inbound-ports"]; ports != "" {
		sidecar.Spec.InitContainers[0].Args = append(sidecar.Spec.InitContainers[0].Args, "--exclude-inbound-ports", ports)
	}
	out := p.DeepCopy()
	out.Spec.InitContainers = slices.Concat(sidecar.Spec.InitContainers[:2], out.Spec.InitContainers)
	for _, v := range sidecar.Spec.Volumes {
		if strings.HasPrefix(v.Name, "pilot-lite-") {
			out.Spec.Volumes = append(out.Spec.Volumes, v)
		}
	}
	out.Labels[proxyLabel], out.Labels[accountLabel] = "injected", model.ServiceAccountLabel(out.Spec.ServiceAccountName)
	return out
}
