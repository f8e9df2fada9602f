package manifests_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/injecttest"
	"github.com/pilot-lite/pilot-lite/pkg/inject"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/webhook"
)

func policies() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "policy.pilot-lite.io", Version: "v1alpha1", Resource: "l7policies"}
}

func policy(name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "policy.pilot-lite.io/v1alpha1", "kind": "L7Policy", "metadata": map[string]any{"name": name}, "spec": spec}}
}

// unnamed is a pod as a controller makes it: its name comes last.
func unnamed(p *corev1.Pod) *corev1.Pod {
	out := p.DeepCopy()
	out.Name, out.GenerateName = "", "web-"
	return out
}

// nobodyAnswers: while the control plane is away, no pod starts without the sidecar that it should have, and everything else goes on: the cluster, the control plane itself,
// pods without injection, and policies on their way out.
func (c *cluster) nobodyAnswers(t *testing.T) {
	client := dynamic.NewForConfigOrDie(c.server.Config()).Resource(policies()).Namespace(injecttest.Namespace)
	if _, err := client.Create(t.Context(), policy("before", map[string]any{}), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for _, namespace := range []string{metav1.NamespaceSystem, system} {
		if _, err := c.CoreV1().ServiceAccounts(namespace).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.server.Apply(t, "webhooks.yaml")
	c.change(t, func(_ *admissionregistrationv1.WebhookClientConfig, timeout *int32) { *timeout = 1 }) // there is no way to the Service's address
	const unreachable = "failed calling webhook"
	apitest.Eventually(t, timeout, "the webhooks are in force", func() error {
		_, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), unnamed(author("web")), dryRun())
		_, err2 := client.Create(t.Context(), policy("new", map[string]any{}), dryRun())
		if !strings.Contains(fmt.Sprint(err), unreachable) || !strings.Contains(fmt.Sprint(err2), unreachable) {
			return fmt.Errorf("a pod: %w; a policy: %w", err, err2)
		}
		return nil
	})
	strict := unnamed(author("default"))
	no, yes, user := false, true, int64(1000)
	strict.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	strict.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	for namespace, refused := range map[string]string{injecttest.Namespace: unreachable, "other": "", metav1.NamespaceSystem: "", system: ""} {
		_, err := c.CoreV1().Pods(namespace).Create(t.Context(), strict, dryRun())
		t.Run("a pod in "+namespace, func(t *testing.T) { check(t, err, refused) })
	}
	// With a sidecar that somebody put in by hand, it is refused all the same: the webhook would have to look at it.
	_, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), unnamed(injected(t, "web", nil)), dryRun())
	t.Run("a pod with a sidecar", func(t *testing.T) { check(t, err, unreachable) })
	dry := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	_, err = client.Patch(t.Context(), "before", types.MergePatchType, []byte(`{"spec":{"action":"Deny"}}`), dry)
	t.Run("a policy's spec", func(t *testing.T) { check(t, err, unreachable) })
	_, err = client.Patch(t.Context(), "before", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), dry)
	t.Run("a policy's label", func(t *testing.T) { check(t, err, "") })
	err = client.Delete(t.Context(), "before", metav1.DeleteOptions{})
	t.Run("a policy is deleted", func(t *testing.T) { check(t, err, "") })
}

// answer has the webhooks' configurations lead to a handler, in place of the control plane's Service.
func (c *cluster) answer(t *testing.T, handler http.Handler) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config = webhook.NewServer(handler, nil, webhook.Timeout, slog.New(slog.DiscardHandler))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	c.change(t, func(to *admissionregistrationv1.WebhookClientConfig, timeout *int32) {
		url := s.URL + *to.Service.Path
		to.URL, to.Service, *timeout = &url, nil, int32(webhook.Timeout/time.Second)
		to.CABundle = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	})
}

// change edits the webhook of each configuration.
func (c *cluster) change(t *testing.T, edit func(to *admissionregistrationv1.WebhookClientConfig, timeout *int32)) {
	t.Helper()
	api := c.AdmissionregistrationV1()
	mutating, err := api.MutatingWebhookConfigurations().Get(t.Context(), "pilot-lite", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit(&mutating.Webhooks[0].ClientConfig, mutating.Webhooks[0].TimeoutSeconds)
	if _, err := api.MutatingWebhookConfigurations().Update(t.Context(), mutating, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	validating, err := api.ValidatingWebhookConfigurations().Get(t.Context(), "pilot-lite", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit(&validating.Webhooks[0].ClientConfig, validating.Webhooks[0].TimeoutSeconds)
	if _, err := api.ValidatingWebhookConfigurations().Update(t.Context(), validating, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// controlPlaneAnswers: what authors write becomes pods with sidecars, through everything that an API server does to them, or is refused with every reason.
func (c *cluster) controlPlaneAnswers(t *testing.T) {
	c.answer(t, webhook.Handler(webhook.Config{
		Injection:   func() (inject.Config, error) { return injecttest.Config(), nil },
		Unprotected: func(*model.Policy) []string { return []string{"naked"} },
	}))
	apitest.Eventually(t, timeout, "the webhooks lead elsewhere", func() error {
		_, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), unnamed(author("web")), dryRun())
		return err
	})
	t.Run("pods", c.podsAreInjected)
	t.Run("policies", c.policiesAreValidated)
	t.Run("beside another webhook", c.besideAnother)
	t.Run("within limits", c.withinLimits)
}

// withinLimits: in a namespace whose quota wants limits, and whose LimitRange gives them to containers that have none, the sidecar has them too.
func (c *cluster) withinLimits(t *testing.T) {
	const namespace = "limited"
	if _, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"policy.pilot-lite.io/inject": "enabled"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ServiceAccounts(namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	one := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	_, err := c.CoreV1().LimitRanges(namespace).Create(t.Context(), &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "limits"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: corev1.LimitTypeContainer, Default: one}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hard := corev1.ResourceList{corev1.ResourceLimitsCPU: resource.MustParse("10")}
	quota, err := c.CoreV1().ResourceQuotas(namespace).Create(t.Context(), &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "quota"}, Spec: corev1.ResourceQuotaSpec{Hard: hard}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// No controller counts here.
	quota.Status = corev1.ResourceQuotaStatus{Hard: hard, Used: corev1.ResourceList{corev1.ResourceLimitsCPU: resource.MustParse("0")}}
	if _, err := c.CoreV1().ResourceQuotas(namespace).UpdateStatus(t.Context(), quota, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	var got *corev1.Pod
	apitest.Eventually(t, timeout, "the limits are in force", func() error {
		if got, err = c.CoreV1().Pods(namespace).Create(t.Context(), unnamed(author("web")), dryRun()); err != nil {
			return err
		}
		if got.Spec.Containers[0].Resources.Limits.Cpu().IsZero() {
			return errors.New("the application has none")
		}
		return nil
	})
	hasSidecar(t, got)
	for i := range got.Spec.InitContainers {
		if got.Spec.InitContainers[i].Resources.Limits.Cpu().IsZero() {
			t.Errorf("%s has no limit", got.Spec.InitContainers[i].Name)
		}
	}
}

func (c *cluster) podsAreInjected(t *testing.T) {
	for _, v := range injecttest.Verdicts(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			got, err := c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), unnamed(v.Pod), dryRun())
			if len(v.Refused) == 0 {
				check(t, err, "")
				hasSidecar(t, got)
				return
			}
			for _, field := range v.Refused {
				check(t, err, "pilot-lite: "+field+"|\n"+field)
			}
		})
	}
}

func hasSidecar(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if p == nil || len(p.Spec.InitContainers) < 2 || p.Spec.InitContainers[0].Name != inject.CaptureContainer || p.Spec.InitContainers[1].Name != inject.ProxyContainer {
		t.Fatalf("no sidecar in front: %+v", p)
	}
	if want := model.ServiceAccountLabel(p.Spec.ServiceAccountName); p.Labels[accountLabel] != want {
		t.Errorf("the account is stamped as %q, not %q", p.Labels[accountLabel], want)
	}
	// Not even the API server's own token: admission puts it into every other container.
	var mounts []string
	for _, m := range append(p.Spec.InitContainers[0].VolumeMounts, p.Spec.InitContainers[1].VolumeMounts...) {
		mounts = append(mounts, m.Name)
	}
	if diff := cmp.Diff([]string{"pilot-lite-token", "pilot-lite-run"}, mounts); diff != "" {
		t.Errorf("what the sidecar mounts (-want +got):\n%s", diff)
	}
	for i := range p.Spec.Containers {
		if probe := p.Spec.Containers[i].ReadinessProbe; probe != nil && (probe.HTTPGet == nil || probe.HTTPGet.Port.IntVal != 15021) {
			t.Errorf("%s is probed past the sidecar: %+v", p.Spec.Containers[i].Name, probe)
		}
	}
}

// warnings keeps what the API server warns a client of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// policiesAreValidated by what the schema cannot say, and their authors are warned of pods that are not protected.
func (c *cluster) policiesAreValidated(t *testing.T) {
	config, told := c.server.Config(), &warnings{}
	config.WarningHandler = told
	client := dynamic.NewForConfigOrDie(config).Resource(policies()).Namespace(injecttest.Namespace)
	rule := func(regex string) map[string]any {
		return map[string]any{"ingress": []any{map[string]any{"http": []any{map[string]any{"paths": []any{map[string]any{"type": "RegularExpression", "value": regex}}}}}}}
	}
	_, err := client.Create(t.Context(), policy("bad", rule("/a{1000}")), dryRun())
	check(t, err, "spec.ingress[0].http[0].paths[0].value")
	if _, err = client.Create(t.Context(), policy("good", rule("/a+")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(told.text) != 1 || !strings.Contains(told.text[0], "1 of the selected pods have no sidecar: naked") {
		t.Errorf("warned of %q", told.text)
	}
	_, err = client.Patch(t.Context(), "good", types.MergePatchType, []byte(`{"spec":{"ingress":[{"http":[{"hosts":["a b"]}]}]}}`), metav1.PatchOptions{})
	check(t, err, "hosts[0]")
	if err := client.Delete(t.Context(), "good", metav1.DeleteOptions{}); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// besideAnother: another webhook puts containers before ours and behind, whether it is called before the injector or after it. The sidecar comes first in the end, and what
// was put in is injected, too.
func (c *cluster) besideAnother(t *testing.T) {
	other := httptest.NewTLSServer(http.HandlerFunc(meddle))
	t.Cleanup(other.Close)
	for name, called := range map[string]string{"aaa-before": "before", "zzz-after": "after"} {
		t.Run("called "+called, func(t *testing.T) {
			fail, none, again := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.IfNeededReinvocationPolicy
			_, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Webhooks: []admissionregistrationv1.MutatingWebhook{{
					Name:                    name + ".example.org",
					ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: &other.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw})},
					AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail, ReinvocationPolicy: &again,
					Rules: []admissionregistrationv1.RuleWithOperations{{
						Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
						Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
					}},
				}},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			})
			var got *corev1.Pod
			apitest.Eventually(t, timeout, "the other webhook is in force", func() error {
				if got, err = c.CoreV1().Pods(injecttest.Namespace).Create(t.Context(), unnamed(author("web")), dryRun()); err != nil {
					return err
				}
				if len(got.Spec.Containers) != 2 {
					return errors.New("it was not called")
				}
				return nil
			})
			hasSidecar(t, got)
			var names []string
			for i := range got.Spec.InitContainers {
				names = append(names, got.Spec.InitContainers[i].Name)
			}
			if diff := cmp.Diff([]string{inject.CaptureContainer, inject.ProxyContainer, "early"}, names); diff != "" {
				t.Errorf("init containers (-want +got):\n%s", diff)
			}
		})
	}
}

// meddle is a webhook as others write them: it puts a container in front and one behind, once, and a volume into every container that is there.
func meddle(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var review admissionv1.AdmissionReview
	var pod corev1.Pod
	if json.Unmarshal(body, &review) != nil || json.Unmarshal(review.Request.Object.Raw, &pod) != nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if pod.Annotations["other.example.org/done"] == "" {
		var patch []map[string]any
		add := func(path string, value any) {
			patch = append(patch, map[string]any{"op": "add", "path": path, "value": value})
		}
		mount := []any{map[string]any{"name": "other", "mountPath": "/other"}}
		if len(pod.Spec.InitContainers) == 0 {
			add("/spec/initContainers", []any{})
		}
		for i := range pod.Spec.InitContainers {
			if len(pod.Spec.InitContainers[i].VolumeMounts) > 0 {
				add(fmt.Sprintf("/spec/initContainers/%d/volumeMounts/-", i), mount[0])
			}
		}
		add("/spec/initContainers/0", map[string]any{"name": "early", "image": "x:1", "volumeMounts": mount})
		add("/spec/containers/-", map[string]any{"name": "late", "image": "x:1", "readinessProbe": map[string]any{"tcpSocket": map[string]any{"port": 7070}}})
		add("/spec/volumes/0", map[string]any{"name": "other", "emptyDir": map[string]any{}})
		add("/metadata/annotations", map[string]any{"other.example.org/done": "yes"})
		for key, value := range pod.Annotations {
			add("/metadata/annotations/"+strings.ReplaceAll(key, "/", "~1"), value)
		}
		kind := admissionv1.PatchTypeJSONPatch
		response.PatchType = &kind
		response.Patch, _ = json.Marshal(patch)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: response})
}

var _ rest.WarningHandler = (*warnings)(nil)
