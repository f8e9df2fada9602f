package podauth_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/podauth"
)

// realCluster is a real API server, with a pod of the account "cart", and the control plane's own rights in it.
type realCluster struct {
	t         testing.TB
	server    *apitest.Server
	admin     kubernetes.Interface
	own       kubernetes.Interface // may do what manifests/rbac.yaml says
	ownConfig *rest.Config
	namespace string
	pod       *corev1.Pod
	requests  atomic.Int32 // for keys
}

func newRealCluster(t *testing.T) *realCluster {
	t.Helper()
	s := apitest.New(t)
	s.Apply(t, apitest.Root(t)+"/manifests/namespace.yaml", apitest.Root(t)+"/manifests/rbac.yaml")
	config := s.User("system:serviceaccount:pilot-lite-system:pilot-lite", "system:authenticated")
	c := &realCluster{t: t, server: s, admin: kubernetes.NewForConfigOrDie(s.Config()), ownConfig: rest.CopyConfig(config)}
	config.AcceptContentTypes, config.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf"
	c.own = kubernetes.NewForConfigOrDie(config)
	t.Cleanup(func() { apitest.CloseIdle(c.admin, c.own) })
	c.namespace = s.Namespace(t, "shop", nil)
	if _, err := c.admin.CoreV1().ServiceAccounts(c.namespace).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "cart"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.pod = c.run("cart-1")
	return c
}

// run makes a pod of the account, bound to a node that there need not be.
func (c *realCluster) run(name string) *corev1.Pod {
	c.t.Helper()
	no := false
	p, err := c.admin.CoreV1().Pods(c.namespace).Create(c.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: "node", ServiceAccountName: "cart", AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "c", Image: "c"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// remove deletes a pod at once: there is no kubelet that would let it end.
func (c *realCluster) remove(name string) {
	c.t.Helper()
	at := int64(0)
	if err := c.admin.CoreV1().Pods(c.namespace).Delete(c.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &at}); err != nil {
		c.t.Fatal(err)
	}
}

// token asks for a token as the kubelet does; without a pod it is the account's alone.
func (c *realCluster) token(audience string, pod *corev1.Pod) string {
	c.t.Helper()
	spec := authenticationv1.TokenRequestSpec{}
	if audience != "" {
		spec.Audiences = []string{audience}
	}
	if pod != nil {
		spec.BoundObjectRef = &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID}
	}
	r, err := c.admin.CoreV1().ServiceAccounts(c.namespace).CreateToken(c.t.Context(), "cart", &authenticationv1.TokenRequest{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Status.Token
}

// config is an authenticator's that reads pods and accounts where it needs them, in place of informers.
func (c *realCluster) config() podauth.Config {
	raw := podauth.FromAPIServer(c.own.Discovery().RESTClient())
	return podauth.Config{
		Audience: audience, Review: podauth.ReviewBy(c.own.AuthenticationV1().TokenReviews()),
		Raw: func(ctx context.Context, path string) ([]byte, error) {
			c.requests.Add(1)
			return raw(ctx, path)
		},
		Pod: func(namespace, name string) (podauth.Pod, bool) {
			p, err := c.admin.CoreV1().Pods(namespace).Get(context.Background(), name, metav1.GetOptions{})
			return podauth.Pod{UID: string(p.UID), ServiceAccount: p.Spec.ServiceAccountName}, err == nil
		},
		Account: func(namespace, name string) (string, bool) {
			a, err := c.admin.CoreV1().ServiceAccounts(namespace).Get(context.Background(), name, metav1.GetOptions{})
			return string(a.UID), err == nil
		},
	}
}

// Tokens of a real API server, read with the rights that the manifests give: those that a sidecar has are accepted, others are not, by the published keys and by
// asking alike.
func TestTokensOfARealAPIServer(t *testing.T) {
	t.Parallel()
	c := newRealCluster(t)
	unpublished := c.config()
	unpublished.Raw = func(context.Context, string) ([]byte, error) { return nil, notFound() }
	for how, a := range map[string]*podauth.Authenticator{"published keys": podauth.New(c.config()), "reviews": podauth.New(unpublished)} {
		good := c.token(audience, c.pod)
		proof, err := present(a, good)
		if err != nil || proof.Node != c.namespace+"/cart-1" || proof.UID != string(c.pod.UID) || proof.Account != "cart" || time.Until(proof.Expires) < 50*time.Minute {
			t.Errorf("%s: %+v, %v", how, proof, err)
		}
		for what, token := range map[string]string{
			"another audience": c.token("vault", c.pod), "the API server's audience": c.token("", c.pod), "bound to no pod": c.token(audience, nil),
		} {
			_, err := present(a, token)
			wants(t, how+", "+what, codes.Unauthenticated, err)
		}
		again := c.run("cart-0")
		token := c.token(audience, again)
		_, err = present(a, token)
		wants(t, how+", another pod", codes.OK, err)
		c.remove("cart-0")
		_, err = present(a, token)
		wants(t, how+", a pod that is gone", codes.Unavailable, err)
		c.run("cart-0")
		_, err = present(a, token)
		wants(t, how+", a pod that was made anew", codes.Unauthenticated, err)
		c.remove("cart-0")
	}
	if n := c.requests.Load(); n != 2 {
		t.Errorf("%d requests for keys", n)
	}
}

// A real API server goes away, and comes back with another key: who is known comes back at once, and new tokens are accepted with the first that shows the key.
func TestARealAPIServerRotatesItsKey(t *testing.T) {
	t.Parallel()
	c := newRealCluster(t)
	config := c.config()
	uid := string(c.pod.UID) // as an informer that goes on with what it has
	config.Pod = func(string, string) (podauth.Pod, bool) { return podauth.Pod{UID: uid, ServiceAccount: "cart"}, true }
	config.Account = nil
	a := podauth.New(config)
	old := c.token(audience, c.pod)
	_, err := present(a, old)
	wants(t, "before", codes.OK, err)
	c.server.Stop()
	_, err = present(a, old)
	wants(t, "while it is away", codes.OK, err)
	_, err = present(podauth.New(config), old)
	wants(t, "while it is away, at a control plane that just started", codes.Unavailable, err)
	c.server.RotateAccountKey()
	c.server.Restart()
	fresh := c.token(audience, c.pod)
	apitest.Eventually(t, 20*time.Second, "the new key's token is accepted", func() error {
		_, err := present(a, fresh)
		return err
	})
	_, err = present(a, old)
	wants(t, "the old key's token", codes.OK, err)
	if n := c.requests.Load(); n > 10 {
		t.Errorf("%d requests for keys", n)
	}
}

// Everything together, as in a cluster: informers with the manifests' rights, a real API server's tokens, streams over TLS. They end, and are not let in again, when
// the pod or the service account is deleted or made anew.
func TestStreamsOfARealCluster(t *testing.T) {
	t.Parallel()
	c := newRealCluster(t)
	c.server.InstallCRDs(t)
	policies, err := kube.NewPolicies(c.ownConfig)
	if err != nil {
		t.Fatal(err)
	}
	source := kube.NewSource(kube.Config{Client: c.own, Policies: policies, Namespace: "pilot-lite-system"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = source.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	apitest.Eventually(t, 30*time.Second, "everything was listed", func() error {
		if waiting := source.Waiting(); len(waiting) > 0 {
			return fmt.Errorf("waiting for %v", waiting)
		}
		return nil
	})
	config := c.config()
	config.Account = source.Account
	config.Pod = func(namespace, name string) (podauth.Pod, bool) {
		p, found := source.Pod(namespace, name)
		return podauth.Pod{UID: p.UID, ServiceAccount: p.ServiceAccount, Ended: p.Ended}, found
	}
	node := c.namespace + "/cart-1"
	p := serve(t, cacheOf(t, map[string]string{node: string(c.pod.UID)}), config)
	open := func(token string) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
		return p.open(credentials.NewTLS(p.tls()), "Bearer "+token, node)
	}
	served := func(token string) (stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) {
		t.Helper()
		apitest.Eventually(t, 20*time.Second, "it is served", func() error {
			stream = open(token)
			_, err := stream.Recv()
			return err
		})
		return stream
	}
	accounts := c.admin.CoreV1().ServiceAccounts(c.namespace)
	token := c.token(audience, c.pod)
	stream := served(token)
	if err := accounts.Delete(t.Context(), "cart", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wants(t, "the account is gone", codes.Unavailable, err)
	_, err = open(token).Recv()
	wants(t, "the account is gone, as it comes back", codes.Unavailable, err)

	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "cart"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	fresh := c.token(audience, c.pod)
	stream = served(fresh)
	_, err = open(token).Recv()
	wants(t, "a token of the earlier account", codes.Unauthenticated, err)
	c.remove("cart-1")
	_, err = stream.Recv()
	wants(t, "the pod is gone", codes.Unavailable, err)
	c.run("cart-1")
	apitest.Eventually(t, 20*time.Second, "the new pod is known", func() error {
		_, err := open(fresh).Recv()
		if status.Code(err) == codes.Unauthenticated {
			return nil
		}
		return err
	})
}
