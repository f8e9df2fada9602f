package check_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/check"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// large is 1,000 workloads in 50 namespaces, each with a policy of ingress with http and of egress.
func large() *model.Index {
	s := &model.Snapshot{}
	selector := func(app string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": app}) }
	for n := range 50 {
		ns := fmt.Sprint("ns-", n)
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: ns, Labels: map[string]string{"kubernetes.io/metadata.name": ns}})
		for i := range 20 {
			app := fmt.Sprint("app-", i)
			s.Services = append(s.Services, model.Service{
				Namespace: ns, Name: app, Selector: map[string]string{"app": app}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, TargetName: "web"}},
			})
			s.Pods = append(s.Pods, &model.Pod{
				Namespace: ns, Name: app + "-0", Owner: app, ServiceAccount: app, Labels: map[string]string{"app": app, "policy.pilot-lite.io/proxy": "injected"},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), byte(i), 1})}, Proxy: model.ProxySettings{Injected: true}, Expected: true,
				Ports: []model.ContainerPort{{Name: "web", Number: 8080, Protocol: model.TCP}},
			})
			ports := []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}}
			p := &model.Policy{
				PolicyRef: model.PolicyRef{Namespace: ns, Name: app}, Action: model.Allow, Selector: selector(app), IsolatesIngress: true, IsolatesEgress: true,
				Egress: []model.Rule{{Name: "0", Ports: ports, Peers: []model.Peer{{Pods: selector(fmt.Sprint("app-", (i+19)%20))}, {Pods: selector(fmt.Sprint("app-", (i+18)%20))}}}},
			}
			for r := range 2 {
				p.Ingress = append(p.Ingress, model.Rule{
					Name: fmt.Sprint(r), Peers: []model.Peer{{Pods: selector(fmt.Sprint("app-", (i+r+1)%20))}}, Ports: ports,
					HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/api/v%d/%s", r, app)}}}},
				})
			}
			s.Policies = append(s.Policies, p)
		}
	}
	return model.NewIndex(s)
}

func BenchmarkMatrix(b *testing.B) {
	ix := large()
	output := translate.Translate(ix)
	b.ReportAllocs()
	for b.Loop() {
		w, _ := check.New(ix, output)
		if m := w.Matrix(); len(m.Rows) != 1000 || len(m.Callers) != 1001 {
			b.Fatalf("%d rows, %d callers", len(m.Rows), len(m.Callers))
		}
	}
}

func BenchmarkAsk(b *testing.B) {
	ix := large()
	output := translate.Translate(ix)
	b.ReportAllocs()
	for b.Loop() {
		w, _ := check.New(ix, output)
		from, err := w.Callers("ns-1/app-4", "")
		if err != nil {
			b.Fatal(err)
		}
		to, _, err := w.Callees("ns-1/app-3:8080", "")
		if err != nil {
			b.Fatal(err)
		}
		if a := w.Ask(from[0], to[0], &model.HTTPRequest{Method: "GET", Host: "app-3", Path: "/api/v0/app-3"}); !a.Verdict.Allowed || a.Disagreement != "" {
			b.Fatalf("%+v", a)
		}
	}
}
