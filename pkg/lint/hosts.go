package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// hosts finds hosts that look like a Service's and are no Service's, or are that of other pods than the policy selects.
func (l *linter) hosts(r *rule) {
	for i := range r.HTTP {
		for j, h := range r.HTTP[i].Hosts {
			l.host(r, h, fmt.Sprintf("%s.http[%d].hosts[%d]", r.field(), i, j))
		}
	}
}

func (l *linter) host(r *rule, h model.Host, field string) {
	if h.Wildcard {
		l.wildcard(r, h, field)
		return
	}
	namespace, name, internal := l.serviceName(h.Name, r.policy.Namespace)
	if !internal {
		return
	}
	s := l.services[[2]string{namespace, name}]
	if s == nil {
		d := r.finding("host-without-service", model.SeverityWarning, field)
		d.Consequence = "there is no Service " + namespace + "/" + name + ", so hardly anybody sends that host: " + r.matchesNothing() + " by it"
		d.Remedy = "correct the name; a bare name means a Service of the policy's own namespace"
		l.found.Add(d)
		return
	}
	if len(l.selected[r.policy]) > 0 && len(s.Selector) > 0 && !serves(s, l.selected[r.policy]) {
		d := r.finding("host-of-other-pods", model.SeverityNotice, field)
		d.Consequence = "Service " + namespace + "/" + name + " leads to none of the pods that the policy selects: requests with its host arrive elsewhere, unless a gateway keeps the host that it was sent"
		d.Remedy = "write a host of a Service of these pods, or leave the hosts out"
		l.found.Add(d)
	}
}

// serviceName reads a host as a Service's name would be written in a namespace, and says whether it looks like one.
func (l *linter) serviceName(host, policyNamespace string) (namespace, name string, internal bool) {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" {
		return "", "", false
	}
	rest := strings.TrimSuffix(host, "."+convert.ClusterDomain)
	rest, qualified := strings.CutSuffix(rest, ".svc")
	labels := strings.Split(rest, ".")
	last := len(labels) - 1
	switch {
	case qualified && last >= 1: // a pod of a headless Service has its own label before the Service's
		return labels[last], labels[last-1], true
	case qualified:
		return "", "", false
	case last == 0:
		return policyNamespace, rest, true
	case last == 1 && l.isNamespace(labels[1]):
		return labels[1], labels[0], true
	}
	return "", "", false
}

func (l *linter) isNamespace(name string) bool {
	return slices.ContainsFunc(l.ix.Snapshot.Namespaces, func(ns model.Namespace) bool { return ns.Name == name })
}

// wildcard looks at a host that stands for all below a name: below NAMESPACE.svc are Services, below NAME.NAMESPACE.svc the pods of one.
func (l *linter) wildcard(r *rule, h model.Host, field string) {
	rest := strings.TrimSuffix(h.Name, "."+convert.ClusterDomain)
	rest, qualified := strings.CutSuffix(rest, ".svc")
	labels := strings.Split(rest, ".")
	what := ""
	switch {
	case !qualified && (len(labels) > 1 || !l.isNamespace(rest)):
		return
	case len(labels) == 1 && !slices.ContainsFunc(l.ix.Snapshot.Services, func(s model.Service) bool { return s.Namespace == rest }):
		what = "there is no Service in namespace " + rest
	case len(labels) > 1:
		namespace, name := labels[len(labels)-1], labels[len(labels)-2]
		if l.services[[2]string{namespace, name}] != nil {
			return
		}
		what = "there is no Service " + namespace + "/" + name
	}
	if what == "" {
		return
	}
	d := r.finding("host-without-service", model.SeverityWarning, field)
	d.Consequence, d.Remedy = what+", so hardly anybody sends such a host: "+r.matchesNothing()+" by it", "correct the name"
	l.found.Add(d)
}
