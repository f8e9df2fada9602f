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
	injecting := map[string]bool{}
	for _, ns := range s.Namespaces {
		injecting[ns.Name] = ns.Labels[v1alpha1.LabelInject] == v1alpha1.InjectEnabled
	}
	out := *s
	out.Pods = slices.Clone(s.Pods)
	next := netip.MustParsePrefix(standInBlock).Addr()
	for i := range out.Pods {
		p := &out.Pods[i]
		if p.Expected || p.Ended {
			continue
		}
		if injecting[p.Namespace] && !p.HostNetwork && !optsOut(&s.Mesh, p) {
			p.Labels = maps.Clone(p.Labels)
			if p.Labels == nil {
				p.Labels = map[string]string{}
			}
			p.Labels[v1alpha1.LabelProxy], p.Labels[v1alpha1.LabelServiceAccount] = v1alpha1.ProxyInjected, model.ServiceAccountLabel(p.ServiceAccount)
			p.Proxy.Injected = true
		}
		if len(p.Addresses) == 0 && !p.HostNetwork {
			next = next.Next()
			p.Addresses = []netip.Addr{next}
		}
	}
	return &out
}

// StandsIn says whether an address stands for one that is not known yet.
func StandsIn(a netip.Addr) bool { return netip.MustParsePrefix(standInBlock).Contains(a) }

func optsOut(mesh *model.Mesh, p *model.Pod) bool {
	return p.Labels[v1alpha1.LabelInject] == v1alpha1.InjectDisabled && slices.Contains(mesh.OptOutNamespaces, p.Namespace)
}
