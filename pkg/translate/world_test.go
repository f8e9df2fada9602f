package translate_test

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func selector(key, value string) labels.Selector {
	return labels.SelectorFromSet(labels.Set{key: value})
}

// cart is the callee of most tests: HTTP on 8080, something else on 5432.
func cart(change func(*model.Pod)) *model.Pod {
	p := &model.Pod{
		Namespace: "shop", Name: "cart-1", Owner: "cart", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{addr("10.0.0.1")},
		Ports: []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}, {Name: "db", Number: 5432, Protocol: model.TCP}},
	}
	if change != nil {
		change(p)
	}
	return p
}

func client(name, address string) *model.Pod {
	return &model.Pod{
		Namespace: "shop", Name: name + "-1", Owner: name, Labels: map[string]string{"app": name}, Addresses: []netip.Addr{addr(address)},
	}
}

// world is cart, a friend, a stranger, and policies.
func world(callee *model.Pod, policies ...*model.Policy) *model.Index {
	return model.NewIndex(&model.Snapshot{
		Pods: []*model.Pod{callee, client("friend", friend().address), client("stranger", stranger().address)},
		Services: []model.Service{{Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"}, Ports: []model.ServicePort{
			{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: 8080},
		}}},
		Policies: policies,
	})
}

func policy(name string, action model.Action, rules ...model.Rule) *model.Policy {
	return &model.Policy{
		PolicyRef: model.PolicyRef{Namespace: "shop", Name: name, UID: "uid-" + name, Generation: 1}, Action: action, IsolatesIngress: true,
		Selector: selector("app", "cart"), Ingress: rules, Accepted: true,
	}
}

func friends() []model.Peer { return []model.Peer{{Pods: selector("app", "friend")}} }

// resourcesOf translates and returns the resources of the callee.
func resourcesOf(t *testing.T, tr *translate.Translator, ix *model.Index) []translate.Resource {
	t.Helper()
	for _, w := range tr.Translate(ix).Workloads {
		if w.Workload == ix.WorkloadOf("shop", "cart-1") {
			return w.Resources
		}
	}
	t.Fatal("cart has no resources")
	return nil
}
