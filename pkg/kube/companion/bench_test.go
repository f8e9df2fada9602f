package companion

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// BenchmarkCompare looks at the companions of 1,000 policies of which one was edited.
func BenchmarkCompare(b *testing.B) {
	const policies = 1000
	s := &model.Snapshot{Mesh: convert.DefaultMesh()}
	d := Desired{}
	for i := range policies {
		p := &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: fmt.Sprint("ns-", i%50), Name: fmt.Sprint("p-", i), UID: fmt.Sprint("u-", i), Generation: 1}, Action: model.Allow,
			Selector: labels.SelectorFromSet(labels.Set{"app": fmt.Sprint(i)}), IsolatesIngress: true, IsolatesEgress: true,
			Ingress: []model.Rule{{Name: "0", Ports: []model.PortRange{{Protocol: model.TCP, From: 80, To: 80}}}, {Name: "1", HTTP: []model.HTTPMatch{{Methods: []string{"GET"}}}}},
		}
		s.Policies, d.Policies = append(s.Policies, p), append(d.Policies, p)
	}
	d.Companions, _ = new(netpol.Builder).Build(model.NewIndex(s))
	standing := fixed{}
	for i := range d.Companions {
		np := d.Companions[i].NetworkPolicy.DeepCopy()
		np.UID, np.ResourceVersion = types.UID(np.Name), "1"
		standing = append(standing, np)
	}
	c := New(Config{Standing: standing, Desired: func() (Desired, bool) { return d, true }})
	c.records = map[types.NamespacedName]*record{}
	now := time.Now()
	c.compare(now)
	b.ReportAllocs()
	b.ReportMetric(float64(len(d.Companions)), "companions")
	for b.Loop() {
		edited := d.Companions[0].NetworkPolicy.DeepCopy()
		edited.Spec.PolicyTypes = nil
		d.Companions[0].NetworkPolicy = edited
		if c.compare(now); len(c.queue) != 1 || len(c.queue[0].actions) != 1 {
			b.Fatalf("%d policies are to be written, want 1", len(c.queue))
		}
	}
}

// fixed stands as it is.
type fixed []*networkingv1.NetworkPolicy

func (f fixed) NetworkPolicies() []*networkingv1.NetworkPolicy { return f }
