package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
)

// clusterObjects are a caller, a callee and what the policy says of them, as they stand in a cluster.
const clusterObjects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart, policy.pilot-lite.io/proxy: injected, policy.pilot-lite.io/service-account: default}}
spec: {nodeName: node-1, containers: [{name: cart, image: cart, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: web, image: web}]}
---
apiVersion: policy.pilot-lite.io/v1alpha1
kind: L7Policy
metadata: {name: cart, namespace: shop}
spec:
  podSelector: {matchLabels: {app: cart}}
  ingress:
  - name: reads
    from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 8080}]
    http: [{methods: [GET]}]
  - name: typo
    from: [{podSelector: {matchLabels: {app: webb}}}]
    ports: [{port: 8080}]
`

// A cluster is read as its API server has it: what runs there is as it is, and is not taken as injected.
func TestQuestionsAboutACluster(t *testing.T) {
	t.Parallel()
	s := apitest.New(t)
	s.InstallCRDs(t)
	objects := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(objects, []byte(clusterObjects), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Apply(t, objects)
	client, err := kubernetes.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	for name, address := range map[string]string{"cart": "10.244.0.1", "web": "10.244.0.2"} {
		pod, err := client.CoreV1().Pods("shop").Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
		if _, err := client.CoreV1().Pods("shop").UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	kubeconfig := writeKubeconfig(t, s.Config())
	for _, c := range []struct {
		args string
		code int
		want []string
	}{
		{"lint", exitFinding, []string{
			"warning: L7Policy shop/cart: spec.ingress[1].from[0].podSelector: no pod in namespace shop has the labels {app=webb}",
			"warning: Namespace shop: workload web: no enforced policy selects its pods",
		}},
		{"check -n shop --from pod/web --to svc/cart GET /", exitFine, []string{"shop/web -> shop/cart port 8080, GET /: ALLOWED (shop/cart/reads)"}},
		{"check -n shop --from ip/192.0.2.1 --to svc/cart POST /", exitFinding, []string{"DENIED at L3/4, the callee's ingress", "192.0.2.1 is no pod that is known"}},
		{"check --all", exitFine, []string{"shop/cart:8080  .  r  ."}},
		{"check -n shop --from nobody --to svc/cart GET /", exitUsage, []string{"there are cart, web"}},
	} {
		var out bytes.Buffer
		code := run(context.Background(), append(strings.Fields(c.args), "--kubeconfig", kubeconfig), streams{in: strings.NewReader(""), out: &out, err: &out})
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d", c.args, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: want %q in\n%s", c.args, want, out.String())
			}
		}
	}
}

func writeKubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"test": {Server: c.Host, CertificateAuthorityData: c.CAData, CertificateAuthority: c.CAFile}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"test": {
			ClientCertificateData: c.CertData, ClientKeyData: c.KeyData, ClientCertificate: c.CertFile, ClientKey: c.KeyFile, Token: c.BearerToken,
		}},
		Contexts: map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}}, CurrentContext: "test",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
