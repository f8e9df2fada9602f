package convert_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

func hostPolicy(name, host string) *model.Policy {
	return &model.Policy{PolicyRef: model.PolicyRef{Namespace: "shop", Name: name}, Selector: labels.Everything(), Ingress: []model.Rule{{Name: "0", HTTP: []model.HTTPMatch{{Hosts: []model.Host{{Name: host}}}}}}}
}

// base is a Deployment's template and a pod that runs, a Service, and two policies.
func base() *model.Snapshot {
	w := convert.NewWorld(convert.Parts{
		Services: []model.Service{{Namespace: "shop", Name: "cart"}},
		Pods: []*model.Pod{{
			Namespace: "shop", Name: "front-1", Owner: "front", UID: "7", Expected: true, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, ServiceAccount: "front",
			Labels: map[string]string{"app": "front", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "front"}, Proxy: model.ProxySettings{Injected: true},
		}},
		Templates: []convert.Template{template("cart", "cart"), template("front", "front")},
	})
	return w.Snapshot(w.Resolve([]*model.Policy{hostPolicy("a", "cart"), hostPolicy("b", "other")}), []*networkingv1.NetworkPolicy{networkPolicy("n")}, convert.DefaultMesh(), nil)
}

func template(name, app string) convert.Template {
	return convert.Template{Kind: "Deployment", Selector: labels.SelectorFromSet(labels.Set{"app": app}), Pod: model.Pod{Namespace: "shop", Name: name, Owner: name, Template: true, Labels: map[string]string{"app": app}}}
}

func networkPolicy(name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
}

func podsOf(s *model.Snapshot) map[string]labels.Set {
	out := map[string]labels.Set{}
	for _, p := range s.Pods {
		out[p.Name] = p.Labels
	}
	return out
}

// Policies take the place of those of the same name, learn the spellings of their hosts, and leave everything else as it is, the same slices.
func TestOverPolicies(t *testing.T) {
	t.Parallel()
	s := base()
	out, standing := convert.Over(s, &convert.Edit{
		Policies: []*model.Policy{hostPolicy("b", "cart"), hostPolicy("c", "cart.shop")}, NetworkPolicies: []*networkingv1.NetworkPolicy{networkPolicy("m")},
	})
	if len(standing) > 0 || out.Pods[0] != s.Pods[0] || &out.Services[0] != &s.Services[0] || &out.Namespaces[0] != &s.Namespaces[0] || &out.Policies[0].Ingress[0] != &s.Policies[0].Ingress[0] {
		t.Error("what was left alone is not the same")
	}
	got := map[string]int{}
	for _, p := range out.Policies {
		got[p.Name] = len(p.Ingress[0].HTTP[0].Hosts[0].Aliases)
	}
	if diff := cmp.Diff(map[string]int{"a": 3, "b": 3, "c": 3}, got); diff != "" {
		t.Errorf("spellings, want, got:\n%s", diff)
	}
	if len(out.NetworkPolicies) != 2 || out.NetworkPolicies[0].Name != "m" || len(s.Policies) != 2 || s.Policies[1].Ingress[0].HTTP[0].Hosts[0].Name != "other" {
		t.Error("the NetworkPolicies are not sorted, or the base changed")
	}
	out, _ = convert.Over(s, &convert.Edit{Gone: func(p *model.Policy) bool { return p.Name == "a" }})
	if len(out.Policies) != 1 || out.Policies[0].Name != "b" || len(s.Policies) != 2 {
		t.Errorf("%v", out.Policies)
	}
}

// A template takes the place of a template, and changes nothing of pods that are listed.
func TestOverTemplates(t *testing.T) {
	t.Parallel()
	s := base()
	out, standing := convert.Over(s, &convert.Edit{Parts: convert.Parts{Templates: []convert.Template{template("cart", "basket"), template("front", "facade"), template("new", "new")}}})
	want := map[string]labels.Set{"cart": {"app": "basket"}, "front-1": s.Pods[1].Labels, "new": {"app": "new"}}
	if diff := cmp.Diff(want, podsOf(out)); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	if len(standing) != 1 || standing[0].Pod.Name != "front" {
		t.Errorf("%v stand", standing)
	}
}

// A pod that is written anew keeps what the cluster and the injector gave it; a Service has its hosts spelt anew, in every policy.
func TestOverPods(t *testing.T) {
	t.Parallel()
	s := base()
	out, _ := convert.Over(s, &convert.Edit{Parts: convert.Parts{
		Pods:       []*model.Pod{{Namespace: "shop", Name: "front-1", Labels: map[string]string{"app": "facade"}, ServiceAccount: "front"}},
		Services:   []model.Service{{Namespace: "shop", Name: "other"}},
		Namespaces: []model.Namespace{{Name: "shop", Labels: map[string]string{"team": "a"}}},
	}})
	p := out.Pods[1]
	if p.Owner != "front" || p.UID != "7" || !p.Expected || len(p.Addresses) != 1 || !p.Proxy.Injected {
		t.Errorf("%+v", p)
	}
	if diff := cmp.Diff(map[string]string{"app": "facade", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: "front"}, p.Labels); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	if n := len(out.Policies[1].Ingress[0].HTTP[0].Hosts[0].Aliases); n != 3 || out.Namespaces[0].Labels["team"] != "a" {
		t.Errorf("%d spellings, namespaces %v", n, out.Namespaces)
	}
}

// Templates of namespaces that inject stand for pods with a sidecar; what runs is as it is.
func TestAsInjected(t *testing.T) {
	t.Parallel()
	s := base()
	if convert.AsInjected(s) != s {
		t.Error("nothing injects, and it is another snapshot")
	}
	s.Namespaces = []model.Namespace{{Name: "shop", Labels: map[string]string{v1alpha1.LabelInject: v1alpha1.InjectEnabled}}}
	s.Pods[1].Labels, s.Pods[1].Proxy.Injected = map[string]string{"app": "front"}, false
	got := convert.AsInjected(s)
	want := map[string]labels.Set{"cart": {"app": "cart", v1alpha1.LabelProxy: v1alpha1.ProxyInjected, v1alpha1.LabelServiceAccount: ""}, "front-1": {"app": "front"}}
	if diff := cmp.Diff(want, podsOf(got)); diff != "" {
		t.Errorf("want, got:\n%s", diff)
	}
	if convert.AsInjected(got) != got {
		t.Error("injected twice")
	}
}

// Only "false", or nothing, does not guard; what is neither word is told of.
func TestGuarded(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]struct{ guards, warns bool }{"true": {true, false}, "false": {false, false}, "no": {true, true}, "": {true, true}} {
		meta := metav1.ObjectMeta{Namespace: "shop", Name: "a", Annotations: map[string]string{v1alpha1.AnnotationGuarded: value}}
		policy, found := convert.Policy(&v1alpha1.L7Policy{ObjectMeta: meta})
		if policy.Guarded != want.guards || (len(found) > 0) != want.warns || convert.Namespace(&corev1.Namespace{ObjectMeta: meta}).Guarded != want.guards {
			t.Errorf("%q: guards %t, with %v", value, policy.Guarded, found)
		}
	}
	if policy, _ := convert.Policy(&v1alpha1.L7Policy{}); policy.Guarded {
		t.Error("a policy guards without a word")
	}
	_, unreadable, _ := convert.PolicyJSON(&metav1.ObjectMeta{Annotations: map[string]string{v1alpha1.AnnotationGuarded: "true"}}, []byte("[]"))
	if !unreadable.Guarded {
		t.Error("a policy that cannot be read does not guard")
	}
}
