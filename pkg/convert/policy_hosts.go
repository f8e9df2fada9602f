package convert

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// HostAliases returns a function that tells, for a host of a policy in the given namespace, the other spellings of the Service that it names: by
// name (in the policy's namespace only, as a resolver's search list has it), with the namespace, with .svc, with the cluster's domain, and by
// ClusterIP. A host that names no Service has none. The spellings are in lower case, sorted, without the host itself; IPv6 addresses are in
// brackets, as in an authority.
func HostAliases(policyNamespace string, services []model.Service, clusterDomain string) func(host string) []string {
	spellings := map[string][]string{}
	for i := range services {
		all := serviceSpellings(&services[i], policyNamespace, strings.ToLower(strings.Trim(clusterDomain, ".")))
		for _, s := range all {
			// Two Services can share a spelling only where somebody chose names to that end ("svc" in a namespace "cluster"). A host then means both
			// nothing more and nothing less than what it says.
			if _, taken := spellings[s]; taken {
				spellings[s] = nil
				continue
			}
			spellings[s] = all
		}
	}
	return func(host string) []string {
		var out []string
		for _, s := range spellings[strings.ToLower(host)] {
			if s != strings.ToLower(host) {
				out = append(out, s)
			}
		}
		return out
	}
}

// ResolveHosts returns the policy with the aliases of every host filled in. The policy that it is given stays as it was: sources keep converted
// policies from one snapshot to the next, while Services come and go.
func ResolveHosts(p model.Policy, aliases func(host string) []string) model.Policy {
	p.Ingress = convertAll(p.Ingress, func(r model.Rule) model.Rule {
		r.HTTP = convertAll(r.HTTP, func(m model.HTTPMatch) model.HTTPMatch {
			m.Hosts = convertAll(m.Hosts, func(h model.Host) model.Host {
				if !h.Wildcard {
					h.Aliases = aliases(h.Name)
				}
				return h
			})
			return m
		})
		return r
	})
	return p
}

func serviceSpellings(s *model.Service, policyNamespace, clusterDomain string) []string {
	var out []string
	if s.Namespace == policyNamespace {
		out = append(out, s.Name)
	}
	qualified := s.Name + "." + s.Namespace
	out = append(out, qualified, qualified+".svc")
	if clusterDomain != "" {
		out = append(out, qualified+".svc."+clusterDomain)
	}
	for _, a := range s.ClusterIPs {
		out = append(out, authority(a))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// authority spells an address as the authority of a request does.
func authority(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		return "[" + a.String() + "]"
	}
	return a.Unmap().String()
}
