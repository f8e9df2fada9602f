package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// An edit is compared with a running cluster: with its pods and their addresses, its policies and its NetworkPolicies.
func TestDiffAgainstACluster(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	s.InstallCRDs(t)
	client := kubernetes.NewForConfigOrDie(s.Config())
	ns := s.Namespace(t, "shop", nil)
	for name, address := range map[string]string{"cart": "10.0.0.1", "front": "10.0.0.2", "other": "10.0.0.3"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{NodeName: "n", Containers: []corev1.Container{{Name: name, Image: name}}}}
		made, err := client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		made.Status.PodIP, made.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
		if _, err := client.CoreV1().Pods(ns).UpdateStatus(t.Context(), made, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	policy := func(app string) string {
		return "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: L7Policy\nmetadata: {name: cart, namespace: " + ns + "}\nspec:\n  podSelector: {matchLabels: {app: cart}}\n" +
			"  ingress: [{from: [{podSelector: {matchLabels: {app: " + app + "}}}], ports: [{port: 8080}]}]\n"
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy("front")), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Apply(t, file)
	kubeconfig := apitest.Kubeconfig(t, s.Config())
	compare := func(text string) (code int, out, err string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		code = run(t.Context(), []string{"diff", "--kubeconfig", kubeconfig, "-f", file}, streams{in: strings.NewReader(""), out: &stdout, err: &stderr})
		return code, stdout.String(), stderr.String()
	}
	if code, out, err := compare(policy("front")); code != exitFine || out != "No verdict flips.\n" {
		t.Errorf("nothing changes: exit code %d, %s%s", code, out, err)
	}
	code, out, err := compare(policy("other"))
	if code != exitFinding || err != "" {
		t.Errorf("another caller: exit code %d, %s", code, err)
	}
	want := strings.ReplaceAll(`OPENS: %s/other -> %s/cart
  L7, TCP 8080: was denied by default-deny, now allowed by %s/cart/0
  L4, TCP 8080: was denied by default-deny, now allowed by %s/cart (ingress of the callee)

CLOSES: %s/front -> %s/cart
  L7, TCP 8080: was allowed by %s/cart/0, now denied by default-deny
  L4, TCP 8080: was allowed by %s/cart, now denied by default-deny (ingress of the callee)

2 opened, 2 closed
`, "%s", ns)
	if out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}
