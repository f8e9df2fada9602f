package companion_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/pkg/filesource"
	"github.com/pilot-lite/pilot-lite/pkg/kube/companion"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

const cart = `
metadata: {name: cart}
spec:
  podSelector: {matchLabels: {app: cart}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: front}}}]
    ports: [{port: 8080}]
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 8080}]
    http: [{methods: [GET]}]
  egress:
  - to: [{podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 5432}]
`

func TestOnAnAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("edits", w.edits)
	t.Run("foreign objects", w.foreign)
	t.Run("orphans", w.orphans)
	t.Run("policies that change", w.policyChanges)
	t.Run("requests that fail", w.failures)
	t.Run("leaders", w.leaders)
	t.Run("outages", w.outages)
	t.Run("reads back equal", w.readBack)
	t.Run("collection", w.collection) // the last: from here on the collector deletes what has no owner
}

// edits: whatever somebody does to a companion by hand, it is put right within 5 s, and then left alone.
func (w *world) edits(t *testing.T) {
	for name, edit := range meddling() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := w.plane(t, w.Namespace(t, "edits", nil))
			ref := w.apply(t, p.namespace, cart)
			p.stands(t, ref)
			client := w.admin.NetworkingV1().NetworkPolicies(p.namespace)
			before := p.role(t, "isolate")
			edit(t, client, before.DeepCopy())
			apitest.Eventually(t, within, "the companion is put right", func() error {
				np, err := client.Get(t.Context(), before.Name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				if diff := cmp.Diff(decides(before), decides(np)); diff != "" {
					return fmt.Errorf("(-before +now):\n%s", diff)
				}
				return nil
			})
			p.stands(t, ref)
			quiet(t, p)
		})
	}
}

// decides is what of an object decides anything.
func decides(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: np.Name, Labels: np.Labels, Annotations: np.Annotations, OwnerReferences: np.OwnerReferences}, Spec: np.Spec,
	}
}

// quiet: while nothing differs, looking at everything again asks the API server nothing.
func quiet(t *testing.T, p *plane) {
	t.Helper()
	before := p.requests.Load()
	for range 3 {
		p.look(t)
	}
	if after := p.requests.Load(); after != before {
		t.Errorf("%d requests while nothing differed", after-before)
	}
}

// foreign: somebody's object under a companion's name is left as it is and reported; once it is gone the companion is made.
func (w *world) foreign(t *testing.T) {
	p := w.idlePlane(t, w.Namespace(t, "foreign", nil))
	ref := w.apply(t, p.namespace, cart)
	var name string
	apitest.Eventually(t, within, "companions are desired", func() error {
		d, _ := p.desired()
		for i := range d.Companions {
			if d.Companions[i].Isolates() {
				name = d.Companions[i].NetworkPolicy.Name
				return nil
			}
		}
		return fmt.Errorf("there are none yet")
	})
	client := w.admin.NetworkingV1().NetworkPolicies(p.namespace)
	theirs, err := client.Create(t.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{netpol.LabelManagedBy: netpol.ManagedBy}},
		Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "theirs"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if got := p.reaches(t, ref, companion.Foreign); got.Object != name {
		t.Errorf("the state names %q, want %q", got.Object, name)
	}
	p.look(t)
	now, err := client.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, now); diff != "" {
		t.Errorf("somebody's object was changed (-before +now):\n%s", diff)
	}
	if err := client.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	p.stands(t, ref)
}

// orphans: companions of a policy that was deleted while nobody led are deleted; what only looks like one is not, and nothing is while the view is not complete.
func (w *world) orphans(t *testing.T) {
	namespace := w.Namespace(t, "orphans", nil)
	client := w.admin.NetworkingV1().NetworkPolicies(namespace)
	p := w.plane(t, namespace)
	ref := w.apply(t, namespace, cart)
	p.stands(t, ref)
	p.stop()
	for name, o := range map[string]metav1.ObjectMeta{
		"label-alone": {Labels: map[string]string{netpol.LabelManagedBy: netpol.ManagedBy}},
		"marks-alone": {Labels: map[string]string{netpol.LabelManagedBy: netpol.ManagedBy, netpol.LabelRole: "isolate"}, Annotations: map[string]string{companion.AnnotationBuiltFrom: "x/1"}},
	} {
		o.Name = name
		if _, err := client.Create(t.Context(), &networkingv1.NetworkPolicy{ObjectMeta: o}, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.policies(namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	apitest.Eventually(t, within, "the deletion is known", func() error {
		if d, _ := p.desired(); len(d.Companions) > 0 {
			return fmt.Errorf("%d are desired", len(d.Companions))
		}
		return nil
	})

	partial := w.idlePlane(t, namespace)
	complete := partial.desired
	partial.Desired = func() (companion.Desired, bool) {
		d, _ := complete()
		return d, false
	}
	partial.start(t)
	partial.look(t)
	partial.stop()
	if n := partial.requests.Load(); n != 0 {
		t.Errorf("%d requests from a view that is not complete", n)
	}

	again := w.plane(t, namespace)
	apitest.Eventually(t, within, "the orphans are gone", func() error {
		var names []string
		for _, np := range again.live(t) {
			names = append(names, np.Name)
		}
		if diff := cmp.Diff([]string{"label-alone", "marks-alone"}, names); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	})
}

// policyChanges: companions follow their policy through edits, a trial, and a policy of the same name that is another one.
func (w *world) policyChanges(t *testing.T) {
	p := w.plane(t, w.Namespace(t, "changes", nil))
	ref := w.apply(t, p.namespace, cart)
	p.stands(t, ref)
	old := p.role(t, "isolate")

	before, requests := p.live(t), p.requests.Load()
	requested := w.apply(t, p.namespace, strings.ReplaceAll(cart, "GET", "HEAD"))
	p.stands(t, requested)
	if diff := cmp.Diff(before, p.live(t)); requested == ref || diff != "" || p.requests.Load() != requests {
		t.Errorf("an edit of what requests may say made %d requests, and changed companions (-before +now):\n%s", p.requests.Load()-requests, diff)
	}
	p.stands(t, w.apply(t, p.namespace, strings.ReplaceAll(cart, "8080", "9090")))
	if port := p.role(t, "isolate").Spec.Ingress[0].Ports[0].Port; port.IntVal != 9090 {
		t.Errorf("the companion lets %v in, want 9090", port)
	}

	if err := w.policies(p.namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	another := w.apply(t, p.namespace, cart)
	if another.UID == ref.UID {
		t.Fatal("it is the same policy")
	}
	p.stands(t, another)
	np := p.role(t, "isolate")
	if len(np.OwnerReferences) != 1 || string(np.OwnerReferences[0].UID) != another.UID {
		t.Errorf("the companion belongs to %v, want %s alone", np.OwnerReferences, another.UID)
	}
	if np.Name != old.Name {
		t.Errorf("the same policy's companion is named %s, and was %s", np.Name, old.Name)
	}

	edited := w.apply(t, p.namespace, `
metadata: {name: cart}
spec:
  podSelector: {matchLabels: {app: basket}}
  ingress: [{ports: [{port: 80}]}]
`)
	p.stands(t, edited)
	for _, np := range p.live(t) {
		if np.Spec.PodSelector.MatchLabels["app"] != "basket" {
			t.Errorf("%s still selects %v", np.Name, np.Spec.PodSelector)
		}
	}

	tried := w.apply(t, p.namespace, `
metadata: {name: cart}
spec: {podSelector: {}, enforcement: DryRun, ingress: []}
`)
	p.stands(t, tried)
	if left := p.live(t); len(left) > 0 {
		t.Errorf("a policy that is only tried out has %d companions", len(left))
	}
}

// readBack: what is applied reads back equal, whatever the API server fills in; else it would be applied again and again.
func (w *world) readBack(t *testing.T) {
	cases, err := filepath.Glob("../../translate/testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			p := w.idlePlane(t, w.Namespace(t, "case", nil))
			loaded, err := filesource.Load([]string{file}, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := loaded.Snapshot
			for i := range s.Policies {
				s.Policies[i].UID, s.Policies[i].Generation = s.Policies[i].Namespace+"-"+s.Policies[i].Name, 1
			}
			out := translate.Translate(model.NewIndex(s))
			d := companion.Desired{Companions: out.Companions, Policies: s.Policies}
			for i := range d.Companions {
				d.Companions[i].NetworkPolicy.Namespace = p.namespace // each case has its own
			}
			p.frozen.Store(&d)
			p.start(t)
			for _, ref := range d.Policies {
				p.stands(t, ref.PolicyRef)
			}
			quiet(t, p)
		})
	}
}

// collection: with Kubernetes' garbage collector about, companions go with their policy, and those of a policy that was deleted and made again stay.
func (w *world) collection(t *testing.T) {
	w.Controllers(t, "garbage-collector-controller")
	p := w.plane(t, w.Namespace(t, "collection", nil))
	for range 3 {
		ref := w.apply(t, p.namespace, cart)
		p.stands(t, ref)
		if err := w.policies(p.namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	ref := w.apply(t, p.namespace, cart)
	p.stands(t, ref)
	settled := func() error {
		all := p.live(t)
		for i := range all {
			if string(all[i].OwnerReferences[0].UID) != ref.UID {
				return fmt.Errorf("%s belongs to another policy", all[i].Name)
			}
		}
		if n := len(all); n != 3 {
			return fmt.Errorf("%d companions", n)
		}
		return nil
	}
	apitest.Eventually(t, within, "the companions are the last policy's", settled)
	if err := w.policies(p.namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	apitest.Eventually(t, 4*within, "they are collected", func() error {
		if n := len(p.live(t)); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	quiet(t, p)
}
