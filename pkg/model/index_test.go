package model_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func pod(name, address string, set map[string]string) *model.Pod {
	return &model.Pod{
		Namespace: "shop", Name: name, Owner: "cart", Labels: set, ServiceAccount: "cart", Addresses: []netip.Addr{netip.MustParseAddr(address)},
		Ports: []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}, {Number: 53, Protocol: model.UDP}},
	}
}

func selector(key, value string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{key: value})
}

// Pods of one template are one workload, and the workload is the same one however many pods it has.
func TestPodsOfOneTemplateAreOneWorkload(t *testing.T) {
	t.Parallel()
	a := pod("cart-1", "10.0.0.1", map[string]string{"app": "cart", "pod-template-hash": "1"})
	b := pod("cart-2", "10.0.0.2", map[string]string{"app": "cart", "pod-template-hash": "2"})
	both := model.NewIndex(&model.Snapshot{Pods: []*model.Pod{a, b}})
	if len(both.Workloads) != 1 {
		t.Fatalf("got %d workloads, want 1", len(both.Workloads))
	}
	w := both.Workloads[0]
	if len(w.Addresses) != 2 || w.Name != "cart" {
		t.Errorf("got name %q and addresses %v", w.Name, w.Addresses)
	}
	if one := model.NewIndex(&model.Snapshot{Pods: []*model.Pod{a}}).Workloads[0]; one.Key != w.Key {
		t.Errorf("the key changed with the number of pods: %q and %q", one.Key, w.Key)
	}
	if _, ok := w.Port(53); ok {
		t.Error("a UDP port is listed among the TCP ports")
	}
}

// A label that differs from pod to pod tells workloads apart as soon as any selector names it: else a policy could not select by it.
func TestNamedLabelsTellWorkloadsApart(t *testing.T) {
	t.Parallel()
	pods := []*model.Pod{
		pod("cart-1", "10.0.0.1", map[string]string{"pod-template-hash": "1"}),
		pod("cart-2", "10.0.0.2", map[string]string{"pod-template-hash": "2"}),
	}
	p := &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop"}, Selector: selector("pod-template-hash", "1")}
	ix := model.NewIndex(&model.Snapshot{Pods: pods, Policies: []*model.Policy{p}})
	if got := ix.Selected(p); len(ix.Workloads) != 2 || len(got) != 1 || got[0].Pods[0].Name != "cart-1" {
		t.Errorf("got %d workloads and %d selected", len(ix.Workloads), len(got))
	}
}

// A port speaks HTTP only when a Service says so, by appProtocol first, and Services that disagree leave it TCP.
func TestPortProtocol(t *testing.T) {
	t.Parallel()
	service := func(name string, port model.ServicePort) model.Service {
		port.Protocol = model.TCP
		return model.Service{Namespace: "shop", Name: name, Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{port}}
	}
	for _, c := range []struct {
		name     string
		services []model.Service
		want     model.AppProtocol
		conflict bool
	}{
		{"no service", nil, model.AppTCP, false},
		{"port name", []model.Service{service("a", model.ServicePort{Name: "http-web", TargetPort: 8080})}, model.AppHTTP, false},
		{"bare port name", []model.Service{service("a", model.ServicePort{Name: "grpc", TargetName: "web"})}, model.AppHTTP, false},
		{"https is not HTTP to a sidecar", []model.Service{service("a", model.ServicePort{Name: "https", TargetPort: 8080})}, model.AppTCP, false},
		{"a prefix ends at the dash", []model.Service{service("a", model.ServicePort{Name: "httpx", TargetPort: 8080})}, model.AppTCP, false},
		{"appProtocol first", []model.Service{service("a", model.ServicePort{Name: "http", AppProtocol: "tcp", TargetPort: 8080})}, model.AppTCP, false},
		{"kubernetes.io/h2c", []model.Service{service("a", model.ServicePort{AppProtocol: "kubernetes.io/h2c", TargetPort: 8080})}, model.AppHTTP, false},
		{"disagreement", []model.Service{
			service("a", model.ServicePort{Name: "http", TargetPort: 8080}), service("b", model.ServicePort{Name: "redis", TargetPort: 8080}),
		}, model.AppTCP, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ix := model.NewIndex(&model.Snapshot{Pods: []*model.Pod{pod("cart-1", "10.0.0.1", map[string]string{"app": "cart"})}, Services: c.services})
			got, ok := ix.Workloads[0].Port(8080)
			if !ok || got.Protocol != c.want || got.Conflict != c.conflict {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A peer's selectors are ANDed; without a namespace selector it stays in the policy's namespace; a host-network pod is nobody.
func TestPeerWorkloads(t *testing.T) {
	t.Parallel()
	named := func(namespace, name string, set map[string]string) *model.Pod {
		return &model.Pod{Namespace: namespace, Name: name, Labels: set}
	}
	host := named("web", "host", map[string]string{"app": "front"})
	host.HostNetwork = true
	ix := model.NewIndex(&model.Snapshot{
		Namespaces: []model.Namespace{{Name: "web", Labels: map[string]string{"team": "web", "kubernetes.io/metadata.name": "web"}}},
		Pods: []*model.Pod{
			named("shop", "front", map[string]string{"app": "front"}), named("web", "front", map[string]string{"app": "front", v1alpha1.LabelServiceAccount: "fr.nt"}),
			named("web", "batch", map[string]string{"app": "batch"}), host,
		},
	})
	all := labels.Everything()
	for _, c := range []struct {
		name string
		peer model.Peer
		want string
	}{
		{"own namespace", model.Peer{Pods: selector("app", "front")}, "shop/front"},
		{"AND", model.Peer{Namespaces: selector("team", "web"), Pods: selector("app", "front")}, "web/front"},
		{"every namespace", model.Peer{Namespaces: all, Pods: selector("app", "front")}, "shop/front web/front"},
		{"a namespace the snapshot does not list has its name", model.Peer{Namespaces: selector("kubernetes.io/metadata.name", "shop")}, "shop/front"},
		{"account", model.Peer{Namespaces: all, ServiceAccounts: []string{"fr.nt"}}, "web/front"},
		{"an account is no pattern", model.Peer{Namespaces: all, ServiceAccounts: []string{"f..nt"}}, ""},
		{"a block is no workload", model.Peer{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("0.0.0.0/0")}}, ""},
	} {
		var got []string
		for _, w := range ix.PeerWorkloads("shop", c.peer) {
			got = append(got, w.Namespace+"/"+w.Name)
		}
		slices.Sort(got)
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: got %q, want %q", c.name, s, c.want)
		}
	}
}

// Long account names keep their beginning for people and a hash that tells them apart.
func TestServiceAccountLabel(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	got, other := model.ServiceAccountLabel(long), model.ServiceAccountLabel(long+"b")
	if len(got) != 63 || got == other || !strings.HasPrefix(got, long[:46]+"-") {
		t.Errorf("got %q and %q", got, other)
	}
	if got := model.ServiceAccountLabel("short"); got != "short" {
		t.Errorf("got %q", got)
	}
}

// A policy edit keeps the grouping; a selector that comes to name a per-pod label, or another list of pods, makes it anew.
func TestIndexerGroupsAnewOnlyWhenItMust(t *testing.T) {
	t.Parallel()
	first := &model.Snapshot{Pods: []*model.Pod{
		pod("cart-1", "10.0.0.1", map[string]string{"pod-template-hash": "1"}), pod("cart-2", "10.0.0.2", map[string]string{"pod-template-hash": "2"}),
	}}
	var x model.Indexer
	before := x.Index(first)

	edited := *first
	edited.Policies = []*model.Policy{{PolicyRef: model.PolicyRef{Namespace: "shop"}, Selector: selector("app", "cart")}}
	if after := x.Index(&edited); after.Workloads[0] != before.Workloads[0] || after.Snapshot != &edited {
		t.Error("a policy edit grouped the pods anew, or kept the old snapshot")
	}
	naming := edited
	naming.Policies = []*model.Policy{{PolicyRef: model.PolicyRef{Namespace: "shop"}, Selector: selector("pod-template-hash", "1")}}
	if after := x.Index(&naming); len(after.Workloads) != 2 {
		t.Errorf("got %d workloads after a selector named a per-pod label, want 2", len(after.Workloads))
	}
	fewer := edited
	fewer.Pods = slices.Clone(first.Pods[:1])
	if after := x.Index(&fewer); len(after.Workloads[0].Pods) != 1 {
		t.Errorf("got %d pods, want 1", len(after.Workloads[0].Pods))
	}
}
