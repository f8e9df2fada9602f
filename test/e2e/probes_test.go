//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const probesNamespace = "pilot-lite-e2e-probes"

// probedPod has a readiness probe of one kind, and a liveness probe.
func (s *suite) probedPod(name, readiness, liveness string) string {
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s, labels: {app: probed}}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: %s
    args: [--role=probed]
    ports: [{name: http, containerPort: 8080}, {name: grpc, containerPort: 8081}, {name: tcp, containerPort: 8082}]
    readinessProbe: {%s, periodSeconds: 1, failureThreshold: 3}
    livenessProbe: {%s, periodSeconds: 1, failureThreshold: 3}
`, name, probesNamespace, s.images.bookinfo, readiness, liveness)
}

// denyEverything in both directions, by the absence of rules and by a Deny.
const denyEverything = `
apiVersion: v1
kind: Namespace
metadata: {name: ` + probesNamespace + `, labels: {policy.pilot-lite.io/inject: enabled}}
---
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: nothing-is-allowed, namespace: ` + probesNamespace + `}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
---
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: everything-is-denied, namespace: ` + probesNamespace + `}
spec: {podSelector: {}, action: Deny, ingress: [{}]}
`

// probes: the kubelet learns the truth about the application, and nobody else gets in the same way.
func (s *suite) probes(t *testing.T, ctx context.Context) {
	t.Cleanup(func() {
		_, _ = s.try(context.WithoutCancel(ctx), "", "delete", "namespace", probesNamespace, "--ignore-not-found", "--wait=false")
	})
	s.apply(t, ctx, denyEverything)
	eventually(t, ctx, "the namespace has its account", func() error {
		_, err := s.try(ctx, "", "-n", probesNamespace, "get", "serviceaccount", "default")
		return err
	})
	http, grpc, tcp := `httpGet: {path: "/healthz?check=full", port: http}`, "grpc: {port: 8081}", "tcpSocket: {port: tcp}"
	kinds := map[string]string{"http": http, "grpc": grpc, "tcp": tcp}
	yaml := s.probedPod("alive", tcp, http)
	for kind, probe := range kinds {
		yaml += s.probedPod(kind, probe, `exec: {command: [/bookinfo, --help]}`)
	}
	s.apply(t, ctx, yaml)
	pods := map[string]corev1.Pod{}
	for _, p := range s.waitReady(t, ctx, probesNamespace, "app=probed", len(kinds)+1) {
		pods[p.Name] = p
	}
	outsider := s.outsider(t, ctx)
	for name, p := range pods {
		for _, port := range []int{8080, 15006, 15021} {
			s.comes(t, ctx, outsider, question{URL: fmt.Sprintf("http://%s:%d/healthz?check=full", p.Status.PodIP, port)}, stopped)
		}
		t.Logf("%s is ready, and open to nobody", name)
	}
	const threshold, slack = 3 * time.Second, 5 * time.Second
	for kind := range kinds {
		s.tell(t, ctx, kind, kind+"/ill")
		if took := s.becomes(t, ctx, kind, corev1.ConditionFalse); took > threshold+slack {
			t.Errorf("%s: the kubelet heard of the failure after %s; its threshold is %s", kind, took, threshold)
		}
		s.tell(t, ctx, kind, kind+"/well")
		s.becomes(t, ctx, kind, corev1.ConditionTrue)
	}
	s.tell(t, ctx, "alive", "http/ill")
	eventually(t, ctx, "the kubelet restarts what is not alive", func() error {
		p := s.podNamed(t, ctx, "alive")
		for _, c := range p.Status.ContainerStatuses {
			if c.RestartCount > 0 && ready(p) {
				return nil
			}
		}
		return errors.New(stateOf(p))
	})
	for _, c := range s.podNamed(t, ctx, "alive").Status.InitContainerStatuses {
		if c.RestartCount > 0 {
			t.Errorf("%s was restarted with the application", c.Name)
		}
	}
}

// tell makes an application ill or well, from inside its pod.
func (s *suite) tell(t *testing.T, ctx context.Context, pod, what string) {
	t.Helper()
	got, err := s.one(ctx, asker{probesNamespace, pod, "app"}, question{Method: "POST", URL: "http://127.0.0.1:8090/" + what})
	if err != nil || got.Status != 200 {
		t.Fatalf("tell %s %s: %v %v", pod, what, got, err)
	}
}

func (s *suite) becomes(t *testing.T, ctx context.Context, pod string, want corev1.ConditionStatus) time.Duration {
	t.Helper()
	return eventually(t, ctx, fmt.Sprintf("pod %s is ready: %s", pod, want), func() error {
		if p := s.podNamed(t, ctx, pod); ready(p) != (want == corev1.ConditionTrue) {
			return errors.New(stateOf(p))
		}
		return nil
	})
}

func (s *suite) podNamed(t *testing.T, ctx context.Context, name string) *corev1.Pod {
	t.Helper()
	for _, p := range s.pods(t, ctx, probesNamespace, "app=probed") {
		if p.Name == name {
			return &p
		}
	}
	t.Fatalf("no pod %s", name)
	return nil
}
