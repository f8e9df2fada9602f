package lint

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// peers finds peers that mean nobody, or not all that they seem to.
func (l *linter) peers(r *rule) {
	if r.Peers == nil {
		return
	}
	dead := 0
	for i := range r.Peers {
		field := fmt.Sprintf("%s[%d]", r.peersField(), i)
		if p := &r.Peers[i]; p.Block != nil {
			l.block(r, p.Block, field+".ipBlock")
		} else if !l.peer(r, p, field) {
			dead++
		}
	}
	if dead == len(r.Peers) {
		l.nobody[r] = true
	}
}

// peer looks at a peer that selects pods. It returns false where the peer means nobody, and that was told.
func (l *linter) peer(r *rule, p *model.Peer, field string) bool {
	namespaces := []string{r.policy.Namespace}
	if p.Namespaces != nil {
		namespaces = nil
		for _, ns := range l.ix.Snapshot.Namespaces {
			if p.Namespaces.Matches(l.ix.NamespaceLabels(ns.Name)) {
				namespaces = append(namespaces, ns.Name)
			}
		}
		if len(namespaces) == 0 {
			d := r.finding("namespace-selector-matches-nothing", model.SeverityWarning, field+".namespaceSelector")
			d.Consequence = "no namespace has the labels {" + p.Namespaces.String() + "}, so the peer means nobody: " + r.matchesNothing()
			d.Remedy = "correct the selector, or label the namespace; every namespace has the label kubernetes.io/metadata.name"
			l.found.Add(d)
			return false
		}
	}
	var selected []*model.Workload
	for _, ns := range namespaces {
		for _, w := range l.ix.InNamespace(ns) {
			if p.Pods == nil || p.Pods.Matches(labels.Set(w.Labels)) {
				selected = append(selected, w)
			}
		}
	}
	if len(selected) == 0 && p.Pods != nil && !p.Pods.Empty() {
		d := r.finding("pod-selector-matches-nothing", model.SeverityWarning, field+".podSelector")
		d.Consequence = "no pod in " + namespacesText(namespaces) + " has the labels {" + p.Pods.String() + "}, so the peer means nobody: " + r.matchesNothing()
		d.Remedy = "correct the selector; for pods of other namespaces, add a namespaceSelector to the same peer"
		l.found.Add(d)
		return false
	}
	means := l.accounts(r, p, selected, field)
	if len(selected) == 0 {
		return p.ServiceAccounts == nil // a namespace without pods: nothing was told
	}
	return l.hostNetwork(r, means, field)
}

func namespacesText(names []string) string {
	const named = 3
	switch {
	case len(names) == 1:
		return "namespace " + names[0]
	case len(names) > named:
		return fmt.Sprintf("namespaces %s and %d more", strings.Join(names[:named], ", "), len(names)-named)
	}
	return "namespaces " + strings.Join(names, ", ")
}

// accounts looks at a peer's accounts, and returns those of the selected workloads that the peer means.
func (l *linter) accounts(r *rule, p *model.Peer, selected []*model.Workload, field string) []*model.Workload {
	if p.ServiceAccounts == nil {
		return selected
	}
	var means []*model.Workload
	for i, name := range p.ServiceAccounts {
		field := fmt.Sprintf("%s.serviceAccounts[%d]", field, i)
		runs := false
		for _, w := range selected {
			stamped, carries := w.Labels[v1alpha1.LabelServiceAccount]
			is := carries && stamped == model.ServiceAccountLabel(name)
			if is || w.HostNetwork && w.ServiceAccount == name {
				means = append(means, w)
			}
			runs = runs || is || w.ServiceAccount == name
			if w.ServiceAccount == name && !carries && !w.HostNetwork {
				d := r.finding("caller-not-stamped", model.SeverityWarning, field)
				d.Consequence = "runs as " + name + " but lacks the label " + v1alpha1.LabelServiceAccount + " that the injector stamps, so the peer does not mean it: " + r.matchesNothing()
				d.Remedy = "have a sidecar injected into it; a pod that runs already must be created again"
				l.found.Of(w, d)
			}
		}
		if !runs {
			d := r.finding("account-without-pods", model.SeverityWarning, field+".name")
			d.Consequence = "no pod that the peer selects runs as " + name + ", so the account means nobody: " + r.matchesNothing()
			d.Remedy = "correct the name, or the peer's selectors; an account is of the pod's own namespace"
			l.found.Add(d)
		}
	}
	return means
}

// hostNetwork says whether any of the workloads that a peer means is not on the host's network, and tells of those that are.
func (l *linter) hostNetwork(r *rule, means []*model.Workload, field string) bool {
	somebody := false
	for _, w := range means {
		if !w.HostNetwork {
			somebody = true
			continue
		}
		d := r.finding("caller-on-host-network", model.SeverityWarning, field)
		d.Consequence = "is on the host's network, so its address is its node's and no selector means it: " + r.matchesNothing()
		d.Remedy = "take hostNetwork away from the pod, or name the nodes' addresses with an ipBlock"
		l.found.Of(w, d)
	}
	return somebody
}

// block finds pods in a block of addresses: what becomes of them depends on the network plugin, and on where the next pod's address comes from.
func (l *linter) block(r *rule, b *model.IPBlock, field string) {
	if b.CIDR.Bits() == 0 {
		return // everybody
	}
	for _, w := range l.ix.Workloads {
		for _, a := range w.Addresses {
			if !blockContains(b, a) || convert.StandsIn(a) {
				continue
			}
			d := r.finding("ip-block-of-pods", model.SeverityNotice, field)
			d.Consequence = "has an address in the block: pods' addresses change, and some network plugins never match a pod by a block"
			d.Remedy = "name the pods with a podSelector, or take their addresses out with except"
			l.found.Of(w, d)
			break
		}
	}
}
