package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/porttest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

const (
	served = 60 * time.Second
	cart   = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"cart-","namespace":"shop","labels":{"app":"cart"}},
		"spec":{"serviceAccountName":"cart","containers":[{"name":"cart","image":"cart:1","readinessProbe":{"httpGet":{"path":"/ready?a=b","port":8080}}}]}}`
)

// A control plane that says that it is ready injects the next pod, and not a moment later; and what it puts in is what the command puts in, with the authority that the
// command's help shows how to get.
func TestReadyMeansInjecting(t *testing.T) {
	t.Parallel()
	api := apitest.New(t)
	api.InstallCRDs(t)
	client := kubernetes.NewForConfigOrDie(api.Config())
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: defaultNamespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	api.Apply(t, filepath.Join(apitest.Root(t), "manifests", "webhooks.yaml"))
	health, hooks, admin := porttest.Address(t), porttest.Address(t), porttest.Address(t)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	var logs bytes.Buffer
	go func() {
		ended <- run(ctx, []string{
			"serve", "--kubeconfig", kubeconfig(t, api), "--image", "pilot-lite:1", "--sidecar-image", "envoy:1", "--health-address", health, "--webhook-address", hooks,
			"--xds-address", porttest.Address(t), "--admin-address", admin,
		}, streams{in: strings.NewReader(""), out: io.Discard, err: &logs})
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitFine {
			t.Errorf("serve ended with %d: %s", code, &logs)
		}
	})

	apitest.Eventually(t, served, "the control plane is ready", func() error { return ready(t, health) })
	anybody := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if _, err := askForCart(t, anybody, hooks); err != nil {
		t.Errorf("it is ready, and the next pod is not injected: %v", err)
	}

	authority := filepath.Join(t.TempDir(), "ca.pem")
	apitest.Eventually(t, served, "the API server is given the authority", func() error {
		c, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), controlPlaneName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(c.Webhooks[0].ClientConfig.CABundle) == 0 {
			return errors.New("it has none")
		}
		return os.WriteFile(authority, c.Webhooks[0].ClientConfig.CABundle, 0o600)
	})
	webhook, err := askForCart(t, trusting(t, authority), hooks)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(commanded(t, authority), webhook); diff != "" {
		t.Errorf("the command and the webhook differ (-command +webhook):\n%s", diff)
	}
	restartsAreTold(t, client, admin)
}

// restartsAreTold: of a pod with what is injected now and one with what was before, status names the second.
func restartsAreTold(t *testing.T, client kubernetes.Interface, admin string) {
	t.Helper()
	if _, err := client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string]string{"new": "envoy:1", "old": "envoy:0"} {
		if _, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha1.LabelProxy: v1alpha1.ProxyInjected}},
			Spec: corev1.PodSpec{
				NodeName: "node", Containers: []corev1.Container{{Name: "app", Image: "app"}},
				InitContainers: []corev1.Container{{Name: v1alpha1.CaptureContainer, Image: "pilot-lite:1"}, {Name: v1alpha1.ProxyContainer, Image: image}},
			},
		}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	apitest.Eventually(t, served, "status tells whom to restart", func() error {
		var out bytes.Buffer
		run(t.Context(), []string{"status", "--address", admin, "-o", "json"}, streams{in: strings.NewReader(""), out: &out, err: &out})
		var told struct {
			Proxies []struct{ Proxy, Restart string } `json:"proxies"`
		}
		if err := json.Unmarshal(out.Bytes(), &told); err != nil {
			return fmt.Errorf("%w: %s", err, &out)
		}
		got := map[string]string{}
		for _, p := range told.Proxies {
			got[p.Proxy] = p.Restart
		}
		if diff := cmp.Diff(map[string]string{"default/new": "", "default/old": "the sidecar is envoy:0, and new pods get envoy:1"}, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func ready(t *testing.T, address string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// askForCart is what the API server does, and returns the pod with its sidecar.
func askForCart(t *testing.T, client *http.Client, address string) (map[string]any, error) {
	t.Helper()
	review := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE","namespace":"shop","kind":{"version":"v1","kind":"Pod"},"object":` + cart + `}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/inject", strings.NewReader(review))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	if !answer.Response.Allowed {
		return nil, errors.New(answer.Response.Result.Message)
	}
	patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
	if err != nil {
		return nil, err
	}
	text, err := patch.Apply([]byte(cart))
	if err != nil {
		return nil, err
	}
	var pod map[string]any
	return pod, json.Unmarshal(text, &pod)
}

// trusting is a client that knows the control plane as the API server does.
func trusting(t *testing.T, authority string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no authority: %s", text)
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serviceName(defaultNamespace), MinVersion: tls.VersionTLS13}}}
}

// commanded is what the command prints for the same pod.
func commanded(t *testing.T, authority string) map[string]any {
	t.Helper()
	var out, problems bytes.Buffer
	args := []string{"inject", "-f", "-", "--image", "pilot-lite:1", "--sidecar-image", "envoy:1", "--ca", authority}
	if code := run(t.Context(), args, streams{in: strings.NewReader(cart), out: &out, err: &problems}); code != exitFine {
		t.Fatalf("inject: %d: %s", code, &problems)
	}
	text, err := yaml.YAMLToJSON(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var pod map[string]any
	if err := json.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func kubeconfig(t *testing.T, api *apitest.Server) string {
	t.Helper()
	c := api.Config()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: c.Host, CertificateAuthorityData: c.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"admin": {ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "admin"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
