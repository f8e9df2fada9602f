package policystatus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/kube"
	"github.com/pilot-lite/pilot-lite/pkg/kube/policystatus"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

const within = 5 * time.Second

// world is an API server, and what is read from it.
type world struct {
	*apitest.Server
	source *kube.Source
	tell   []func(uids []string)
	mu     sync.Mutex
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: apitest.New(t)}
	w.InstallCRDs(t)
	manifests := filepath.Join(apitest.Root(t), "manifests")
	w.Apply(t, filepath.Join(manifests, "namespace.yaml"), filepath.Join(manifests, "rbac.yaml"))
	w.source = kube.NewSource(kube.Config{Client: kubernetes.NewForConfigOrDie(w.Config()), Policies: newPolicies(t, w.Config()), Namespace: "pilot-lite-system"})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	running.Go(func() { _ = w.source.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.source.PoliciesChanged():
			}
			uids := w.source.TouchedPolicies()
			w.mu.Lock()
			for _, tell := range w.tell {
				tell(uids)
			}
			w.mu.Unlock()
		}
	})
	return w
}

func newPolicies(t *testing.T, config *rest.Config) *kube.Policies {
	t.Helper()
	p, err := kube.NewPolicies(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// writer writes with the rights that the manifests grant; its requests can be counted and spoilt.
type writer struct {
	*policystatus.Writer
	world    *world
	requests atomic.Int64
	spoil    atomic.Pointer[func() error]
	follower atomic.Bool
}

func (w *world) writer(t *testing.T) *writer {
	t.Helper()
	x := &writer{world: w}
	config := w.User("system:serviceaccount:pilot-lite-system:pilot-lite")
	config.QPS = -1
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return spoiler{rt, x} })
	x.Writer = policystatus.New(policystatus.Config{
		Client: newPolicies(t, config), Leads: func() bool { return !x.follower.Load() },
		Stored: func(ref model.PolicyRef) (v1alpha1.L7PolicyStatus, bool) {
			p, found := w.source.Policy(ref.Namespace, ref.Name)
			return p.Status, found && p.UID == ref.UID
		},
	})
	w.mu.Lock()
	w.tell = append(w.tell, x.Touched)
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return x
}

type spoiler struct {
	http.RoundTripper
	w *writer
}

func (s spoiler) RoundTrip(r *http.Request) (*http.Response, error) {
	s.w.requests.Add(1)
	if f := s.w.spoil.Load(); f != nil {
		if err := (*f)(); err != nil {
			return nil, err
		}
	}
	return s.RoundTripper.RoundTrip(r)
}

func (w *world) policies(namespace string) dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(w.Config()).Resource(v1alpha1.SchemeGroupVersion().WithResource(v1alpha1.Resource)).Namespace(namespace)
}

// apply writes a policy, and waits until it is read.
func (w *world) apply(t *testing.T, namespace, spec string) model.PolicyRef {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(`{metadata: {name: cart}, spec: `+spec+`}`), &o.Object); err != nil {
		t.Fatal(err)
	}
	o.SetGroupVersionKind(v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind))
	got, err := w.policies(namespace).Apply(t.Context(), "cart", o, metav1.ApplyOptions{FieldManager: "kubectl", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	ref := model.PolicyRef{Namespace: namespace, Name: "cart", UID: string(got.GetUID()), Generation: got.GetGeneration()}
	apitest.Eventually(t, within, "the policy is read", func() error {
		if p, found := w.source.Policy(namespace, "cart"); !found || p.PolicyRef != ref {
			return fmt.Errorf("found %v, %+v", found, p.Policy)
		}
		return nil
	})
	return ref
}

// read is the policy as it stands.
func (w *world) read(t *testing.T, namespace string) *v1alpha1.L7Policy {
	t.Helper()
	o, err := w.policies(namespace).Get(t.Context(), "cart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var p v1alpha1.L7Policy
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	return &p
}

// says is a status of a generation, with so many proxies of three.
func says(ref model.PolicyRef, enforced int32) []status.Result {
	s := v1alpha1.L7PolicyStatus{
		ObservedGeneration: ref.Generation, Proxies: v1alpha1.ProxyCounts{Expected: 3, Enforced: enforced, Pending: 3 - enforced}, Enforced: fmt.Sprintf("%d/3", enforced),
		Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, ObservedGeneration: ref.Generation},
			{Type: v1alpha1.ConditionEnforced, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonPending, ObservedGeneration: ref.Generation},
		},
	}
	if enforced == 3 {
		s.Conditions[1].Status, s.Conditions[1].Reason = metav1.ConditionTrue, v1alpha1.ReasonEnforced
	}
	return []status.Result{{Ref: ref, Status: s}}
}

func (w *world) until(t *testing.T, namespace, enforced string) *v1alpha1.L7Policy {
	t.Helper()
	var p *v1alpha1.L7Policy
	apitest.Eventually(t, within, "the status says "+enforced, func() error {
		if p = w.read(t, namespace); p.Status.Enforced != enforced {
			return fmt.Errorf("%+v", p.Status)
		}
		return nil
	})
	return p
}

func enforcedCondition(p *v1alpha1.L7Policy) metav1.Condition {
	for _, c := range p.Status.Conditions {
		if c.Type == v1alpha1.ConditionEnforced {
			return c
		}
	}
	return metav1.Condition{}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]func(t *testing.T, namespace string){
		"what differs is written, and no more":           w.writesWhatDiffers,
		"what passes at once is not written":             w.leavesWhatPasses,
		"a condition keeps the time of its change":       w.keepsTimes,
		"what others own in the status stays":            w.leavesOthers,
		"a policy that was made anew is not told of":     w.knowsTheVeryPolicy,
		"faults pass, and only the leader writes":        w.faultsPass,
		"two writers with the same input write the same": w.twoWriters,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, w.Namespace(t, "shop", nil))
		})
	}
}

const emptySpec = `{podSelector: {}}`

func (w *world) writesWhatDiffers(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	x.Set(says(ref, 0))
	w.until(t, namespace, "0/3")
	x.Set(says(ref, 3))
	p := w.until(t, namespace, "3/3")
	if c := enforcedCondition(p); c.Status != metav1.ConditionTrue || c.ObservedGeneration != ref.Generation || c.LastTransitionTime.IsZero() {
		t.Errorf("the condition is %+v", c)
	}
	apitest.Eventually(t, within, "what was written is read", func() error {
		if got, _ := w.source.Policy(namespace, "cart"); got.Status.Enforced != "3/3" {
			return fmt.Errorf("%+v", got.Status)
		}
		return nil
	})
	before := x.requests.Load()
	x.Set(says(ref, 3))
	x.Set(says(ref, 2))
	w.until(t, namespace, "2/3")
	if n := x.requests.Load() - before; n != 1 {
		t.Errorf("%d requests, want that of what changed alone", n)
	}
}

func (w *world) leavesWhatPasses(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	x.Set(says(ref, 3))
	w.until(t, namespace, "3/3")
	before := x.requests.Load()
	for range 20 {
		x.Set(says(ref, 2))
		x.Set(says(ref, 3))
	}
	x.Set(says(ref, 1))
	w.until(t, namespace, "1/3")
	if n := x.requests.Load() - before; n > 1 {
		t.Errorf("%d writes, want that of what lasted alone", n)
	}
}

func (w *world) keepsTimes(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	x.Set(says(ref, 0))
	first := enforcedCondition(w.until(t, namespace, "0/3")).LastTransitionTime
	x.Set(says(ref, 2))
	if second := enforcedCondition(w.until(t, namespace, "2/3")).LastTransitionTime; !second.Equal(&first) {
		t.Errorf("the condition stayed, and its time went from %s to %s", first, second)
	}
}

func (w *world) leavesOthers(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	foreign := fmt.Sprintf(`{"status":{"conditions":[{"type":"Audited","status":"True","reason":"x","message":"","lastTransitionTime":%q}]}}`, "2026-01-01T00:00:00Z")
	if _, err := w.policies(namespace).Patch(t.Context(), "cart", types.MergePatchType, []byte(foreign), metav1.PatchOptions{FieldManager: "auditor"}, "status"); err != nil {
		t.Fatal(err)
	}
	x.Set(says(ref, 3))
	p := w.until(t, namespace, "3/3")
	if len(p.Status.Conditions) != 3 {
		t.Errorf("conditions: %+v, want the auditor's among them", p.Status.Conditions)
	}
}

func (w *world) knowsTheVeryPolicy(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	// As if another had been made under the name, and the view did not know yet.
	other := ref
	other.UID = "00000000-0000-0000-0000-000000000000"
	config := w.User("system:serviceaccount:pilot-lite-system:pilot-lite")
	blind := policystatus.New(policystatus.Config{
		Client: newPolicies(t, config), Stored: func(model.PolicyRef) (v1alpha1.L7PolicyStatus, bool) { return v1alpha1.L7PolicyStatus{}, true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); blind.Run(ctx) }()
	blind.Set(says(other, 3))
	x.Set(says(ref, 1))
	w.until(t, namespace, "1/3")
	cancel()
	<-done
	if p := w.read(t, namespace); p.Status.Enforced != "1/3" {
		t.Errorf("another policy's status was written: %+v", p.Status)
	}
}

func (w *world) faultsPass(t *testing.T, namespace string) {
	t.Helper()
	x, ref := w.writer(t), w.apply(t, namespace, emptySpec)
	broken := func() error { return errors.New("the network is down") }
	x.spoil.Store(&broken)
	x.Set(says(ref, 3))
	apitest.Eventually(t, within, "a write fails", func() error {
		if x.requests.Load() == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	x.spoil.Store(nil)
	w.until(t, namespace, "3/3")

	x.follower.Store(true)
	x.Set(says(ref, 1))
	leader := w.writer(t)
	leader.Set(says(ref, 2))
	w.until(t, namespace, "2/3")
	x.follower.Store(false)
	leader.follower.Store(true)
	w.until(t, namespace, "1/3")
}

func (w *world) twoWriters(t *testing.T, namespace string) {
	t.Helper()
	a, b, ref := w.writer(t), w.writer(t), w.apply(t, namespace, emptySpec)
	for _, n := range []int32{0, 1, 3} {
		a.Set(says(ref, n))
		b.Set(says(ref, n))
		w.until(t, namespace, fmt.Sprintf("%d/3", n))
	}
	if n := a.requests.Load() + b.requests.Load(); n > 6 {
		t.Errorf("%d writes by two writers who agree", n)
	}
}
