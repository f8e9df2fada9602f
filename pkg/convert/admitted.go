package convert

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// standInBlock holds the addresses that stand for those of pods that do not run yet: RFC 2544 keeps them for benchmarks, so that nobody has them. As every pod's, they lie
// in 0.0.0.0/0.
const standInBlock = "198.18.0.0/15"

// AsAdmitted is a snapshot as it will be once the objects that it was read from are applied: what is listed as running stays as it is; a pod that does not run yet carries
// the sidecar and the labels that the injector gives it, where its namespace has injection, and an address that stands for the one it will get. It is for questions about
// files; nothing is to be served from it.
func AsAdmitted(s *model.Snapshot) *model.Snapshot {
	out := *AsInjected(s)
	out.Pods = slices.Clone(out.Pods)
	next := netip.MustParsePrefix(standInBlock).Addr()
	for i := range out.Pods {
		if p := &out.Pods[i]; awaited(p) && len(p.Addresses) == 0 && !p.HostNetwork {
			next = next.Next()
			p.Addresses = []netip.Addr{next}
		}
	}
	return &out
}

// AsInjected is AsAdmitted without the addresses: for questions that are asked about every address that such a pod can get. Where there is nothing to inject it is the same
// snapshot.
func AsInjected(s *model.Snapshot) *model.Snapshot {
	injecting := map[string]bool{}
	for _, ns := range s.Namespaces {
		injecting[ns.Name] = ns.Labels[v1alpha1.LabelInject] == v1alpha1.InjectEnabled
	}
	lacks := func(p *model.Pod) bool {
		return awaited(p) && injecting[p.Namespace] && !p.Proxy.Injected && !p.HostNetwork && !optsOut(&s.Mesh, p)
	}
	if !slices.ContainsFunc(s.Pods, func(p model.Pod) bool { return lacks(&p) }) {
		return s
	}
	out := *s
	out.Pods = slices.Clone(s.Pods)
	for i := range out.Pods {
		if lacks(&out.Pods[i]) {
			out.Pods[i] = stamped(out.Pods[i])
		}
	}
	return &out
}

// awaited says whether a pod does not run yet.
func awaited(p *model.Pod) bool { return !p.Expected && !p.Ended }

// stamped is a pod with what the injector gives it.
func stamped(p model.Pod) model.Pod {
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[v1alpha1.LabelProxy], p.Labels[v1alpha1.LabelServiceAccount] = v1alpha1.ProxyInjected, model.ServiceAccountLabel(p.ServiceAccount)
	p.Proxy.Injected = true
	return p
}

// StandsIn says whether an address stands for one that is not known yet.
func StandsIn(a netip.Addr) bool { return netip.MustParsePrefix(standInBlock).Contains(a) }

func optsOut(mesh *model.Mesh, p *model.Pod) bool {
	return p.Labels[v1alpha1.LabelInject] == v1alpha1.InjectDisabled && slices.Contains(mesh.OptOutNamespaces, p.Namespace)
}
