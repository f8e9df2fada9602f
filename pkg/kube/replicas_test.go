package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// Two replicas that know the same objects, learnt in whatever order and after whatever else, make the same bytes of them: companions, findings, resources and their
// versions. So a proxy that goes from one to the other has what it needs already, and two leaders write the same.
func TestReplicasMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		objects := drawObjects(t, 30)
		listed, watched := newReplica(), newReplica()
		listed.list(t, objects)
		// The other one has a past, of which nothing must be left.
		watched.list(t, drawObjects(t, 10))
		watched.output(t)
		for name, past := range watched.held {
			if _, stays := objects[name]; !stays {
				noError(t, watched.table(past).Delete(past))
			}
		}
		for i, name := range rapid.Permutation(slices.SortedFunc(maps.Keys(objects), objectKey.compare)).Draw(t, "order") {
			noError(t, watched.table(objects[name]).Update(objects[name].DeepCopyObject()))
			if i%5 == 0 {
				watched.output(t)
			}
		}
		if diff := cmp.Diff(listed.output(t), watched.output(t)); diff != "" {
			t.Fatalf("(-listed +watched):\n%s", diff)
		}
	})
}

func noError(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// objectKey is an object's kind and name.
type objectKey struct {
	kind string
	types.NamespacedName
}

func (n objectKey) compare(o objectKey) int {
	return strings.Compare(n.kind+"/"+n.String(), o.kind+"/"+o.String())
}

// replica is a source, and what it is translated by.
type replica struct {
	*Source
	held       map[objectKey]runtime.Object // as first listed
	indexer    model.Indexer
	translator translate.Translator
}

func newReplica() *replica {
	return &replica{Source: NewSource(Config{Client: fake.NewClientset()})}
}

func (r *replica) table(o runtime.Object) cache.ReflectorStore {
	return r.tables()[fmt.Sprintf("%T", o)]
}

func (r *replica) tables() map[string]cache.ReflectorStore {
	return map[string]cache.ReflectorStore{
		"*v1.Namespace": r.namespaces, "*v1.Service": r.services, "*v1.EndpointSlice": r.slices, "*v1.Pod": r.pods, "*v1.NetworkPolicy": r.networkPolicies,
		"*kube.policyText": r.policies, "*v1.ConfigMap": r.mesh, "*v1.ServiceAccount": r.accounts,
	}
}

// list has every table replaced, by lists in no order.
func (r *replica) list(t *rapid.T, objects map[objectKey]runtime.Object) {
	r.held = objects
	lists := map[string][]any{}
	for _, o := range objects {
		kind := fmt.Sprintf("%T", o)
		lists[kind] = append(lists[kind], o.DeepCopyObject())
	}
	for kind, into := range r.tables() {
		noError(t, into.Replace(lists[kind], "1"))
	}
}

// output is all that a replica makes of what it knows.
func (r *replica) output(t *rapid.T) map[string]string {
	snapshot, complete := r.Snapshot()
	if !complete {
		t.Fatal("not complete")
	}
	made := r.translator.Translate(r.indexer.Index(snapshot))
	out := map[string]string{}
	for _, w := range made.Workloads {
		for i, resource := range w.Resources {
			x, err := xds.NewResource(resource.Message, resource.Policies)
			noError(t, err)
			out[fmt.Sprintf("workload %s %d", w.Workload.Key, i)] = fmt.Sprint(x.Type, x.Name, x.Version, x.Policies)
		}
	}
	for i := range made.Companions {
		text, err := json.Marshal(made.Companions[i])
		noError(t, err)
		out[fmt.Sprint("companion ", i)] = string(text)
	}
	for i, d := range made.Diagnostics {
		out[fmt.Sprint("diagnostic ", i)] = d.String()
	}
	return out
}

// drawObjects draws objects of all kinds, few of whose names differ: they meet.
func drawObjects(t *rapid.T, most int) map[objectKey]runtime.Object {
	out := map[objectKey]runtime.Object{}
	for range rapid.IntRange(0, most).Draw(t, "objects") {
		meta := metav1.ObjectMeta{
			Namespace: rapid.SampledFrom([]string{"shop", "web"}).Draw(t, "namespace"), Name: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
			Labels:            drawLabels(t),
			CreationTimestamp: metav1.NewTime(time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "created")), 0)),
			UID:               types.UID(rapid.SampledFrom([]string{"u", "v"}).Draw(t, "uid")), Generation: int64(rapid.IntRange(1, 3).Draw(t, "generation")), ResourceVersion: "1",
		}
		kind := rapid.SampledFrom([]string{"pod", "pod", "pod", "service", "service", "slice", "policy", "policy", "networkpolicy"}).Draw(t, "kind")
		out[objectKey{kind, types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}}] = drawObject(t, kind, meta)
	}
	for _, name := range []string{"shop", "web"} {
		if rapid.Bool().Draw(t, "is listed") {
			out[objectKey{"namespace", types.NamespacedName{Name: name}}] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: drawLabels(t)}}
		}
	}
	return out
}

func drawLabels(t *rapid.T) map[string]string {
	out := map[string]string{}
	for _, l := range [][]string{{"app", "a", "b"}, {"tier", "1"}, {v1alpha1.LabelProxy, v1alpha1.ProxyInjected}} {
		if value := rapid.IntRange(0, len(l)-1).Draw(t, l[0]); value > 0 {
			out[l[0]] = l[value]
		}
	}
	return out
}

func drawObject(t *rapid.T, kind string, meta metav1.ObjectMeta) runtime.Object {
	address := rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", ""})
	switch kind {
	case "pod":
		return &corev1.Pod{
			ObjectMeta: meta,
			Spec: corev1.PodSpec{NodeName: rapid.SampledFrom([]string{"", "n"}).Draw(t, "node"), Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
				{Name: "web", ContainerPort: rapid.SampledFrom([]int32{8080, 9090}).Draw(t, "port")},
			}}}},
			Status: corev1.PodStatus{Phase: rapid.SampledFrom([]corev1.PodPhase{corev1.PodRunning, corev1.PodSucceeded}).Draw(t, "phase"), PodIP: address.Draw(t, "address")},
		}
	case "service":
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2"}).Draw(t, "address"), Selector: map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "selected")},
			Ports: []corev1.ServicePort{{Name: rapid.SampledFrom([]string{"http", "tcp", "grpc"}).Draw(t, "protocol"), Port: rapid.SampledFrom([]int32{8080, 9090}).Draw(t, "port")}},
		}}
	case "slice":
		meta.Labels[discoveryv1.LabelServiceName] = "a"
		slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
		for _, pod := range []string{"a", "b"} {
			if given := address.Draw(t, "endpoint"); given != "" {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{given}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: meta.Namespace, Name: pod}})
			}
		}
		return slice
	case "networkpolicy":
		return &networkingv1.NetworkPolicy{ObjectMeta: meta, Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: meta.Labels}}}
	}
	peers := []any{map[string]any{"podSelector": map[string]any{"matchLabels": map[string]any{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "peer")}}}}
	if rapid.Bool().Draw(t, "two peers") {
		peers = append(peers, map[string]any{"namespaceSelector": map[string]any{}})
	}
	rule := map[string]any{"from": peers, "ports": []any{map[string]any{"port": rapid.SampledFrom([]any{int64(8080), "web"}).Draw(t, "port")}}}
	if rapid.Bool().Draw(t, "http") {
		rule["http"] = []any{map[string]any{"methods": []any{"GET"}, "hosts": []any{rapid.SampledFrom([]string{"a", "b.web", "10.96.0.1"}).Draw(t, "host")}}}
	}
	o := policyObject(map[string]any{
		"action": rapid.SampledFrom([]any{"Allow", "Deny"}).Draw(t, "action"), "podSelector": map[string]any{"matchLabels": map[string]any{"app": "a"}}, "ingress": []any{rule},
	})
	o.SetNamespace(meta.Namespace)
	o.SetName(meta.Name)
	o.SetUID(meta.UID)
	o.SetGeneration(meta.Generation)
	return o
}
