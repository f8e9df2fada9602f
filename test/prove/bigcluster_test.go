package prove_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// A big cluster: 1,000 Services with 10 pods, an EndpointSlice and a policy each, in 50 namespaces. A storm is 5,000 pods more within a minute.
const (
	bigNamespaces, bigApps, bigPods = 50, 20, 10
	stormPods                       = 5000
	stormTime                       = time.Minute
	writersAtOnce                   = 16
)

// BenchmarkBigCluster measures what the control plane needs for a big cluster, read from a real API server, as the leader that applies the companions and writes the
// statuses; and then through a storm. Run it with -benchtime=1x: it takes some minutes.
func BenchmarkBigCluster(b *testing.B) {
	s := &stage{t: b, run: filepath.Dir(envoytest.AdminSocket(b))}
	c := newBigCluster(b)
	for b.Loop() {
		began := time.Now()
		s.serveCluster(c.Server)
		s.settled(b, "the cluster is served", 10*time.Minute, func() error {
			if code, text, err := s.admin("/readyz"); code != 200 {
				return fmt.Errorf("%s (%w)", text, err)
			}
			return nil
		})
		b.ReportMetric(time.Since(began).Seconds(), "s/ready")
		b.ReportMetric(s.memory("VmRSS"), "MiB-ready")
		s.settled(b, "the companions stand", 10*time.Minute, func() error {
			if pending := s.metric("pilot_lite_companions{phase=\"Pending\"}"); pending > 0 || s.metric("pilot_lite_companions") == 0 {
				return fmt.Errorf("%g are pending", pending)
			}
			return nil
		})
		b.ReportMetric(time.Since(began).Seconds(), "s/companions")
		b.ReportMetric(s.metric("pilot_lite_companions"), "companions")
		b.ReportMetric(s.memory("VmRSS"), "MiB-RSS")
		b.ReportMetric(s.memory("RssFile"), "MiB-program") // the program's own pages, which the kernel takes back when it needs them
		b.ReportMetric(s.memory("VmHWM"), "MiB-peak")

		before, busy, spent := s.metric("pilot_lite_rebuild_seconds_count"), s.metric("pilot_lite_rebuild_seconds_sum"), s.metric("process_cpu_seconds_total")
		c.storm(b)
		last := s.metric("pilot_lite_rebuild_seconds_count")
		s.settled(b, "nothing is rebuilt any more", time.Minute, func() error {
			if n := s.metric("pilot_lite_rebuild_seconds_count"); n != last {
				last = n
				return fmt.Errorf("%g rebuilds", n)
			}
			return nil
		})
		b.ReportMetric(last-before, "storm-rebuilds")
		b.ReportMetric(s.metric("process_cpu_seconds_total")-spent, "storm-cpu-s")
		b.ReportMetric(s.memory("VmRSS"), "storm-MiB-RSS")
		b.ReportMetric(s.memory("VmHWM"), "storm-MiB-peak")
		b.ReportMetric(s.metric("pilot_lite_rebuild_seconds_sum")-busy, "storm-rebuilding-s")
		s.kill()
	}
}

// serveCluster starts the server as it runs in a cluster, with the manifests' rights.
func (s *stage) serveCluster(api *apitest.Server) {
	s.t.Helper()
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(os.Getenv(binaryVariable), "serve", "--kubeconfig", apitest.Kubeconfig(s.t, api.User("system:serviceaccount:pilot-lite-system:pilot-lite", "system:authenticated")),
		"--xds-address", "127.0.0.1:0", "--admin-address", s.adminAddress(), "--health-address", "127.0.0.1:0", "--webhook-address", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "POD_NAME=pilot-lite-0", "GOGC=40", "GOMEMLIMIT=460MiB") // as manifests/deployment.yaml has it
	s.launch(cmd, log)
}

// settled waits until check returns nil, asking seldom: asking costs what is measured.
func (s *stage) settled(b *testing.B, what string, within time.Duration, check func() error) {
	b.Helper()
	var err error
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	b.Fatalf("%s: not within %s: %v\n%s", what, within, err, s.log()[:4000])
}

// metric is the sum of the series that begin so.
func (s *stage) metric(prefix string) float64 {
	_, body, err := s.admin("/metrics")
	if err != nil {
		return 0
	}
	sum := 0.0
	for scanner := bufio.NewScanner(strings.NewReader(body)); scanner.Scan(); {
		name, text, _ := strings.Cut(scanner.Text(), " ")
		if bare, _, _ := strings.Cut(name, "{"); bare != prefix && !strings.HasPrefix(name, prefix) || strings.HasPrefix(name, prefix+"_") {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(text, &value); err == nil {
			sum += value
		}
	}
	return sum
}

type bigCluster struct {
	*apitest.Server
	kubernetes.Interface

	policies dynamic.NamespaceableResourceInterface
}

func newBigCluster(b *testing.B) *bigCluster {
	b.Helper()
	api := apitest.New(b)
	api.InstallCRDs(b)
	manifests := filepath.Join(apitest.Root(b), "manifests")
	api.Apply(b, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	c := &bigCluster{Server: api, Interface: kubernetes.NewForConfigOrDie(api.Config())}
	c.policies = dynamic.NewForConfigOrDie(api.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource))
	for n := range bigNamespaces {
		namespace := fmt.Sprintf("ns-%02d", n)
		c.must(b, func(ctx context.Context) error {
			_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
			return err
		})
		c.must(b, func(ctx context.Context) error {
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
			_, err := c.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
			return err
		})
	}
	began := time.Now()
	c.each(b, bigNamespaces*bigApps, func(i int) { c.app(b, i/bigApps, i%bigApps) })
	b.Logf("the cluster was made in %s", time.Since(began).Round(time.Second))
	return c
}

func (c *bigCluster) must(b *testing.B, do func(context.Context) error) {
	b.Helper()
	if err := do(b.Context()); err != nil {
		b.Error(err)
	}
}

// each does n things, some at a time.
func (c *bigCluster) each(b *testing.B, n int, do func(i int)) {
	b.Helper()
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

// app makes a Service, its pods and endpoints, and its policy.
func (c *bigCluster) app(b *testing.B, n, a int) {
	b.Helper()
	namespace, app := fmt.Sprintf("ns-%02d", n), fmt.Sprintf("app-%02d", a)
	c.must(b, func(ctx context.Context) error {
		_, err := c.CoreV1().Services(namespace).Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: app}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: "http", Port: 8080}},
		}}, metav1.CreateOptions{})
		return err
	})
	port, http := int32(8080), "http"
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: app + "-abcde", Labels: map[string]string{discoveryv1.LabelServiceName: app}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &http, Port: &port}},
	}
	for i := range bigPods {
		name, address := fmt.Sprintf("%s-5d4f7c9b8d-%05d", app, i), fmt.Sprintf("10.%d.%d.%d", n, a, i+1)
		c.pod(b, namespace, app, name, address)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: name}})
	}
	c.must(b, func(ctx context.Context) error {
		_, err := c.DiscoveryV1().EndpointSlices(namespace).Create(ctx, slice, metav1.CreateOptions{})
		return err
	})
	peer := func(of int) []any {
		return []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": fmt.Sprintf("app-%02d", (a+of)%bigApps)}}}}
	}
	policy := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"podSelector": map[string]any{"matchLabels": map[string]any{"app": app}},
		"ingress": []any{
			map[string]any{"name": "reads", "from": peer(1), "ports": []any{map[string]any{"port": int64(8080)}}, "http": []any{
				map[string]any{"methods": []any{"GET"}, "paths": []any{map[string]any{"type": "PathPrefix", "value": "/" + app}}},
			}},
			map[string]any{"name": "db", "from": peer(2), "ports": []any{map[string]any{"port": int64(5432)}}},
		},
	}}}
	policy.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	policy.SetName(app)
	c.must(b, func(ctx context.Context) error {
		_, err := c.policies.Namespace(namespace).Create(ctx, policy, metav1.CreateOptions{})
		return err
	})
}

// pod makes a pod of a usual size, bound and with an address.
func (c *bigCluster) pod(b *testing.B, namespace, app, name, address string) {
	b.Helper()
	no, yes := false, true
	container := corev1.Container{
		Name: "app", Image: "registry.example.org/" + app + ":v1.2.3", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}, {Name: "db", ContainerPort: 5432}},
		LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}},
	}
	container.LivenessProbe.TCPSocket.Port.IntVal = 8080
	for i := range 20 {
		container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", i), Value: strings.Repeat("x", 40)})
	}
	c.must(b, func(ctx context.Context) error {
		p, err := c.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Labels: map[string]string{"app": app, "version": "v1", "pod-template-hash": "5d4f7c9b8d", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "default"},
				Annotations:     map[string]string{"example.org/checksum": strings.Repeat("c", 64)},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: app + "-5d4f7c9b8d", UID: "u", Controller: &yes}},
			},
			Spec: corev1.PodSpec{NodeName: "node-1", AutomountServiceAccountToken: &no, Containers: []corev1.Container{container}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}, HostIP: "192.0.2.1"}
		for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.PodInitialized, corev1.ContainersReady, corev1.PodScheduled} {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		}
		_, err = c.CoreV1().Pods(namespace).UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
}

// storm makes pods at an even pace, as far as the API server keeps up.
func (c *bigCluster) storm(b *testing.B) {
	b.Helper()
	pace := time.NewTicker(stormTime / stormPods)
	defer pace.Stop()
	began := time.Now()
	c.each(b, stormPods, func(i int) {
		<-pace.C
		n, a := i%bigNamespaces, i/bigNamespaces%bigApps
		c.pod(b, fmt.Sprintf("ns-%02d", n), fmt.Sprintf("app-%02d", a), fmt.Sprintf("storm-%05d", i), fmt.Sprintf("10.%d.%d.%d", 100+i/62500, i/250%250, i%250+1))
	})
	b.ReportMetric(time.Since(began).Seconds(), "storm-s")
}
