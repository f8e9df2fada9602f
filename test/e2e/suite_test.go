//go:build e2e

// Package e2e_test installs pilot-lite in the cluster that KUBECONFIG names, as docs/kubernetes.md says, runs bookinfo in it, and proves there what can only be
// proved there: that both layers hold, together and each alone, through edits, rollouts and crashes. `make e2e` runs it; nothing of it stays behind.
//
// E2E_IMAGE, E2E_SIDECAR_IMAGE and E2E_BOOKINFO_IMAGE name the images, which the nodes must be able to get. LAB_STATE, on a machine that is itself the only
// node, is the folder with the API server's pid file and the node's network namespaces: without it, what needs them is skipped.
package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	system   = "pilot-lite-system"
	bookinfo = "bookinfo"
	outside  = "pilot-lite-e2e-outside" // without injection: callers whom nobody knows

	poll = 200 * time.Millisecond
)

// suite is the cluster under test.
type suite struct {
	kubernetes.Interface

	dynamic dynamic.Interface
	dir     string // a copy of what users have of the repository, with the images' names filled in
	lab     string // "": not on the node itself
	images  images
	facts   []string // what was measured
}

type images struct{ controlPlane, sidecar, bookinfo string }

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	if _, err := exec.LookPath("kubectl"); err != nil {
		t.Fatalf("kubectl is needed in PATH: %v", err)
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), nil).ClientConfig()
	if err != nil {
		t.Fatalf("set KUBECONFIG to the cluster to test in: %v", err)
	}
	config.QPS = -1
	s := &suite{Interface: kubernetes.NewForConfigOrDie(config), dynamic: dynamic.NewForConfigOrDie(config), dir: t.TempDir(), lab: os.Getenv("LAB_STATE"), images: images{
		env("E2E_IMAGE", "pilot-lite/pilot-lite:dev"), env("E2E_SIDECAR_IMAGE", "envoyproxy/envoy:distroless-v1.40.0"), env("E2E_BOOKINFO_IMAGE", "pilot-lite/bookinfo:dev"),
	}}
	s.copyRepository(t)
	s.build(t)
	return s
}

// build makes the program that the documentation's commands name, as make build does.
func (s *suite) build(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", filepath.Join(s.dir, "bin", "pilot-lite"), "./cmd/pilot-lite")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// copyRepository copies what the documentation's commands name.
func (s *suite) copyRepository(t *testing.T) {
	t.Helper()
	root := filepath.Join("..", "..")
	for _, dir := range []string{"manifests", "examples/bookinfo/platform", "examples/bookinfo/policies"} {
		if err := os.CopyFS(filepath.Join(s.dir, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	s.rewrite(t, "manifests/kustomization.yaml", func(text string) string {
		text = replaceImage(t, text, "- name: pilot-lite/pilot-lite\n  newTag: dev\n", "pilot-lite/pilot-lite", s.images.controlPlane)
		return replaceImage(t, text, "- name: envoyproxy/envoy\n  newTag: distroless-v1.40.0\n", "envoyproxy/envoy", s.images.sidecar)
	})
	files, err := filepath.Glob(filepath.Join(s.dir, "examples/bookinfo/platform/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, err := filepath.Rel(s.dir, f)
		if err != nil {
			t.Fatal(err)
		}
		s.rewrite(t, name, func(text string) string {
			return strings.ReplaceAll(text, "pilot-lite/bookinfo:dev", s.images.bookinfo)
		})
	}
}

func (s *suite) rewrite(t *testing.T, name string, change func(string) string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(change(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaceImage has an entry of kustomize's images name another.
func replaceImage(t *testing.T, text, entry, name, image string) string {
	t.Helper()
	if !strings.Contains(text, entry) {
		t.Fatalf("manifests/kustomization.yaml has no entry %q", entry)
	}
	at := strings.LastIndex(image, ":")
	if at < strings.LastIndex(image, "/") || strings.Contains(image, "@") {
		t.Fatalf("image %s: want NAME:TAG", image)
	}
	return strings.Replace(text, entry, fmt.Sprintf("- name: %s\n  newName: %s\n  newTag: %q\n", name, image[:at], image[at+1:]), 1)
}

// step is one part of the test, with a time limit of its own. What a failed step leaves is left to look at.
func (s *suite) step(t *testing.T, name string, limit time.Duration, run func(t *testing.T, ctx context.Context)) bool {
	t.Helper()
	return t.Run(name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		began := time.Now()
		run(t, ctx)
		t.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
	})
}

// measured keeps a number for the end.
func (s *suite) measured(t *testing.T, format string, args ...any) {
	t.Helper()
	fact := fmt.Sprintf(format, args...)
	s.facts = append(s.facts, fact)
	t.Log("measured: " + fact)
}

// try runs kubectl in the copied folder.
func (s *suite) try(ctx context.Context, input string, args ...string) (string, error) {
	return s.command(ctx, input, "kubectl", args...)
}

func (s *suite) command(ctx context.Context, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.dir
	cmd.Stdin = strings.NewReader(input)
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s%s", program, strings.Join(args, " "), err, out.String(), messages.String())
	}
	return out.String(), nil
}

// kubectl runs kubectl, which must succeed.
func (s *suite) kubectl(t *testing.T, ctx context.Context, args ...string) string {
	t.Helper()
	out, err := s.try(ctx, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies YAML.
func (s *suite) apply(t *testing.T, ctx context.Context, yaml string) {
	t.Helper()
	if out, err := s.try(ctx, yaml, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v%s", err, out)
	}
}

// eventually repeats until there is no error.
func eventually(t *testing.T, ctx context.Context, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not in time: %v", what, err)
		case <-time.After(poll):
		}
	}
}

// pods are those of a namespace that are not on their way out.
func (s *suite) pods(t *testing.T, ctx context.Context, namespace, selector string) []corev1.Pod {
	t.Helper()
	list, err := s.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		t.Fatalf("list the pods of %s: %v", namespace, err)
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			out = append(out, p)
		}
	}
	return out
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waitReady waits until a namespace has so many pods, all ready.
func (s *suite) waitReady(t *testing.T, ctx context.Context, namespace, selector string, want int) []corev1.Pod {
	t.Helper()
	var pods []corev1.Pod
	eventually(t, ctx, fmt.Sprintf("%d pods of %s (%s) are ready", want, namespace, selector), func() error {
		pods = s.pods(t, ctx, namespace, selector)
		if len(pods) != want {
			return fmt.Errorf("%d pods, want %d", len(pods), want)
		}
		for i := range pods {
			if !ready(&pods[i]) {
				return fmt.Errorf("pod %s is not ready: %s", pods[i].Name, stateOf(&pods[i]))
			}
		}
		return nil
	})
	return pods
}

// stateOf is what each container is at.
func stateOf(p *corev1.Pod) string {
	var out []string
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		state := "running"
		switch {
		case c.State.Waiting != nil:
			state = c.State.Waiting.Reason + " " + c.State.Waiting.Message
		case c.State.Terminated != nil:
			state = "ended: " + c.State.Terminated.Reason + " " + c.State.Terminated.Message
		case !c.Ready:
			state = "not ready"
		}
		out = append(out, fmt.Sprintf("%s %s (%d restarts)", c.Name, state, c.RestartCount))
	}
	return string(p.Status.Phase) + ": " + strings.Join(out, ", ")
}
