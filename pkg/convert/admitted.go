package convert

import (
	"net/netip"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// standInBlock holds the addresses that stand for those of pods that do not run yet: RFC 2544 keeps them for benchmarks, so that nobody has them. As every pod's, they lie
// in 0.0.0.0/0.
const standInBlock = "198.18.0.0/15"

// AsAdmitted is a snapshot as it will be once the objects that it was read from are applied: what is listed as running stays as it is; a pod that does not run yet carries
// what the injector gives it (AsInjected), and an address that stands for the one it will get. It is for questions about files; nothing is to be served from it.
func AsAdmitted(s *model.Snapshot) *model.Snapshot {
	waits := func(p *model.Pod) bool { return !p.Expected && !p.Ended }
	out := *injected(s, waits)
	out.Pods = slices.Clone(out.Pods)
	next := netip.MustParsePrefix(standInBlock).Addr()
	for i, p := range out.Pods {
		if waits(p) && len(p.Addresses) == 0 && !p.HostNetwork {
			next = next.Next()
			admitted := *p
			admitted.Addresses = []netip.Addr{next}
			out.Pods[i] = &admitted
		}
	}
	return &out
}

// StandsIn says whether an address stands for one that is not known yet.
func StandsIn(a netip.Addr) bool { return netip.MustParsePrefix(standInBlock).Contains(a) }
