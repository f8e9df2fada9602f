package convert_test

import (
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// cluster is two pods with a sidecar and two without, which genPolicy's selectors, accounts, blocks and ports tell apart.
func cluster(policies ...*model.Policy) *model.Index {
	s := &model.Snapshot{Policies: policies, Mesh: convert.DefaultMesh(), Services: []model.Service{{
		Namespace: "shop", Name: "web", Selector: map[string]string{"kind": "web"}, Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80, TargetPort: 80}},
	}}}
	for i, address := range []string{"10.0.0.1", "10.1.0.1", "10.0.0.2", "192.168.0.1"} {
		name := string(rune('a' + i%2))
		set := map[string]string{"app": name, "kind": "web", v1alpha1.LabelServiceAccount: []string{"x", "y", "y", "x"}[i]}
		if i < 2 {
			set[v1alpha1.LabelProxy] = v1alpha1.ProxyInjected
		}
		s.Pods = append(s.Pods, &model.Pod{Namespace: "shop", Name: name + address, Labels: set, Addresses: []netip.Addr{netip.MustParseAddr(address)}, Proxy: model.ProxySettings{Injected: i < 2}})
	}
	return model.NewIndex(s)
}

// kernelOf is what the node's kernels hold.
func kernelOf(t *rapid.T, ix *model.Index) *kernel.Set {
	companions, _ := new(netpol.Builder).Build(ix)
	var all []*networkingv1.NetworkPolicy
	for _, c := range companions {
		if !c.DryRun {
			all = append(all, c.NetworkPolicy)
		}
	}
	set, found := kernel.New(all)
	if len(found) > 0 {
		t.Fatal(found)
	}
	return set
}

// Breaking any part of a policy widens neither layer, beside another policy: no sidecar allows a request that it did not allow, and no NetworkPolicy lets a port pass that
// did not pass.
func TestBreakingAPartWidensNeitherLayer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, breaking)
}

func breaking(t *rapid.T) {
	p, beside := genPolicy(t), genPolicy(t)
	p.Namespace, beside.Namespace, beside.Name = "shop", "shop", "q"
	intact, _ := convert.Policy(p)
	other, _ := convert.Policy(beside)
	was := cluster(&intact, &other)
	stood := kernelOf(t, was)
	var calls []call
	for range 40 {
		calls = append(calls, genCall(t))
	}
	for i := range breakers(p) {
		broken := p.DeepCopy()
		fault := breakers(broken)[i]
		fault.apply()
		after, _ := convert.Policy(broken)
		is := cluster(&after, &other)
		stands := kernelOf(t, is)
		for c := range was.Snapshot.Pods {
			for _, k := range calls {
				if narrower(t, fault.name, was, is, c, k) {
					break
				}
			}
			for o := range was.Snapshot.Pods {
				for _, d := range []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress} {
					before := stood.Governing(d, kernel.PodEnd(was, was.Snapshot.Pods[c])).Ports(kernel.PodEnd(was, was.Snapshot.Pods[o]))
					now := stands.Governing(d, kernel.PodEnd(is, is.Snapshot.Pods[c])).Ports(kernel.PodEnd(is, is.Snapshot.Pods[o]))
					for _, r := range now.Minus(before) {
						if !meant(was, d, c, o, r) {
							t.Fatalf("%s: %s of %s lets %s with %s pass, and neither did nor should", fault.name, d, is.Snapshot.Pods[c].Name, r, is.Snapshot.Pods[o].Name)
						}
					}
				}
			}
		}
	}
}

// meant says whether the policies mean a range of ports to pass: the companions of some are cut back, since NetworkPolicy cannot say them.
func meant(ix *model.Index, d networkingv1.PolicyType, governed, other int, r kernel.Range) bool {
	at, with := eval.PodParty(ix, ix.Snapshot.Pods[governed]), eval.PodParty(ix, ix.Snapshot.Pods[other])
	return eval.L4(ix, d, at, with, r.From, r.Protocol).Allowed && eval.L4(ix, d, at, with, r.To, r.Protocol).Allowed
}

// narrower fails where a sidecar allows a call that it did not allow, and says whether the pod has none.
func narrower(t *rapid.T, fault string, was, is *model.Index, callee int, k call) (bare bool) {
	pod := was.Snapshot.Pods[callee]
	if !pod.Proxy.Injected {
		return true
	}
	r := model.Request{Source: k.ip, Port: k.port}
	if k.method != "" {
		r.HTTP = &model.HTTPRequest{Method: k.method, Host: k.host, Path: k.path}
		if k.header != "" {
			r.HTTP.Headers = []model.Header{{Name: "x-a", Value: k.header}}
		}
	}
	before, now := eval.Ingress(was, was.WorkloadOf(pod.Namespace, pod.Name), r), eval.Ingress(is, is.WorkloadOf(pod.Namespace, pod.Name), r)
	if now.Allowed && !before.Allowed {
		t.Fatalf("%s: a sidecar allows %+v by %s, and refused it by %s", fault, k, now.Decider, before.Decider)
	}
	return false
}

// FuzzBreakingAPartWidensNeitherLayer is the same, for a fuzzer to choose the policies.
func FuzzBreakingAPartWidensNeitherLayer(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(breaking))
}
