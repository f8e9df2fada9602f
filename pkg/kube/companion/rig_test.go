package companion_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// world is an API server, what is read from it, and what is made of that. Planes write to it.
type world struct {
	*apitest.Server
	admin  kubernetes.Interface
	source *kube.Source

	mu      sync.Mutex
	desired companion.Desired
	known   bool
	planes  []*plane
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: apitest.New(t)}
	w.InstallCRDs(t)
	manifests := filepath.Join(apitest.Root(t), "manifests")
	// Without the admission policy on companions, which refuses some of what is tried here.
	w.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	w.admin = kubernetes.NewForConfigOrDie(w.Config())
	policies, err := kube.NewPolicies(w.Config())
	if err != nil {
		t.Fatal(err)
	}
	w.source = kube.NewSource(kube.Config{Client: w.admin, Policies: policies, Namespace: "pilot-lite-system"})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	running.Go(func() { _ = w.source.Run(ctx) })
	running.Go(func() {
		var translator translate.Translator
		var indexer model.Indexer
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.source.NetworkPoliciesChanged():
			case <-w.source.Changed():
				if s, complete := w.source.Snapshot(); complete {
					out := translator.Translate(indexer.Index(s))
					w.set(companion.Desired{Companions: out.Companions, Policies: s.Policies})
				}
			}
			w.poke()
		}
	})
	return w
}

func (w *world) set(d companion.Desired) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.desired, w.known = d, true
}

func (w *world) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.planes {
		p.Poke()
	}
}

// plane is a controller that knows one namespace, and whose requests can be counted and spoilt.
type plane struct {
	*companion.Controller
	world     *world
	namespace string
	requests  atomic.Int64
	looks     atomic.Int64 // at what is desired: one a comparison
	spoil     atomic.Pointer[func(*http.Request) (*http.Response, error)]
	follower  atomic.Bool                       // another leads
	frozen    atomic.Pointer[companion.Desired] // an old view
	stop      func()
	states    map[string]companion.State // that were told, by the policy's UID

	// Guarded by the world's lock.
	companions ours[netpol.Companion]
	policies   ours[*model.Policy]
	standing   ours[*networkingv1.NetworkPolicy]
}

// ours is the part of a list that is in one namespace: the same while the list is, as a control plane's own lists are.
type ours[T any] struct{ list, part []T }

func (o *ours[T]) of(list []T, is func(T) bool) []T {
	if o.list == nil || !model.SameSlice(o.list, list) {
		o.list, o.part = list, nil
		for _, x := range list {
			if is(x) {
				o.part = append(o.part, x)
			}
		}
	}
	return o.part
}

// plane starts a controller for a namespace.
func (w *world) plane(t *testing.T, namespace string) *plane {
	t.Helper()
	p := w.idlePlane(t, namespace)
	p.start(t)
	return p
}

// account has the rights that the manifests grant.
const account = "system:serviceaccount:pilot-lite-system:pilot-lite"

func (w *world) idlePlane(t *testing.T, namespace string) *plane {
	t.Helper()
	p := &plane{world: w, namespace: namespace, states: map[string]companion.State{}}
	config := w.User(account)
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return &spoiler{rt, p} })
	policies, err := kube.NewPolicies(w.User(account))
	if err != nil {
		t.Fatal(err)
	}
	p.Controller = companion.New(companion.Config{
		Client: kubernetes.NewForConfigOrDie(config).NetworkingV1(), Standing: p, Desired: p.desired, Leads: func() bool { return !p.follower.Load() }, Logger: slog.New(slog.DiscardHandler),
		Live: policies.Ref,
	})
	return p
}

func (p *plane) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	p.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(p.stop)
	p.world.mu.Lock()
	p.world.planes = append(p.world.planes, p)
	p.world.mu.Unlock()
	running.Go(func() { p.Run(ctx) })
}

// NetworkPolicies are those of the plane's namespace.
func (p *plane) NetworkPolicies() []*networkingv1.NetworkPolicy {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return p.standing.of(p.world.source.NetworkPolicies(), func(np *networkingv1.NetworkPolicy) bool { return np.Namespace == p.namespace })
}

// look waits until everything was compared anew, and what that started has begun.
func (p *plane) look(t *testing.T) {
	t.Helper()
	const enough = 3
	target := p.looks.Load() + enough
	apitest.Eventually(t, within, "everything is compared", func() error {
		p.Poke()
		if n := p.looks.Load(); n < target {
			return fmt.Errorf("%d comparisons, want %d", n, target)
		}
		return nil
	})
}

func (p *plane) desired() (companion.Desired, bool) {
	p.looks.Add(1)
	if d := p.frozen.Load(); d != nil {
		return *d, true
	}
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return companion.Desired{
		Companions: p.companions.of(p.world.desired.Companions, func(c netpol.Companion) bool { return c.NetworkPolicy.Namespace == p.namespace }),
		Policies:   p.policies.of(p.world.desired.Policies, func(q *model.Policy) bool { return q.Namespace == p.namespace }),
	}, p.world.known
}

// spoiler counts requests and lets a test answer them.
type spoiler struct {
	http.RoundTripper
	p *plane
}

func (s *spoiler) RoundTrip(r *http.Request) (*http.Response, error) {
	s.p.requests.Add(1)
	if f := s.p.spoil.Load(); f != nil {
		if resp, err := (*f)(r); resp != nil || err != nil {
			return resp, err
		}
	}
	return s.RoundTripper.RoundTrip(r)
}

// answer is a Status of the API server.
func answer(r *http.Request, code int, reason metav1.StatusReason, message string) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":%q}`, code, reason, message)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: readCloser{strings.NewReader(body)}, Request: r,
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// apply writes an L7Policy and returns it as it stands.
func (w *world) apply(t *testing.T, namespace, text string) model.PolicyRef {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetNamespace(namespace)
	o.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	got, err := w.policies(namespace).Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return model.PolicyRef{Namespace: namespace, Name: got.GetName(), UID: string(got.GetUID()), Generation: got.GetGeneration()}
}

func (w *world) policies(namespace string) dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(w.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource)).Namespace(namespace)
}

// Within is how soon everything must be right again.
const within = 5 * time.Second

// stands waits until a policy's companions stand for its generation.
func (p *plane) stands(t *testing.T, ref model.PolicyRef) {
	t.Helper()
	p.reaches(t, ref, companion.Stands)
}

func (p *plane) reaches(t *testing.T, ref model.PolicyRef, want companion.Phase) companion.State {
	t.Helper()
	var got companion.State
	apitest.Eventually(t, within, fmt.Sprintf("the companions of %s are %s", ref.Name, want), func() error {
		maps.Copy(p.states, p.Take())
		if got = p.states[ref.UID]; got.Phase != want || got.Generation != ref.Generation {
			return fmt.Errorf("got %+v, want generation %d", got, ref.Generation)
		}
		return nil
	})
	return got
}

// live lists the NetworkPolicies of the plane's namespace, as the API server has them.
func (p *plane) live(t *testing.T) []networkingv1.NetworkPolicy {
	t.Helper()
	list, err := p.world.admin.NetworkingV1().NetworkPolicies(p.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// role finds the companion of a role.
func (p *plane) role(t *testing.T, role string) *networkingv1.NetworkPolicy {
	t.Helper()
	all := p.live(t)
	for i := range all {
		if all[i].Labels[netpol.LabelRole] == role {
			return &all[i]
		}
	}
	t.Fatalf("no companion has the role %s", role)
	return nil
}
