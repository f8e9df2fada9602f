package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

const patience = 90 * time.Second // for a busy machine

// A replica that cannot see the cluster is not ready, says why, and takes no new streams; whom it serves it goes on serving, from what it read last. When it sees the
// cluster again, it is as before, and what was edited meanwhile is sent.
func TestAReplicaThatCannotSeeTheCluster(t *testing.T) {
	t.Parallel()
	r := startReplica(t)
	r.ready(t, http.StatusOK, "ok")
	token := r.token(t)
	known := r.open(t, token)
	first := known.next(t, xds.ExtensionConfigType, rbac.HTTPSlot)

	r.proxy.Hold(apitest.ToServer, apitest.ToClient)
	r.policy(t, "POST")
	r.ready(t, http.StatusServiceUnavailable, "nothing was heard of")
	_, err := r.open(t, token).Recv()
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "nothing was heard of") {
		t.Errorf("a new stream: %v", err)
	}
	if again := known.next(t, xds.ExtensionConfigType, rbac.TCPSlot); again == "" {
		t.Error("a stream that is open is not served")
	}

	r.proxy.Heal()
	r.ready(t, http.StatusOK, "ok")
	if second := known.next(t, "", rbac.HTTPSlot); second == first {
		t.Error("the edit is not sent")
	}
	r.open(t, token).next(t, xds.ExtensionConfigType, rbac.HTTPSlot)
}

// replica is a control plane that follows: somebody else has the lease, which a leader would end with.
type replica struct {
	kubernetes.Interface

	server                    *apitest.Server
	proxy                     *apitest.Proxy
	namespace                 string
	pod                       *corev1.Pod
	xds, admin, health, hooks string
}

func startReplica(t *testing.T) *replica {
	t.Helper()
	s := apitest.New(t)
	s.InstallCRDs(t)
	manifests := filepath.Join(apitest.Root(t), "manifests")
	s.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	r := &replica{Interface: kubernetes.NewForConfigOrDie(s.Config()), server: s, proxy: s.Proxy(t), namespace: s.Namespace(t, "shop", nil)}
	r.leader(t)
	r.run(t)
	r.policy(t, "GET")
	free := func() string {
		t.Helper()
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}
	r.xds, r.admin, r.health, r.hooks = free(), free(), free(), free()
	o := serveOptions{xdsAddress: r.xds, adminAddress: r.admin, logFormat: "text", logLevel: "info", cluster: clusterOptions{
		kubeconfig: apitest.Kubeconfig(t, r.proxy.Through(s.User("system:serviceaccount:pilot-lite-system:pilot-lite", "system:authenticated"))), namespace: defaultNamespace,
		health: r.health, webhooks: r.hooks, staleAfter: 6 * time.Second,
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx, streams{err: t.Output()}) }()
	t.Cleanup(func() {
		r.proxy.Heal()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *replica) leader(t *testing.T) {
	t.Helper()
	other, now, seconds := "other", metav1.NowMicro(), int32(3600)
	_, err := r.CoordinationV1().Leases(defaultNamespace).Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: controlPlaneName}, Spec: coordinationv1.LeaseSpec{HolderIdentity: &other, RenewTime: &now, LeaseDurationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// run makes a pod that has an address, and speaks HTTP.
func (r *replica) run(t *testing.T) {
	t.Helper()
	no := false
	if _, err := r.CoreV1().Services(r.namespace).Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "cart"}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": "cart"}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods := r.CoreV1().Pods(r.namespace)
	p, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cart", Labels: map[string]string{"app": "cart", v1alpha1.LabelProxy: v1alpha1.ProxyInjected}},
		Spec:       corev1.PodSpec{NodeName: "node", AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.1.1", PodIPs: []corev1.PodIP{{IP: "10.1.1.1"}}}
	if r.pod, err = pods.UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (r *replica) policy(t *testing.T, method string) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"podSelector": map[string]any{"matchLabels": map[string]any{"app": "cart"}},
		"ingress":     []any{map[string]any{"http": []any{map[string]any{"methods": []any{method}}}}, map[string]any{"ports": []any{map[string]any{"port": int64(len(method))}}}},
	}}}
	o.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	o.SetName("cart")
	policies := dynamic.NewForConfigOrDie(r.server.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource)).Namespace(r.namespace)
	if _, err := policies.Apply(t.Context(), "cart", o, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		t.Fatal(err)
	}
}

// token is one as the kubelet gives it to the pod's sidecar.
func (r *replica) token(t *testing.T) string {
	t.Helper()
	got, err := r.CoreV1().ServiceAccounts(r.namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{tokenAudience}, BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: r.pod.Name, UID: r.pod.UID},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return got.Status.Token
}

// ready waits until the kubelet is told this, and people that.
func (r *replica) ready(t *testing.T, code int, text string) {
	t.Helper()
	get := func(address, path string) (int, string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			return 0, "", err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	apitest.Eventually(t, patience, "readiness is "+http.StatusText(code), func() error {
		for _, address := range []string{r.health, r.admin} {
			got, body, err := get(address, "/readyz")
			if err != nil || got != code || address == r.admin && !strings.Contains(body, text) {
				return fmt.Errorf("got %d %s (%w)", got, body, err)
			}
		}
		return nil
	})
	if got, _, err := get(r.health, "/healthz"); got != http.StatusOK {
		t.Errorf("it would be restarted: %d, %v", got, err)
	}
}

// sidecar is the stream of the pod's.
type sidecar struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

// open opens one as Envoy does.
func (r *replica) open(t *testing.T, token string) sidecar {
	t.Helper()
	secret, err := r.CoreV1().Secrets(defaultNamespace).Get(t.Context(), "pilot-lite-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for _, text := range secret.Data {
		roots.AppendCertsFromPEM(text)
	}
	o := clusterOptions{namespace: defaultNamespace}
	conn, err := grpc.NewClient(r.xds, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: o.serviceName(), MinVersion: tls.VersionTLS13})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token), patience)
	t.Cleanup(cancel)
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := sidecar{stream}
	s.ask(t, &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: r.namespace + "/" + r.pod.Name}, TypeUrl: xds.ClusterType})
	return s
}

// ask: what the server has ended cannot be sent to; Recv says why.
func (s sidecar) ask(t *testing.T, request *discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	if err := s.Send(request); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// next asks for a resource, where a type is named, acknowledges what comes until it does, and returns its bytes.
func (s sidecar) next(t *testing.T, typeURL, name string) string {
	t.Helper()
	if typeURL != "" {
		s.ask(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: []string{name}})
	}
	for {
		response, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		s.ask(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()})
		for _, r := range response.GetResources() {
			if r.GetName() == name {
				return r.GetResource().String()
			}
		}
	}
}
