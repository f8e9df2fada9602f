package guard_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/guard"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

const wait = 30 * time.Second

// cluster is an API server that asks the webhooks as the manifests say.
type cluster struct {
	*apitest.Server

	client   kubernetes.Interface
	policies dynamic.NamespaceableResourceInterface
	source   *kube.Source
	hooks    *httptest.Server

	mu       sync.Mutex
	warnings []string
}

// HandleWarningHeader keeps what the API server tells authors.
func (c *cluster) HandleWarningHeader(_ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, text)
}

// warned are the warnings since it was called last.
func (c *cluster) warned() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := strings.Join(c.warnings, "\n")
	c.warnings = nil
	return out
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: apitest.New(t)}
	c.InstallCRDs(t)
	config := c.Config()
	c.client = kubernetes.NewForConfigOrDie(config)
	config.WarningHandler = c
	c.policies = dynamic.NewForConfigOrDie(config).Resource(v1alpha1.SchemeGroupVersion().WithResource("l7policies"))
	policies, err := kube.NewPolicies(config)
	if err != nil {
		t.Fatal(err)
	}
	c.source = kube.NewSource(kube.Config{Client: c.client, Policies: policies, Namespace: "pilot-lite-system"})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	running.Go(func() { _ = c.source.Run(ctx) })
	c.hooks = httptest.NewUnstartedServer(webhook.Handler(webhook.Config{Guard: guard.New(c.source)}))
	c.hooks.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	c.hooks.StartTLS()
	t.Cleanup(c.hooks.Close)
	c.configure(t)
	return c
}

// configure applies the validating webhooks of the manifests, at the address where they are here.
func (c *cluster) configure(t *testing.T) {
	t.Helper()
	for _, o := range apitest.Objects(t, filepath.Join(apitest.Root(t), "manifests", "webhooks.yaml")) {
		if o.GetKind() != "ValidatingWebhookConfiguration" {
			continue
		}
		var v admissionregistrationv1.ValidatingWebhookConfiguration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &v); err != nil {
			t.Fatal(err)
		}
		for i := range v.Webhooks {
			url := c.hooks.URL + *v.Webhooks[i].ClientConfig.Service.Path
			v.Webhooks[i].ClientConfig = admissionregistrationv1.WebhookClientConfig{
				URL: &url, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.hooks.Certificate().Raw}),
			}
		}
		if _, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), &v, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no validating webhooks in the manifests")
}

// namespace makes one with a pod that is called and one that calls, and waits until both, and the guard, are known.
func (c *cluster) namespace(t *testing.T, annotations map[string]string) string {
	t.Helper()
	ns := c.Namespace(t, "shop", nil)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%s}}}`, func() string {
		var out []string
		for k, v := range annotations {
			out = append(out, fmt.Sprintf("%q:%q", k, v))
		}
		return strings.Join(out, ",")
	}())
	if _, err := c.client.CoreV1().Namespaces().Patch(t.Context(), ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cart", "front"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: name, Image: name}}}}
		if _, err := c.client.CoreV1().Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	apitest.Eventually(t, wait, "the namespace is known", func() error {
		s, complete := c.source.Snapshot()
		if !complete {
			return fmt.Errorf("not complete")
		}
		pods := 0
		for i := range s.Pods {
			if s.Pods[i].Namespace == ns {
				pods++
			}
		}
		for i := range s.Namespaces {
			if s.Namespaces[i].Name == ns && s.Namespaces[i].Guarded == (len(annotations) > 0) && pods == 2 {
				return nil
			}
		}
		return fmt.Errorf("%d pods", pods)
	})
	return ns
}

func object(annotations map[string]string, from ...string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": "cart"}}, "ingress": []any{}}}}
	o.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	o.SetName("cart")
	o.SetAnnotations(annotations)
	var rules []any
	for _, app := range from {
		rules = append(rules, map[string]any{"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": app}}}}})
	}
	if rules != nil {
		_ = unstructured.SetNestedSlice(o.Object, rules, "spec", "ingress")
	}
	return o
}

func reason(text string) map[string]string {
	return map[string]string{v1alpha1.AnnotationOpensGuarded: text}
}

// update replaces the policy, and tells what the API server says.
func (c *cluster) update(t *testing.T, ns string, o *unstructured.Unstructured) error {
	t.Helper()
	old, err := c.policies.Namespace(ns).Get(t.Context(), "cart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.SetResourceVersion(old.GetResourceVersion())
	_, err = c.policies.Namespace(ns).Update(t.Context(), o, metav1.UpdateOptions{})
	return err
}

func refused(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: passed", what)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: refused with %v, want %q", what, err, part)
		}
	}
}

// A real API server asks, as the manifests have it ask: what opens what is guarded is refused, but for a reason, once; nothing else is; and no deletion is, answered or not.
func TestARealAPIServerAsks(t *testing.T) {
	t.Parallel()
	c := start(t)
	guarded, free := c.namespace(t, map[string]string{v1alpha1.AnnotationGuarded: "true"}), c.namespace(t, nil)
	create := func(ns string, o *unstructured.Unstructured) {
		t.Helper()
		apitest.Eventually(t, wait, "the policy is made", func() error { // the first call may come before the API server knows the webhooks
			_, err := c.policies.Namespace(ns).Create(t.Context(), o, metav1.CreateOptions{})
			return err
		})
	}
	create(guarded, object(nil))
	create(free, object(nil))
	apitest.Eventually(t, wait, "the webhooks are asked", func() error {
		bad := object(nil)
		bad.SetName("bad")
		_ = unstructured.SetNestedSlice(bad.Object, []any{map[string]any{"http": []any{map[string]any{"paths": []any{map[string]any{"type": "RegularExpression", "value": "/a{900}"}}}}}}, "spec", "ingress")
		if _, err := c.policies.Namespace(free).Create(t.Context(), bad, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err == nil || !strings.Contains(err.Error(), "pilot-lite: ") {
			return fmt.Errorf("a policy that Envoy would refuse: %w", err)
		}
		return nil
	})
	if err := c.update(t, free, object(nil, "front")); err != nil {
		t.Errorf("what is not guarded: %v", err)
	}
	refused(t, "an edit that opens", c.update(t, guarded, object(nil, "front")), "opens what is guarded", guarded+"/front", "guarded by Namespace "+guarded, v1alpha1.AnnotationOpensGuarded)
	c.warned()
	if err := c.update(t, guarded, object(reason("CHG-1"), "front")); err != nil {
		t.Errorf("with a reason: %v", err)
	}
	if got := c.warned(); !strings.Contains(got, "opens what is guarded") {
		t.Errorf("with a reason it warns %q", got)
	}
	if err := c.update(t, guarded, object(reason("CHG-1"))); err != nil {
		t.Errorf("an edit that closes: %v", err)
	}
	refused(t, "the reason of an earlier edit", c.update(t, guarded, object(reason("CHG-1"), "front")), "another edit has used")
	refused(t, "the guard goes in the same edit as what it guards", func() error {
		ns := c.namespace(t, nil)
		create(ns, object(map[string]string{v1alpha1.AnnotationGuarded: "true"}))
		return c.update(t, ns, object(nil, "front"))
	}(), "guarded by L7Policy")
	c.warned()
	if err := c.policies.Namespace(guarded).Delete(t.Context(), "cart", metav1.DeleteOptions{}); err != nil {
		t.Errorf("a deletion: %v", err)
	}
	if got := c.warned(); !strings.Contains(got, "this deletion opens what is guarded") {
		t.Errorf("a deletion warns %q", got)
	}
	// Without the control plane edits are refused, and deletions pass.
	c.hooks.Close()
	refused(t, "without the control plane", c.update(t, free, object(nil)), "failed calling webhook")
	if err := c.policies.Namespace(free).Delete(t.Context(), "cart", metav1.DeleteOptions{}); err != nil {
		t.Errorf("a deletion without the control plane: %v", err)
	}
}
