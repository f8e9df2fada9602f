package convert_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func object[T any](t *testing.T, text string) *T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

func pod(t *testing.T, text string) *model.Pod {
	t.Helper()
	out, _ := convert.Pod(object[corev1.Pod](t, text))
	return &out
}

// The address of a pod is what its callers are known by: only a pod that lives, and alone, has one.
func TestPodAddresses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"running":      {"{metadata: {name: a}, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: '2001:db8::1'}], phase: Running}}", 2},
		"no status":    {"{metadata: {name: a}}", 0},
		"succeeded":    {"{metadata: {name: a}, status: {podIP: 10.0.0.1, phase: Succeeded}}", 0},
		"failed":       {"{metadata: {name: a}, status: {podIP: 10.0.0.1, phase: Failed}}", 0},
		"terminating":  {"{metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {podIP: 10.0.0.1, phase: Running}}", 1},
		"host network": {"{metadata: {name: a}, spec: {hostNetwork: true, containers: []}, status: {podIP: 10.0.0.1}}", 0},
		"no address":   {"{metadata: {name: a}, status: {podIP: nonsense}}", 0},
	} {
		if got := pod(t, c.text); len(got.Addresses) != c.want {
			t.Errorf("%s: got addresses %v, want %d", name, got.Addresses, c.want)
		}
	}
}

// The name for people is that of the Deployment, not of one of its ReplicaSets.
func TestPodOwner(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ kind, owner, hash, want string }{
		{"ReplicaSet", "cart-5d8f", "5d8f", "cart"}, {"ReplicaSet", "cart", "", "cart"}, {"StatefulSet", "db", "", "db"}, {"DaemonSet", "agent-5d8f", "5d8f", "agent-5d8f"},
	} {
		yes := true
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: "x", Labels: map[string]string{"pod-template-hash": c.hash}, OwnerReferences: []metav1.OwnerReference{{Kind: c.kind, Name: c.owner, Controller: &yes}},
		}}
		if got, _ := convert.Pod(p); got.Owner != c.want {
			t.Errorf("%s %s: got owner %q, want %q", c.kind, c.owner, got.Owner, c.want)
		}
	}
}

// Ports of native sidecars count, those of init containers that end do not, and the proxy's own are nobody's.
func TestPodPorts(t *testing.T) {
	t.Parallel()
	got := pod(t, `
metadata: {name: a}
spec:
  initContainers:
  - {name: once, ports: [{containerPort: 1}]}
  - {name: sidecar, restartPolicy: Always, ports: [{containerPort: 2}]}
  containers:
  - {name: app, ports: [{name: web, containerPort: 8080}, {containerPort: 53, protocol: UDP}, {containerPort: 15006}, {containerPort: 70000}]}
`).Ports
	want := []model.ContainerPort{{Number: 2, Protocol: model.TCP}, {Name: "web", Number: 8080, Protocol: model.TCP}, {Number: 53, Protocol: model.UDP}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// An annotation that is not understood leaves the hardened default, and says so.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		annotation, value string
		changes           bool // from the hardened default
		bad               bool
	}{
		{v1alpha1.AnnotationAllowHTTP10, "true", true, false},
		{v1alpha1.AnnotationAllowHTTP10, "false", false, false},
		{v1alpha1.AnnotationAllowHTTP10, "yes", false, true},
		{v1alpha1.AnnotationAllowHTTP10, "TRUE ", false, true},
		{v1alpha1.AnnotationAllowEscapedSlashes, "true\n", false, true},
		{v1alpha1.AnnotationServerFirst, "25, 3306", true, false},
		{v1alpha1.AnnotationServerFirst, "25,x", false, true},
		{v1alpha1.AnnotationServerFirst, "0", false, true},
		{v1alpha1.AnnotationExcludeInboundPorts, "70000", false, true},
		{v1alpha1.AnnotationMaxStreamDuration, "10m", true, false},
		{v1alpha1.AnnotationMaxStreamDuration, "-1s", false, true},
		{v1alpha1.AnnotationMaxStreamDuration, "1", false, true},
		{v1alpha1.AnnotationBound, `[{"port":80,"listen":"127.0.0.1:8080","application":"127.0.0.1:8081"}]`, true, false},
		{v1alpha1.AnnotationBound, `[{"port":80,"listen":"localhost:8080","application":"127.0.0.1:8081"}]`, false, true},
		{v1alpha1.AnnotationBound, `[{"port":80,"listen":"127.0.0.1:8080","application":"127.0.0.1:8081","x":1}]`, false, true},
		{v1alpha1.AnnotationBound, `[] {}`, false, true},
		{v1alpha1.AnnotationBound, `{`, false, true},
	} {
		got, found := convert.Pod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Annotations: map[string]string{c.annotation: c.value}}})
		if changed := !cmp.Equal(got.Proxy, model.ProxySettings{}, cmpopts.EquateComparable(netip.AddrPort{})); changed != c.changes {
			t.Errorf("%s %q: got settings %+v", c.annotation, c.value, got.Proxy)
		}
		bad := len(found) > 0 && found[0].Severity == model.SeverityError
		if bad != c.bad || bad && (found[0].Remedy == "" || !strings.Contains(found[0].Field, c.annotation)) {
			t.Errorf("%s %q: got %v", c.annotation, c.value, found)
		}
	}
}

// A Service's target port is its port where none is written; an ExternalName selects nobody.
func TestService(t *testing.T) {
	t.Parallel()
	got := convert.Service(object[corev1.Service](t, "{metadata: {name: s}, spec: {selector: {a: b}, clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 81, targetPort: web, appProtocol: http}, {port: 82, targetPort: 8082}]}}"))
	want := []model.ServicePort{
		{Port: 80, Protocol: model.TCP, TargetPort: 80}, {Port: 81, Protocol: model.TCP, TargetName: "web", AppProtocol: "http"}, {Port: 82, Protocol: model.TCP, TargetPort: 8082},
	}
	if d := cmp.Diff(want, got.Ports); d != "" || got.Namespace != "default" || len(got.ClusterIPs) != 1 {
		t.Errorf("got %+v\n%s", got, d)
	}
	if got := convert.Service(object[corev1.Service](t, "{metadata: {name: s}, spec: {type: ExternalName, externalName: x.test, selector: {a: b}}}")); got.Selector != nil {
		t.Errorf("an ExternalName selects %v", got.Selector)
	}
}

func deployment(t *testing.T, name string) convert.Template {
	t.Helper()
	d := object[appsv1.Deployment](t, "{metadata: {name: "+name+"}, spec: {selector: {matchLabels: {app: "+name+"}}, template: {metadata: {labels: {app: "+name+"}}, spec: {containers: []}}}}")
	out, _ := convert.WorkloadTemplate("Deployment", &d.ObjectMeta, d.Spec.Selector, &d.Spec.Template)
	return out
}

func snapshot(p convert.Parts) *model.Snapshot {
	return convert.NewWorld(p).Snapshot(nil, nil, convert.DefaultMesh(), nil)
}

// A template stands for its pods only while none is listed.
func TestTemplates(t *testing.T) {
	t.Parallel()
	templates := []convert.Template{deployment(t, "cart"), deployment(t, "front")}
	s := snapshot(convert.Parts{Templates: templates, Pods: []*model.Pod{pod(t, "{metadata: {name: cart-1, labels: {app: cart}}}")}})
	if len(s.Pods) != 2 || s.Pods[0].Name != "cart-1" || s.Pods[1].Name != "front" || !s.Pods[1].Template {
		t.Errorf("got %+v", s.Pods)
	}
}

// A slice gives an address to a pod that has none, and to the one template that its Service selects; never where it is not sure.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	slice := func(text string) []convert.Endpoint {
		return convert.EndpointSlice(object[discoveryv1.EndpointSlice](t, text))
	}
	service := convert.Service(object[corev1.Service](t, "{metadata: {name: cart}, spec: {selector: {app: cart}}}"))
	both := convert.Service(object[corev1.Service](t, "{metadata: {name: both}, spec: {selector: {}}}"))
	s := snapshot(convert.Parts{
		Services: []model.Service{service, both}, Templates: []convert.Template{deployment(t, "cart"), deployment(t, "front")},
		Pods: []*model.Pod{pod(t, "{metadata: {name: named}, spec: {nodeName: node, containers: []}}"), pod(t, "{metadata: {name: ended}, status: {phase: Failed}}")},
		Endpoints: [][]convert.Endpoint{
			slice("{metadata: {name: a, labels: {kubernetes.io/service-name: cart}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}]}"),
			slice("{metadata: {name: b}, addressType: IPv4, endpoints: [{addresses: [10.0.0.2], targetRef: {kind: Pod, name: named}}, {addresses: [10.0.0.3], targetRef: {kind: Pod, name: ended}}]}"),
			slice("{metadata: {name: c, labels: {kubernetes.io/service-name: both}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.4]}]}"),
			slice("{metadata: {name: d}, addressType: IPv4, endpoints: [{addresses: [10.0.0.5], conditions: {terminating: true}, targetRef: {kind: Pod, name: named}}]}"),
		},
	})
	got := map[string]string{}
	for _, p := range s.Pods {
		for _, a := range p.Addresses {
			got[p.Name] += a.String() + " "
		}
	}
	if d := cmp.Diff(map[string]string{"cart": "10.0.0.1 ", "named": "10.0.0.2 "}, got); d != "" {
		t.Error(d)
	}
}

// Of two pods that claim an address the newer has it; where neither is newer nobody has, and both are told.
func TestDisputedAddress(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	claim := func(name string, created time.Time) *model.Pod {
		return &model.Pod{Namespace: "shop", Name: name, Created: created, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	}
	for _, c := range []struct {
		name string
		pods []*model.Pod
		want string
	}{
		{"newer", []*model.Pod{claim("a", at), claim("b", at.Add(time.Second))}, "b"},
		{"newer first", []*model.Pod{claim("a", at.Add(time.Second)), claim("b", at)}, "a"},
		{"same age", []*model.Pod{claim("a", at), claim("b", at)}, ""},
	} {
		s := snapshot(convert.Parts{Pods: c.pods})
		holder := ""
		for _, p := range s.Pods {
			if len(p.Addresses) > 0 {
				holder += p.Name
			}
		}
		if holder != c.want || len(s.Diagnostics) == 0 {
			t.Errorf("%s: %q holds the address, want %q; %v", c.name, holder, c.want, s.Diagnostics)
		}
	}
}

// Every namespace that occurs has the label by which the API server names it, whatever is written.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	s := snapshot(convert.Parts{
		Namespaces: []model.Namespace{convert.Namespace(object[corev1.Namespace](t, "{metadata: {name: evil, labels: {kubernetes.io/metadata.name: web, a: b}}}"))},
		Pods:       []*model.Pod{pod(t, "{metadata: {name: a, namespace: shop}}")},
	})
	got := map[string]string{}
	for _, ns := range s.Namespaces {
		got[ns.Name] = ns.Labels["kubernetes.io/metadata.name"]
	}
	if d := cmp.Diff(map[string]string{"evil": "evil", "shop": "shop"}, got); d != "" {
		t.Error(d)
	}
}

func TestMesh(t *testing.T) {
	t.Parallel()
	mesh := func(spec string) (model.Mesh, []model.Diagnostic) {
		return convert.Mesh(object[convert.MeshConfig](t, "{kind: MeshConfig, apiVersion: policy.pilot-lite.io/v1alpha1, metadata: {name: m}, spec: "+spec+"}"))
	}
	got, found := mesh("{trustDomain: corp.test, dns: [{ipBlock: {cidr: 169.254.20.10/32}}], metrics: {peers: [{namespaceSelector: {}}], ports: [9999, 15020]}, http: {maxConcurrentStreams: 7, requestHeadersTimeout: 3s}}")
	if len(found) > 0 || got.TrustDomain != "corp.test" || len(got.DNS) != 1 || got.DNS[0].Block == nil || len(got.MetricsPorts) != 2 || got.MetricsPorts[0] != 9999 || got.HTTP.MaxConcurrentStreams != 7 ||
		got.HTTP.RequestHeaderTimeout != 3*time.Second || got.HTTP.MaxRequestHeadersKB != 60 {
		t.Errorf("got %+v, %v", got, found)
	}
	if got, _ := mesh("{controlPlane: {port: 15013}}"); got.ControlPlanePort != 15013 || len(got.ControlPlane) != 1 {
		t.Errorf("another port lost the control plane's peers: %+v", got)
	}
	for spec, field := range map[string]string{
		"{trustDomain: 'A B'}": "spec.trustDomain", "{identityMode: MTLS}": "spec.identityMode", "{identityMode: Trust}": "spec.identityMode",
		"{dns: [{podSelector: {}}]}": "spec.dns[0]", "{dns: [{ipBlock: {cidr: x}}]}": "spec.dns[0].ipBlock.cidr", "{metrics: {ports: [70000]}}": "spec.metrics.ports[0]", "{controlPlane: {port: 70000}}": "spec.controlPlane.port",
		"{optOutNamespaces: ['A']}": "spec.optOutNamespaces[0]", "{http: {maxConcurrentStreams: -1}}": "spec.http.maxConcurrentStreams",
		"{http: {maxRequestHeadersKB: 9000}}": "spec.http.maxRequestHeadersKB", "{http: {requestHeadersTimeout: soon}}": "spec.http.requestHeadersTimeout",
	} {
		_, found := mesh(spec)
		if len(found) == 0 || !strings.HasPrefix(found[0].Field, field) || found[0].Remedy == "" {
			t.Errorf("%s: got %v", spec, found)
		}
	}
}
