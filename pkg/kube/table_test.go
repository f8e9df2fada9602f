package kube

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func newPod(name string, change func(p *corev1.Pod)) *corev1.Pod {
	yes := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: "u-1", ResourceVersion: "1", Labels: map[string]string{"app": name, "pod-template-hash": "abc"},
			Annotations:     map[string]string{ourPrefix + "server-first-ports": "25", "other": "x"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: name + "-abc", Controller: &yes}, {Kind: "Other", Name: "o"}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n", ServiceAccountName: "sa", Volumes: []corev1.Volume{{Name: "v"}},
			Containers: []corev1.Container{{Name: "app", Image: "i", Env: []corev1.EnvVar{{Name: "A"}}, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, Conditions: []corev1.PodCondition{{Type: "Ready"}}},
	}
	if change != nil {
		change(p)
	}
	return p
}

// What is stripped is nothing that decides.
func TestStrippingChangesNoConversion(t *testing.T) {
	t.Parallel()
	injected := func(p *corev1.Pod) {
		p.Labels[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
		p.Spec.InitContainers = []corev1.Container{{Name: "i", Image: "i"}, {Name: v1alpha1.CaptureContainer, Image: "c"}, {Name: v1alpha1.ProxyContainer, Image: "p"}}
	}
	whole, _ := convertPod(newPod("web", injected))
	lean, err := strip(newPod("web", injected))
	if err != nil {
		t.Fatal(err)
	}
	if len(lean.(*corev1.Pod).Spec.Volumes)+len(lean.(*corev1.Pod).Status.Conditions)+len(lean.(*corev1.Pod).Spec.Containers[0].Env) > 0 {
		t.Errorf("not stripped: %v", lean)
	}
	stripped, _ := convertPod(lean)
	if !same(&whole, &stripped) || whole.Owner != "web" || len(whole.Proxy.ServerFirst) != 1 {
		t.Errorf("got  %+v\nwant %+v", stripped, whole)
	}
	if got := stripped.images.Value(); got != (Images{Capture: "c", Proxy: "p"}) {
		t.Errorf("images %+v", got)
	}
}

// recorder counts what a table tells.
type recorder struct{ changes int }

func podTable(r *recorder) *table[pod] {
	return newTable(&Config{Logger: slog.New(slog.DiscardHandler)}, "pods", convertPod, same[pod], always[pod](func() { r.changes++ }))
}

// An event that changes nothing that is used is dropped: pods' heartbeats and conditions must not cost a rebuild.
func TestEventsWithoutAConsequenceAreDropped(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	pods := podTable(r)
	steps := []struct {
		name   string
		change func(p *corev1.Pod)
		want   int
	}{
		{"added", nil, 1},
		{"a condition", func(p *corev1.Pod) { p.ResourceVersion, p.Status.Conditions = "2", nil }, 1},
		{"an annotation of somebody else's", func(p *corev1.Pod) { p.Annotations["other"] = "y" }, 1},
		{"an image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" }, 1},
		{"a label", func(p *corev1.Pod) { p.Labels["app"] = "other" }, 2},
		{"an address", func(p *corev1.Pod) { p.Labels["app"], p.Status.PodIP, p.Status.PodIPs = "other", "10.0.0.2", nil }, 3},
	}
	for _, s := range steps {
		if err := pods.Update(newPod("web", s.change)); err != nil {
			t.Fatal(err)
		}
		if r.changes != s.want {
			t.Errorf("%s: told %d times, want %d", s.name, r.changes, s.want)
		}
	}
	if err := pods.Delete(newPod("web", nil)); err != nil || r.changes != 4 || len(pods.list()) != 0 {
		t.Errorf("deleted: %v, told %d times, left %v", err, r.changes, pods.list())
	}
	if err := pods.Delete(newPod("web", nil)); err != nil || r.changes != 4 {
		t.Errorf("deleted twice: %v, told %d times", err, r.changes)
	}
}

// A list replaces everything at once: nobody sees a table that is half of one and half of the other.
func TestAListReplacesTheTable(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	pods := podTable(r)
	if pods.hasSynced() {
		t.Error("synced before a list")
	}
	list := func(names ...string) {
		var objects []any
		for _, n := range names {
			objects = append(objects, newPod(n, nil))
		}
		if err := pods.Replace(objects, "1"); err != nil {
			t.Fatal(err)
		}
	}
	list()
	if !pods.hasSynced() || r.changes != 1 {
		t.Errorf("an empty list is a list: synced %t, told %d times", pods.hasSynced(), r.changes)
	}
	list("a", "b")
	list("b", "a")
	if r.changes != 2 {
		t.Errorf("the same list: told %d times", r.changes)
	}
	list("b", "c")
	var names []string
	for _, p := range pods.list() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"b", "c"}) || r.changes != 3 {
		t.Errorf("got %v, told %d times", names, r.changes)
	}
}

// policyObject is a policy as the API server would send it, whatever stands in it.
func policyObject(spec any) *policyText {
	text, err := json.Marshal(map[string]any{
		"apiVersion": "policy.pilot-lite.io/v1alpha1", "kind": "L7Policy",
		"metadata": map[string]any{"namespace": "shop", "name": "p", "uid": "u", "generation": int64(3), "resourceVersion": "9", "managedFields": []any{map[string]any{"manager": "kubectl"}}},
		"spec":     spec, "status": map[string]any{"enforced": "1/1", "fromTheFuture": true},
	})
	if err != nil {
		panic(err)
	}
	o, _, err := policyDecoder{}.Decode(text, nil, nil)
	if err != nil {
		panic(err)
	}
	return o.(*policyText)
}

// convertPolicy converts one that was never seen before.
func convertPolicy(o *policyText) (Policy, bool) {
	return convertPolicies(func(string, string) (Policy, bool) { return Policy{}, false })(o)
}

// A policy that was written past the schema, or by a newer one, shuts what it could have meant, and says so.
func TestAPolicyThatCannotBeReadShuts(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]any{
		"a list for an object":   map[string]any{"podSelector": []any{"x"}},
		"a number for rules":     map[string]any{"ingress": int64(1)},
		"a field of later":       map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{"grpc": []any{}}}},
		"no spec":                nil,
		"a string for a spec":    "all",
		"action of another type": map[string]any{"action": map[string]any{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := convertPolicy(policyObject(spec))
			if name == "no spec" { // the schema's defaults: an Allow that selects all and allows nothing
				if !p.IsolatesIngress || len(p.Ingress) > 0 {
					t.Errorf("got %+v", p.Policy)
				}
				return
			}
			if p.Accepted || len(p.Diagnostics) == 0 || p.Diagnostics[0].Remedy == "" {
				t.Errorf("accepted %t, diagnostics %v", p.Accepted, p.Diagnostics)
			}
			if !p.IsolatesIngress || !p.IsolatesEgress || !p.Selector.Empty() || p.UID != "u" || p.Generation != 3 {
				t.Errorf("got %+v", p.Policy)
			}
			if wantRules := map[model.Action]int{model.Allow: 0, model.Deny: 1}[p.Action]; len(p.Ingress) != wantRules || len(p.Egress) != wantRules {
				t.Errorf("action %s with rules %v and %v", p.Action, p.Ingress, p.Egress)
			}
		})
	}
	good, _ := convertPolicy(policyObject(map[string]any{"podSelector": map[string]any{}, "ingress": []any{map[string]any{}}}))
	if !good.Accepted || good.Status.Enforced != "1/1" || good.ResourceVersion != "9" {
		t.Errorf("a good policy: %+v", good)
	}
}

// The mesh's settings: what is absent is the default, what is wrong is named with its place.
func TestMeshConfig(t *testing.T) {
	t.Parallel()
	object := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "pilot-lite-system", Name: "pilot-lite"}, Data: map[string]string{convert.MeshConfigKey: text}}
	}
	if _, written := convertMesh(object(" ")); written {
		t.Error("an empty document is none")
	}
	good, _ := convertMesh(object("spec: {trustDomain: example.org}"))
	if len(good.found) > 0 || good.mesh.TrustDomain != "example.org" {
		t.Errorf("got %+v", good)
	}
	for bad, want := range map[string][]string{
		"spec: {trustDomian: x, trustDomain: 'a b', http: {maxConcurrentStreams: -1}}": {
			"data[mesh.yaml].spec.trustDomian: unknown field; correct its spelling or its place, or remove it [unknown-field]",
			`data[mesh.yaml].spec.trustDomain: "a b" is not a DNS name: the settings are not taken over; write a name such as cluster.local [bad-mesh-config]`,
			"data[mesh.yaml].spec.http.maxConcurrentStreams: -1 is out of range: the settings are not taken over; write a number from 1 to 65536 [bad-mesh-config]",
		},
		"spec: {trustDomain: 5, dns: {}}": {
			"data[mesh.yaml].spec.trustDomain: it is a number; put it in quotes [wrong-type]", "data[mesh.yaml].spec.dns: it is an object; write a list [wrong-type]",
		},
		"spec: [":              {"data[mesh.yaml]: mesh.yaml is not YAML: line 1: did not find expected node content; write a MeshConfig [wrong-type]"},
		"spec: {}\nspec: {}\n": {`data[mesh.yaml]: mesh.yaml is not YAML: line 2: key "spec" already set in map; write a MeshConfig [wrong-type]`},
	} {
		got, written := convertMesh(object(bad))
		var told []string
		for _, d := range got.found {
			told = append(told, strings.TrimPrefix(d.String(), "error: ConfigMap pilot-lite-system/pilot-lite: "))
		}
		if diff := cmp.Diff(want, told); diff != "" || !written {
			t.Errorf("%s: (-want +got) %s", bad, diff)
		}
	}
}

// Companions are output: that they changed is news for who writes them, and for nobody else.
func TestCompanionsAreNoInput(t *testing.T) {
	t.Parallel()
	s := &Source{changed: make(chan struct{}, 1), companions: make(chan struct{}, 1), logger: slog.New(slog.DiscardHandler)}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{convert.ManagedByLabel: convert.ManagedBy}}}
	s.networkPolicyChanged(nil, &np)
	if len(s.changed) != 0 || len(s.companions) != 1 {
		t.Errorf("a companion: changed %d, companions %d", len(s.changed), len(s.companions))
	}
	stripped := np.DeepCopy()
	stripped.Labels = nil
	s.networkPolicyChanged(&np, &stripped)
	if len(s.changed) != 1 {
		t.Error("one that lost its label is somebody's")
	}
}
