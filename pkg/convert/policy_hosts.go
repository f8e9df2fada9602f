package convert

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// hosts finds Services by the spellings of their names.
type hosts struct {
	domain    string
	named     map[[2]string]*model.Service // by namespace and name: what a bare name means in a namespace
	qualified map[string]*model.Service    // by every other spelling; nil where two share it
}

func newHosts(services []model.Service, clusterDomain string) *hosts {
	h := &hosts{
		domain: strings.ToLower(strings.Trim(clusterDomain, ".")), named: make(map[[2]string]*model.Service, len(services)),
		qualified: make(map[string]*model.Service, 4*len(services)),
	}
	for i := range services {
		s := &services[i]
		h.named[[2]string{s.Namespace, s.Name}] = s
		for _, spelling := range h.spellings(s) {
			// Two Services can share a spelling only where somebody chose names to that end ("svc" in a namespace "cluster"). A host then means both
			// nothing more and nothing less than what it says.
			if _, taken := h.qualified[spelling]; taken {
				h.qualified[spelling] = nil
				continue
			}
			h.qualified[spelling] = s
		}
	}
	return h
}

// aliases returns a function that tells, for a host of a policy in the given namespace, the other spellings of the Service that it names: by
// name (in the policy's namespace only, as a resolver's search list has it), with the namespace, with .svc, with the cluster's domain, and by
// ClusterIP. A host that names no Service has none. The spellings are in lower case, sorted, without the host itself; IPv6 addresses are in
// brackets, as in an authority.
func (h *hosts) aliases(policyNamespace string) func(host string) []string {
	return func(host string) []string {
		host = strings.ToLower(host)
		s := h.named[[2]string{policyNamespace, host}]
		if s == nil {
			s = h.qualified[host]
		}
		if s == nil {
			return nil
		}
		all := h.spellings(s)
		if s.Namespace == policyNamespace {
			all = append(all, s.Name)
		}
		slices.Sort(all)
		return slices.DeleteFunc(slices.Compact(all), func(spelling string) bool { return spelling == host })
	}
}

// resolveHosts returns the policy with the aliases of every host filled in. The policy that it is given stays as it was: sources keep converted
// policies from one snapshot to the next, while Services come and go.
func resolveHosts(p model.Policy, aliases func(host string) []string) model.Policy {
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

// spellings are all but the bare name, which means a Service in its own namespace only.
func (h *hosts) spellings(s *model.Service) []string {
	qualified := s.Name + "." + s.Namespace
	out := []string{qualified, qualified + ".svc"}
	if h.domain != "" {
		out = append(out, qualified+".svc."+h.domain)
	}
	for _, a := range s.ClusterIPs {
		out = append(out, authority(a))
	}
	return out
}

// authority spells an address as the authority of a request does.
func authority(a netip.Addr) string {
	if a.Is6() && !a.Is4In6() {
		return "[" + a.String() + "]"
	}
	return a.Unmap().String()
}
