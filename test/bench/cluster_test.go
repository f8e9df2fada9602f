package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// The cluster: Services with an equal share of the pods each, and a policy of five rules each, whose callers are the pods of the next five Services. All of it lies in one
// namespace, so that one policy can select everybody.
const (
	namespace      = "bench"
	services       = 100
	rulesPerPolicy = 5
	servicesOfTen  = 10 // that the policy "ten" selects
	writersAtOnce  = 16
	tokenSeconds   = 6 * 3600
	tokenAudience  = "pilot-lite"
	serverName     = "pilot-lite.pilot-lite-system.svc"
	ownNamespace   = "pilot-lite-system"
)

// cluster is an API server with pods.
type cluster struct {
	*apitest.Server
	client   kubernetes.Interface
	policies dynamic.ResourceInterface
	perApp   int
	pods     []pod
	marker   atomic.Int64 // of the last edit
	extra    atomic.Int64 // pods that were added
}

// pod is one that has a sidecar.
type pod struct {
	app     int
	name    string
	address string
	token   string
}

func (p *pod) node() string { return namespace + "/" + p.name }

func appName(app int) string { return fmt.Sprintf("svc-%03d", app%services) }

func newCluster(t testing.TB, sidecars int) *cluster {
	t.Helper()
	if sidecars%services != 0 {
		t.Fatalf("%d sidecars: want a multiple of %d, for as many in each Service", sidecars, services)
	}
	api := apitest.New(t)
	api.InstallCRDs(t)
	manifests := filepath.Join(apitest.Root(t), "manifests")
	api.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	c := &cluster{Server: api, client: kubernetes.NewForConfigOrDie(api.Config()), perApp: sidecars / services}
	c.policies = dynamic.NewForConfigOrDie(api.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource)).Namespace(namespace)
	must(t, func(ctx context.Context) error {
		_, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		return err
	})
	must(t, func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
		return err
	})
	for app := range services {
		for i := range c.perApp {
			c.pods = append(c.pods, pod{app: app, name: fmt.Sprintf("%s-%05d", appName(app), i), address: fmt.Sprintf("10.%d.%d.%d", app, i/250, i%250+1)})
		}
	}
	each(services, func(app int) { c.service(t, app) })
	each(len(c.pods), func(i int) { c.run(t, &c.pods[i]) })
	each(services, func(app int) {
		c.createPolicy(t, appName(app), map[string]any{"matchLabels": map[string]any{"app": appName(app)}}, app)
	})
	return c
}

func must(t testing.TB, do func(context.Context) error) {
	t.Helper()
	if err := do(context.Background()); err != nil {
		t.Error(err)
	}
}

// each does n things, some at a time.
func each(n int, do func(i int)) {
	next := make(chan int)
	var workers sync.WaitGroup
	for range writersAtOnce {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

func (c *cluster) service(t testing.TB, app int) {
	t.Helper()
	name := appName(app)
	must(t, func(ctx context.Context) error {
		_, err := c.client.CoreV1().Services(namespace).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}},
		}}, metav1.CreateOptions{})
		return err
	})
	must(t, func(ctx context.Context) error {
		_, err := c.client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, c.slice(app), metav1.CreateOptions{})
		return err
	})
}

func (c *cluster) slice(app int) *discoveryv1.EndpointSlice {
	port, http := int32(8080), "http"
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: appName(app), Labels: map[string]string{discoveryv1.LabelServiceName: appName(app)}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &http, Port: &port}},
	}
	const mostEndpoints = 100 // of a slice, as the controller of Kubernetes has it
	for i := app * c.perApp; i < (app+1)*c.perApp && len(s.Endpoints) < mostEndpoints; i++ {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{c.pods[i].address}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: c.pods[i].name},
		})
	}
	return s
}

// run makes a pod that runs, and gets its sidecar's token, as the kubelet would.
func (c *cluster) run(t testing.TB, p *pod) {
	t.Helper()
	created := c.createPod(t, p)
	c.address(t, created, p.address)
	must(t, func(ctx context.Context) error {
		seconds := int64(tokenSeconds)
		r, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, "default", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			Audiences: []string{tokenAudience}, ExpirationSeconds: &seconds,
			BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: p.name, UID: created.UID},
		}}, metav1.CreateOptions{})
		if err == nil {
			p.token = r.Status.Token
		}
		return err
	})
}

func (c *cluster) createPod(t testing.TB, p *pod) (created *corev1.Pod) {
	t.Helper()
	no, yes := false, true
	must(t, func(ctx context.Context) (err error) {
		created, err = c.client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: p.name, Labels: map[string]string{
					"app": appName(p.app), "group": fmt.Sprint("g", p.app/servicesOfTen), "pod-template-hash": "5d4f7c9b8d",
					v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "default",
				},
				// That of one Deployment's pods: they are one workload.
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: appName(p.app) + "-5d4f7c9b8d", UID: "u", Controller: &yes}},
			},
			Spec: corev1.PodSpec{
				NodeName: "node-1", AutomountServiceAccountToken: &no,
				Containers: []corev1.Container{{Name: "app", Image: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}},
			},
		}, metav1.CreateOptions{})
		return err
	})
	return created
}

// address gives a pod its address, as the kubelet does when its sandbox stands.
func (c *cluster) address(t testing.TB, p *corev1.Pod, address string) {
	t.Helper()
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}, HostIP: "192.0.2.1",
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}},
	}
	must(t, func(ctx context.Context) error {
		_, err := c.client.CoreV1().Pods(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
}

// ingress are the five rules of a policy. The first names a path with a marker, by which the content is known again where it arrives.
func ingress(app int, marker int64) []any {
	var out []any
	for i := range rulesPerPolicy {
		path := fmt.Sprintf("/%s/%d", appName(app), i)
		if i == 0 {
			path = markerText(marker)
		}
		out = append(out, map[string]any{
			"name": fmt.Sprint("rule-", i),
			"from": []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": appName(app + i + 1)}}}},
			"http": []any{map[string]any{"methods": []any{"GET"}, "paths": []any{map[string]any{"type": "PathPrefix", "value": path}}}},
		})
	}
	return out
}

func (c *cluster) createPolicy(t testing.TB, name string, selector map[string]any, app int) {
	t.Helper()
	p := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"podSelector": selector, "ingress": ingress(app, c.marker.Add(1))}}}
	p.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	p.SetName(name)
	must(t, func(ctx context.Context) error {
		_, err := c.policies.Create(ctx, p, metav1.CreateOptions{})
		return err
	})
}

// edit writes a policy's rules anew, and returns the marker that they carry.
func (c *cluster) edit(t testing.TB, name string, app int) int64 {
	t.Helper()
	marker := c.marker.Add(1)
	c.patch(t, name, map[string]any{"spec": map[string]any{"ingress": ingress(app, marker)}})
	return marker
}

// rewrite writes a policy's present rules again; its status may be written in between.
func (c *cluster) rewrite(t testing.TB, name string) {
	t.Helper()
	must(t, func(ctx context.Context) error {
		return retry.RetryOnConflict(retry.DefaultRetry, func() error {
			p, err := c.policies.Get(ctx, name, metav1.GetOptions{})
			if err == nil {
				_, err = c.policies.Update(ctx, p, metav1.UpdateOptions{})
			}
			return err
		})
	})
}

func (c *cluster) patch(t testing.TB, policy string, patch map[string]any) {
	t.Helper()
	body, err := json.Marshal(patch)
	if err != nil {
		t.Fatal(err)
	}
	must(t, func(ctx context.Context) error {
		_, err := c.policies.Patch(ctx, policy, types.MergePatchType, body, metav1.PatchOptions{})
		return err
	})
}

func (c *cluster) deletePolicy(t testing.TB, name string) {
	t.Helper()
	must(t, func(ctx context.Context) error { return c.policies.Delete(ctx, name, metav1.DeleteOptions{}) })
}
