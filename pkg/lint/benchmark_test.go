package lint_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/lint"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// large is 1,000 workloads in 50 namespaces with a policy each, of four rules with http of three kinds, and a Deny for each namespace.
func large() *model.Snapshot {
	s := &model.Snapshot{}
	selector := func(app string) labels.Selector { return labels.SelectorFromSet(labels.Set{"app": app}) }
	for n := range 50 {
		ns := fmt.Sprint("ns-", n)
		s.Namespaces = append(s.Namespaces, model.Namespace{Name: ns, Labels: map[string]string{"kubernetes.io/metadata.name": ns}})
		s.Policies = append(s.Policies, &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: ns, Name: "a-deny"}, Action: model.Deny, Selector: labels.Everything(), IsolatesIngress: true,
			Ingress: []model.Rule{{Name: "0", Ports: []model.PortRange{{Protocol: model.TCP, Name: "web"}}, HTTP: []model.HTTPMatch{
				{Headers: []model.HeaderMatch{{Name: "x-debug", Type: model.Present}}}, {Paths: []model.PathMatch{{Type: model.Prefix, Value: "/debug"}}},
			}}},
		})
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
			p := &model.Policy{PolicyRef: model.PolicyRef{Namespace: ns, Name: app}, Action: model.Allow, Selector: selector(app), IsolatesIngress: true}
			for r := range 4 {
				p.Ingress = append(p.Ingress, model.Rule{
					Name: fmt.Sprint(r), Peers: []model.Peer{{Pods: selector(fmt.Sprint("app-", (i+r+1)%20))}}, Ports: []model.PortRange{{Protocol: model.TCP, From: 8080, To: 8080}},
					HTTP: []model.HTTPMatch{
						{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Prefix, Value: fmt.Sprintf("/api/v%d/%s", r, app)}}},
						{Methods: []string{"POST"}, Paths: []model.PathMatch{{Type: model.Regex, Value: fmt.Sprintf("/api/v%d/[a-z]+/[0-9]+", r)}}},
						{Headers: []model.HeaderMatch{{Name: "x-tenant", Type: model.Regex, Value: "[a-z]+"}, {Name: "x-old", Type: model.Absent}}},
					},
				})
			}
			s.Policies = append(s.Policies, p)
		}
	}
	return s
}

func BenchmarkRun(b *testing.B) {
	ix := model.NewIndex(large())
	output := translate.Translate(ix)
	b.ReportAllocs()
	for b.Loop() {
		lint.Run(lint.Input{Index: ix, Output: output})
	}
}
