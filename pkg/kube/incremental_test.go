package kube

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/controlplane"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/agree"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// store is what a table is to a reflector.
type store interface {
	Update(object any) error
	Delete(object any) error
	Replace(objects []any, version string) error
}

// follower follows a cluster from its tables to what proxies are served.
type follower struct {
	*Source
	loop    *controlplane.Loop
	checker agree.Checker
	update  xds.Update
	stores  map[string]store
}

func (f *follower) Set(u xds.Update) { f.update = u }

func newFollower() *follower {
	f := &follower{Source: NewSource(Config{Logger: slog.New(slog.DiscardHandler), Client: fake.NewClientset()})}
	f.loop = controlplane.New(f, f, slog.New(slog.DiscardHandler), nil)
	f.stores = map[string]store{
		"namespace": f.namespaces, "service": f.services, "slice": f.slices, "pod": f.pods, "networkpolicy": f.networkPolicies, "policy": f.policies, "mesh": f.mesh, "account": f.accounts,
	}
	return f
}

// cluster is the objects that there are, by kind and name. They are made anew for everybody who reads them, as an API server does.
type cluster map[string]map[string]func() any

func (c cluster) list(f *follower, kind string) error {
	var objects []any
	for _, name := range slices.Sorted(maps.Keys(c[kind])) {
		objects = append(objects, c[kind][name]())
	}
	return f.stores[kind].Replace(objects, "1")
}

// Whatever happens to a cluster, who followed it has what somebody has who reads it now for the first time: the same bytes for every proxy, the same companions, the same
// findings, and the same agreement of the two layers.
func TestWhoFollowsHasWhatWhoComesHas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, follows := cluster{}, newFollower()
		for kind := range follows.stores {
			c[kind] = map[string]func() any{}
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			anyEvent(t, c)
		}
		for kind := range follows.stores {
			must(t, c.list(follows, kind))
		}
		follows.loop.Rebuild()
		for range rapid.IntRange(1, 6).Draw(t, "rebuilds") {
			for range rapid.IntRange(1, 2).Draw(t, "events") {
				kind, name := anyEvent(t, c)
				switch object := c[kind][name]; {
				case rapid.IntRange(0, 9).Draw(t, "listed") == 0:
					must(t, c.list(follows, kind))
				case object != nil:
					must(t, follows.stores[kind].Update(object()))
				default:
					namespace, name, _ := strings.Cut(name, "/")
					must(t, follows.stores[kind].Delete(&metav1.ObjectMeta{Namespace: namespace, Name: name}))
				}
			}
			follows.loop.Rebuild()
			comes := newFollower()
			for kind := range comes.stores {
				must(t, c.list(comes, kind))
			}
			comes.loop.Rebuild()
			sameSight(t, comes, follows)
		}
	})
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sameSight compares everything that two followers have.
func sameSight(t *rapid.T, want, got *follower) {
	t.Helper()
	if want.loop.Degraded() || got.loop.Degraded() {
		t.Fatal("a rebuild failed")
	}
	a, b := want.loop.Built(), got.loop.Built()
	if a.Output == nil || b.Output == nil {
		t.Fatal("nothing was built")
	}
	if !reflect.DeepEqual(a.Index.Workloads, b.Index.Workloads) {
		t.Fatalf("workloads (-comes +follows):\n%s", cmp.Diff(keysOf(a.Index.Workloads), keysOf(b.Index.Workloads)))
	}
	for _, w := range a.Index.Workloads {
		for _, p := range w.Pods {
			if of := b.Index.WorkloadOf(p.Namespace, p.Name); of == nil || of.Key != w.Key {
				t.Fatalf("pod %s is of another workload", p.Name)
			}
			for _, address := range p.Addresses {
				if at := b.Index.PodAt(address); at == nil || at.Name != p.Name || at.Namespace != p.Namespace {
					t.Fatalf("address %s is of another pod", address)
				}
			}
		}
		if !maps.Equal(a.Index.NamespaceLabels(w.Namespace), b.Index.NamespaceLabels(w.Namespace)) {
			t.Fatalf("other labels of namespace %s", w.Namespace)
		}
	}
	for what, both := range map[string][2]any{
		"findings": {a.Output.Diagnostics, b.Output.Diagnostics}, "companions": {a.Output.Companions, b.Output.Companions},
		"selections": {selected(a.Output), selected(b.Output)}, "nodes": {want.update.Nodes, got.update.Nodes}, "resources": {served(want.update), served(got.update)},
		"messages": {messages(t, a.Output), messages(t, b.Output)}, "agreement": {want.agreement(), got.agreement()},
	} {
		if diff := cmp.Diff(both[0], both[1]); diff != "" {
			t.Fatalf("%s (-comes +follows):\n%s", what, diff)
		}
	}
}

func keysOf(workloads []*model.Workload) []string {
	var out []string
	for _, w := range workloads {
		out = append(out, w.Key)
	}
	return out
}

func selected(o *translate.Output) [][]string {
	var out [][]string
	for _, s := range o.Selections {
		out = append(out, append(keysOf(s.Workloads), fmt.Sprint(s.PolicyRef)))
	}
	return out
}

// served is what proxies are told, by workload.
func served(u xds.Update) map[string][]string {
	out := map[string][]string{}
	for key, resources := range u.Workloads {
		for _, r := range resources {
			out[key] = append(out[key], fmt.Sprint(r.Type, " ", r.Name, " ", r.Version, " ", r.Policies))
		}
	}
	return out
}

// messages are the bytes, by workload, in order.
func messages(t *rapid.T, o *translate.Output) map[string]string {
	out := map[string]string{}
	for _, w := range o.Workloads {
		var all bytes.Buffer
		for _, r := range w.Resources {
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
			must(t, err)
			fmt.Fprintf(&all, "%T %x %v\n", r.Message, b, r.Policies)
		}
		out[w.Workload.Key] = all.String()
	}
	return out
}

// agreement is what the evaluator says of the layers, by policy.
func (f *follower) agreement() map[string]string {
	built := f.loop.Built()
	var companions []agree.Companion
	for _, c := range built.Output.Companions {
		if !c.DryRun {
			companions = append(companions, agree.Companion{Policy: c.Policy, NetworkPolicy: c.NetworkPolicy})
		}
	}
	report, out := f.checker.Check(built.Index, companions), map[string]string{}
	for _, p := range built.Output.Selections {
		out[p.Namespace+"/"+p.Name] = fmt.Sprintf("%+v", report.Verdict(p.PolicyRef))
	}
	for _, w := range report.Workloads {
		out["wider: "+w.Key] = fmt.Sprintf("%+v", w.Wider)
	}
	return out
}

// anyEvent makes, changes or removes an object.
func anyEvent(t *rapid.T, c cluster) (kind, name string) {
	kind = rapid.SampledFrom([]string{"pod", "pod", "pod", "policy", "policy", "policy", "service", "namespace", "networkpolicy", "slice", "mesh", "status"}).Draw(t, "kind")
	namespace := rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "namespace")
	var object func() any
	switch kind {
	case "pod":
		name, object = anyPod(t, namespace)
	case "policy":
		name, object = anyPolicy(t, namespace)
	case "service":
		name, object = anyService(t, namespace)
	case "slice":
		name, object = anySlice(t, namespace)
	case "namespace":
		name, namespace = namespace, ""
		team, kept := anyApp(t), name
		object = func() any {
			return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: kept, Labels: map[string]string{"team": team}}}
		}
	case "networkpolicy":
		name, object = anyNetworkPolicy(t, namespace)
	case "status":
		if known := slices.Sorted(maps.Keys(c["policy"])); len(known) > 0 {
			name = rapid.SampledFrom(known).Draw(t, "policy")
			before, enforced := c["policy"][name], fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "enforced"))
			c["policy"][name] = func() any {
				o := before().(*policyText)
				o.status = fmt.Appendf(nil, `{"enforced": %q}`, enforced)
				return o
			}
		}
		return "policy", name
	case "mesh":
		name, namespace, object = convert.MeshConfigMap, "system", anyMesh(t)
	}
	name = namespace + "/" + name
	if rapid.IntRange(0, 5).Draw(t, "gone") == 0 {
		delete(c[kind], name)
	} else {
		c[kind][name] = object
	}
	return kind, name
}

func anyApp(t *rapid.T) string { return rapid.SampledFrom([]string{"web", "db"}).Draw(t, "app") }

func anyPod(t *rapid.T, namespace string) (string, func() any) {
	name := fmt.Sprint("pod-", rapid.IntRange(0, 3).Draw(t, "pod"))
	app, address := anyApp(t), rapid.IntRange(0, 6).Draw(t, "address")
	number := rapid.SampledFrom([]int32{8080, 8080, 9090}).Draw(t, "port")
	annotation := rapid.SampledFrom([][2]string{
		{"x", ""}, {"x", ""}, {v1alpha1.AnnotationServerFirst, "8080"}, {v1alpha1.AnnotationExcludeInboundPorts, "8080"}, {v1alpha1.AnnotationAllowHTTP10, "true"}, {v1alpha1.AnnotationServerFirst, "bad"},
	}).Draw(t, "annotation")
	odd := rapid.IntRange(0, 9).Draw(t, "odd")
	born := rapid.IntRange(1, 2).Draw(t, "born")
	return name, func() any {
		p := newPod(name, func(p *corev1.Pod) {
			p.Namespace, p.Annotations, p.OwnerReferences[0].Name = namespace, map[string]string{annotation[0]: annotation[1]}, app+"-abc"
			p.CreationTimestamp = metav1.Unix(int64(born), 0)
			p.Labels = map[string]string{"app": app, "pod-template-hash": "abc", "statefulset.kubernetes.io/pod-name": name, v1alpha1.LabelServiceAccount: "sa"}
			p.Spec.Containers[0].Ports[0].ContainerPort = number
			p.Status.PodIP, p.Status.PodIPs = fmt.Sprintf("10.0.%d.%d", len(namespace), address), nil
			if address == 0 {
				p.Status.PodIP = ""
			}
			switch odd {
			case 0:
				p.Spec.HostNetwork = true
			case 1:
				p.Status.Phase = corev1.PodSucceeded
			case 2:
			default:
				p.Labels[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
			}
		})
		return p
	}
}

func anyService(t *rapid.T, namespace string) (string, func() any) {
	name, app := rapid.SampledFrom([]string{"web", "dns"}).Draw(t, "service"), anyApp(t)
	target := rapid.SampledFrom([]intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("http"), intstr.FromInt32(53)}).Draw(t, "target")
	protocol := rapid.SampledFrom([]string{"http", "tcp"}).Draw(t, "protocol")
	ip := rapid.IntRange(1, 3).Draw(t, "IP")
	return name, func() any {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: corev1.ServiceSpec{ClusterIP: fmt.Sprint("10.96.0.", ip), Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{
				{Name: "a", Port: 80, TargetPort: target, AppProtocol: &protocol}, {Name: "b", Port: 53, TargetPort: intstr.FromInt32(5353), Protocol: corev1.ProtocolUDP},
			}},
		}
	}
}

func anySlice(t *rapid.T, namespace string) (string, func() any) {
	pod, address := fmt.Sprint("pod-", rapid.IntRange(0, 3).Draw(t, "pod")), rapid.IntRange(1, 9).Draw(t, "address")
	return "web-" + pod, func() any {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web-" + pod, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprint("10.0.1.", address)}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pod}}},
		}
	}
}

func anyNetworkPolicy(t *rapid.T, namespace string) (string, func() any) {
	app, version := anyApp(t), fmt.Sprint(rapid.IntRange(0, 1000).Draw(t, "version"))
	out := rapid.SampledFrom([]networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}).Draw(t, "type")
	return "foreign", func() any {
		return &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "foreign", ResourceVersion: version + app + string(out)},
			Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, PolicyTypes: []networkingv1.PolicyType{out}},
		}
	}
}

func anyMesh(t *rapid.T) func() any {
	text := rapid.SampledFrom([]string{
		"spec: {http: {maxConcurrentStreams: 50}}", "spec: {dns: [{namespaceSelector: {}, podSelector: {matchLabels: {app: db}}}]}",
		"spec: {metrics: {peers: [{namespaceSelector: {matchLabels: {team: web}}}], ports: [8080]}}", "spec: {}",
	}).Draw(t, "mesh")
	return func() any {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: convert.MeshConfigMap}, Data: map[string]string{
			convert.MeshConfigKey: "apiVersion: policy.pilot-lite.io/v1alpha1\nkind: MeshConfig\n" + text,
		}}
	}
}

func anyPolicy(t *rapid.T, namespace string) (string, func() any) {
	name := fmt.Sprint("policy-", rapid.IntRange(0, 3).Draw(t, "policy"))
	labelled := func(key, value string) map[string]any {
		return map[string]any{"matchLabels": map[string]any{key: value}}
	}
	selector := rapid.SampledFrom([]map[string]any{
		{}, labelled("app", "web"), labelled("app", "db"), labelled("statefulset.kubernetes.io/pod-name", "pod-0"),
	}).Draw(t, "selector")
	peers := rapid.SampledFrom([][]any{
		nil,
		{map[string]any{"podSelector": labelled("app", "db")}},
		{map[string]any{"namespaceSelector": labelled("team", "web")}},
		{map[string]any{"namespaceSelector": map[string]any{}, "podSelector": labelled("app", "web")}, map[string]any{"podSelector": labelled("app", "web")}},
		{map[string]any{"ipBlock": map[string]any{"cidr": "10.0.1.0/30"}}},
		{map[string]any{"serviceAccounts": []any{map[string]any{"name": "sa"}}}},
	})
	ports := rapid.SampledFrom([][]any{nil, {map[string]any{"port": int64(8080)}}, {map[string]any{"port": "http"}}})
	rule := func(peersKey string, withHTTP bool) map[string]any {
		out := map[string]any{}
		if list := peers.Draw(t, "peers"); list != nil {
			out[peersKey] = list
		}
		if list := ports.Draw(t, "ports"); list != nil {
			out["ports"] = list
		}
		if withHTTP {
			out["http"] = []any{rapid.SampledFrom([]map[string]any{
				{"methods": []any{"GET"}}, {"hosts": []any{"web"}, "paths": []any{map[string]any{"type": "Exact", "value": "/a"}}},
			}).Draw(t, "match")}
		}
		return out
	}
	spec := map[string]any{
		"podSelector": selector, "action": rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "action"), "enforcement": rapid.SampledFrom([]string{"Enforce", "Enforce", "DryRun"}).Draw(t, "enforcement"),
		"ingress": []any{rule("from", rapid.Bool().Draw(t, "http")), rule("from", false)},
	}
	if rapid.IntRange(0, 2).Draw(t, "egress") == 0 {
		spec["policyTypes"], spec["egress"] = []any{"Ingress", "Egress"}, []any{rule("to", false)}
	}
	generation := rapid.Int64Range(1, 1_000_000).Draw(t, "generation")
	return name, func() any {
		o := policyObject(spec)
		o.SetNamespace(namespace)
		o.SetName(name)
		o.SetGeneration(generation)
		return o
	}
}
