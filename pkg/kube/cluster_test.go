package kube_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	system = "pilot-lite-system"
	// account has the rights that the manifests grant.
	account = "system:serviceaccount:" + system + ":pilot-lite"
	// staleAfter stands for the minute that production waits.
	staleAfter = 3 * time.Second
	// patience is for a busy machine: nothing here is measured by it.
	patience = 90 * time.Second
	// marker is the name of one object of each kind, which no fault may take away; crowd is how many pods more.
	marker = "marker"
	crowd  = 6
)

// cluster is an API server with the manifests' rights, and a namespace with a marker of each kind.
type cluster struct {
	*apitest.Server
	kubernetes.Interface

	policies  dynamic.ResourceInterface
	namespace string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	s := apitest.New(t)
	s.InstallCRDs(t)
	manifests := filepath.Join(apitest.Root(t), "manifests")
	s.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	c := &cluster{Server: s, Interface: kubernetes.NewForConfigOrDie(s.Config()), namespace: s.Namespace(t, "shop", nil)}
	c.policies = dynamic.NewForConfigOrDie(s.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource)).Namespace(c.namespace)
	c.mark(t)
	return c
}

func must[T any](t *testing.T, made T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func (c *cluster) mark(t *testing.T) {
	t.Helper()
	ctx, o := t.Context(), metav1.CreateOptions{}
	_, err := c.CoreV1().Services(c.namespace).Create(ctx, &corev1.Service{ObjectMeta: named(marker), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, o)
	must(t, c, err)
	_, err = c.DiscoveryV1().EndpointSlices(c.namespace).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: marker, Labels: map[string]string{discoveryv1.LabelServiceName: marker}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.9.9.9"}}},
	}, o)
	must(t, c, err)
	_, err = c.NetworkingV1().NetworkPolicies(c.namespace).Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: named(marker)}, o)
	must(t, c, err)
	_, err = c.CoreV1().ConfigMaps(system).Create(ctx, &corev1.ConfigMap{ObjectMeta: named(convert.MeshConfigMap), Data: map[string]string{convert.MeshConfigKey: "spec: {trustDomain: marker.test}"}}, o)
	must(t, c, err)
	c.pod(t, marker)
	for i := range crowd {
		c.pod(t, fmt.Sprintf("crowd-%d", i))
	}
	c.policy(t, marker, 1)
}

func (c *cluster) pod(t *testing.T, name string) {
	t.Helper()
	no := false
	_, err := c.CoreV1().Pods(c.namespace).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "node", AutomountServiceAccountToken: &no, Containers: []corev1.Container{{Name: "c", Image: "c"}}},
	}, metav1.CreateOptions{})
	must(t, c, err)
}

func (c *cluster) removePod(t *testing.T, name string) {
	t.Helper()
	at := int64(0)
	must(t, c, c.CoreV1().Pods(c.namespace).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &at}))
}

// policy applies a policy whose content differs with n, and returns its generation.
func (c *cluster) policy(t *testing.T, name string, n int) int64 {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"podSelector": map[string]any{"matchLabels": map[string]any{"app": name}},
		"ingress":     []any{map[string]any{"ports": []any{map[string]any{"port": int64(n)}}}},
	}}}
	o.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	o.SetName(name)
	got, err := c.policies.Apply(t.Context(), name, o, metav1.ApplyOptions{FieldManager: "test", Force: true})
	return must(t, got, err).GetGeneration()
}

// story is what happens to one pod and one policy of a name, chapter by chapter: the policy is edited, and the pod replaced by one of another name.
type story struct {
	c          *cluster
	name       string
	chapter    int
	generation int64
}

func (c *cluster) story(t *testing.T, name string) *story {
	t.Helper()
	s := &story{c: c, name: name}
	s.next(t)
	return s
}

func (s *story) pod() string { return fmt.Sprintf("%s-%d", s.name, s.chapter) }

func (s *story) next(t *testing.T) {
	t.Helper()
	if s.chapter > 0 {
		s.c.removePod(t, s.pod())
	}
	s.chapter++
	s.c.pod(t, s.pod())
	s.generation = s.c.policy(t, s.name, s.chapter)
}

// told says what a snapshot lacks of the present chapter, or has of another.
func (s *story) told(snapshot *model.Snapshot) error {
	for i := range snapshot.Pods {
		if name := snapshot.Pods[i].Name; strings.HasPrefix(name, s.name+"-") && name != s.pod() {
			return fmt.Errorf("pod %s is there, want %s", name, s.pod())
		}
	}
	if !slices.ContainsFunc(snapshot.Pods, func(p *model.Pod) bool { return p.Name == s.pod() }) {
		return fmt.Errorf("there is no pod %s", s.pod())
	}
	for i := range snapshot.Policies {
		if p := snapshot.Policies[i]; p.Name == s.name {
			if p.Generation != s.generation {
				return fmt.Errorf("policy %s has generation %d, want %d", s.name, p.Generation, s.generation)
			}
			return nil
		}
	}
	return fmt.Errorf("there is no policy %s", s.name)
}

// view is what a source makes of the cluster, behind a proxy of its own, with the manifests' rights. From its first snapshot on every marker is in every snapshot.
type view struct {
	*kube.Source
	c        *cluster
	proxy    *apitest.Proxy
	registry *prometheus.Registry
	log      journal
	stop     func()

	mu        sync.Mutex
	lost      map[string]bool // markers that are let go
	snapshots int
}

// view starts a source of the clients that production makes.
func (c *cluster) view(t *testing.T) *view {
	t.Helper()
	return c.viewBy(t, c.User(account), staleAfter)
}

func (c *cluster) viewBy(t *testing.T, who *rest.Config, staleAfter time.Duration) *view {
	t.Helper()
	proxy := c.Proxy(t)
	clients, err := kube.NewClients(proxy.Through(who), "test")
	must(t, c, err)
	v := &view{c: c, proxy: proxy, registry: prometheus.NewRegistry(), lost: map[string]bool{}}
	v.Source = kube.NewSource(kube.Config{
		Client: clients.Client, Policies: clients.Policies, Namespace: system, StaleAfter: staleAfter, Metrics: kube.NewMetrics(v.registry),
		Logger: slog.New(slog.NewTextHandler(&v.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = v.Run(ctx) })
	running.Go(func() { v.guard(t, ctx) })
	v.stop = func() {
		proxy.Heal()
		cancel()
		running.Wait()
	}
	t.Cleanup(func() {
		v.stop()
		if t.Failed() {
			t.Logf("what the source told:\n%s", v.log.String())
		}
	})
	return v
}

// guard looks at every snapshot that there is, as soon as it is.
func (v *view) guard(t *testing.T, ctx context.Context) {
	t.Helper()
	complete := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.Changed():
		case <-time.After(time.Millisecond):
		}
		s, known := v.Snapshot()
		if complete && !known {
			t.Error("what was complete is not any more")
			return
		}
		if complete = known; !known {
			continue
		}
		v.mu.Lock()
		v.snapshots++
		for _, name := range missing(v, s) {
			if !v.lost[name] {
				t.Errorf("a snapshot lacks the %s", name)
				v.lost[name] = true
			}
		}
		v.mu.Unlock()
	}
}

// missing are the kinds whose marker is not in a snapshot.
func missing(v *view, s *model.Snapshot) []string {
	is := func(namespace, name string) bool { return namespace == v.c.namespace && name == marker }
	inCrowd := 0
	for i := range s.Pods {
		if p := s.Pods[i]; p.Namespace == v.c.namespace && strings.HasPrefix(p.Name, "crowd-") {
			inCrowd++
		}
	}
	var out []string
	for kind, found := range map[string]bool{
		"namespace":     slices.ContainsFunc(s.Namespaces, func(n model.Namespace) bool { return n.Name == v.c.namespace && len(n.Labels) > 0 }),
		"pod":           slices.ContainsFunc(s.Pods, func(p *model.Pod) bool { return is(p.Namespace, p.Name) }),
		"crowd":         inCrowd == crowd,
		"service":       slices.ContainsFunc(s.Services, func(x model.Service) bool { return is(x.Namespace, x.Name) }),
		"policy":        slices.ContainsFunc(s.Policies, func(p *model.Policy) bool { return is(p.Namespace, p.Name) }),
		"networkpolicy": slices.ContainsFunc(s.NetworkPolicies, func(p *networkingv1.NetworkPolicy) bool { return is(p.Namespace, p.Name) }),
		"mesh":          s.Mesh.TrustDomain == "marker.test",
		"endpoints":     len(v.Endpoints(v.c.namespace, marker)) == 1,
	} {
		if !found {
			out = append(out, kind)
		}
	}
	if _, found := v.Account(v.c.namespace, "default"); !found {
		out = append(out, "account")
	}
	return out
}

// letGo allows a marker to be lost.
func (v *view) letGo(kind string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lost[kind] = true
}

// tells waits until the snapshot tells a story as it stands.
func (v *view) tells(t *testing.T, when string, s *story) {
	t.Helper()
	apitest.Eventually(t, patience, "the snapshot is that of the cluster "+when, func() error { return v.told(s) })
}

func (v *view) told(s *story) error {
	snapshot, complete := v.Snapshot()
	if !complete {
		return fmt.Errorf("it is not complete: waiting for %v", v.Waiting())
	}
	return s.told(snapshot)
}

// kinds are all that a source follows.
func kinds() []string {
	return []string{"configmaps", "endpointslices", "l7policies", "namespaces", "networkpolicies", "pods", "serviceaccounts", "services"}
}

// stale waits until exactly these kinds are stale.
func (v *view) stale(t *testing.T, when string, want ...string) {
	t.Helper()
	apitest.Eventually(t, patience, fmt.Sprintf("%v are stale %s", want, when), func() error {
		if got := slices.Sorted(slices.Values(v.Stale(time.Now()))); !slices.Equal(got, want) {
			return fmt.Errorf("got %v", got)
		}
		return nil
	})
}

// says waits until all of these stand in one line of the log.
func (v *view) says(t *testing.T, parts ...string) {
	t.Helper()
	apitest.Eventually(t, patience, fmt.Sprintf("the log says %q", parts), func() error {
		for line := range strings.Lines(v.log.String()) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

// metric is the sum of a metric's values whose labels have these values.
func (v *view) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := v.registry.Gather()
	must(t, v, err)
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var has []string
			for _, l := range m.GetLabel() {
				has = append(has, l.GetValue())
			}
			if f.GetName() == name && !slices.ContainsFunc(labels, func(l string) bool { return !slices.Contains(has, l) }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// journal is a log that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
