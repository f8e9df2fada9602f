package convert

import (
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Edit is converted objects that are applied over a snapshot, and policies that are deleted from it.
type Edit struct {
	Parts

	Policies        []*model.Policy
	NetworkPolicies []*networkingv1.NetworkPolicy
	Mesh            *model.Mesh
	// Gone says of policies of the snapshot that they are deleted; nil: none is.
	Gone func(p *model.Policy) bool
}

// Over is what a snapshot becomes by an edit: an object takes the place of the one of its kind and name, as a whole but for what the cluster itself writes into it. A template
// changes nothing while pods that it stands for are listed; those templates are returned, too. What the edit leaves alone stays the same, and the same slices.
func Over(base *model.Snapshot, e *Edit) (*model.Snapshot, []Template) {
	out := *base
	var standing []Template
	sameWorld := len(e.Namespaces)+len(e.Services)+len(e.Pods)+len(e.Templates)+len(e.Endpoints) == 0
	if !sameWorld {
		standing = overWorld(&out, e)
	}
	if e.Mesh != nil {
		out.Mesh = *e.Mesh
	}
	out.Policies = over(base.Policies, e.Policies, func(p **model.Policy) string { return (*p).Namespace + "/" + (*p).Name })
	if e.Gone != nil {
		out.Policies = slices.DeleteFunc(out.Policies, e.Gone)
	}
	spellings := newHosts(out.Services, ClusterDomain)
	for i, p := range out.Policies {
		if !sameWorld || slices.Contains(e.Policies, p) {
			resolved := resolveHosts(*p, spellings.aliases(p.Namespace))
			out.Policies[i] = &resolved
		}
	}
	out.NetworkPolicies = over(base.NetworkPolicies, e.NetworkPolicies, func(np **networkingv1.NetworkPolicy) string { return (*np).Namespace + "/" + (*np).Name })
	sortPolicies(out.Policies)
	sortNetworkPolicies(out.NetworkPolicies)
	return &out, standing
}

// over puts objects in the place of those of the same name, and adds the others.
func over[T any](base, edit []T, name func(*T) string) []T {
	out := slices.Clone(base)
	at := make(map[string]int, len(out))
	for i := range out {
		at[name(&out[i])] = i
	}
	for i := range edit {
		if j, stands := at[name(&edit[i])]; stands {
			out[j] = edit[i]
			continue
		}
		at[name(&edit[i])] = len(out)
		out = append(out, edit[i])
	}
	return out
}

// overWorld applies all but policies, and returns the templates that change nothing.
func overWorld(s *model.Snapshot, e *Edit) (standing []Template) {
	podName := func(p *model.Pod) string { return p.Namespace + "/" + p.Name }
	parts := Parts{
		Namespaces: over(s.Namespaces, e.Namespaces, func(ns *model.Namespace) string { return ns.Name }),
		Services:   over(s.Services, e.Services, func(o *model.Service) string { return o.Namespace + "/" + o.Name }),
		Endpoints:  e.Endpoints,
	}
	was := map[string]*model.Pod{}
	for _, p := range s.Pods {
		was[podName(p)] = p
	}
	pods := make([]*model.Pod, 0, len(e.Pods))
	for _, p := range e.Pods {
		written := asWritten(was[podName(p)], *p)
		pods = append(pods, &written)
	}
	parts.Pods = over(s.Pods, pods, func(p **model.Pod) string { return podName(*p) })
	replaced := map[string]bool{}
	for _, t := range e.Templates {
		old := was[podName(&t.Pod)]
		if old != nil && old.Template {
			replaced[podName(old)] = true
			t.Pod = asWritten(old, t.Pod)
		}
		parts.Templates = append(parts.Templates, t)
	}
	parts.Pods = slices.DeleteFunc(parts.Pods, func(p *model.Pod) bool { return p.Template && replaced[podName(p)] })
	w := NewWorld(parts)
	s.Namespaces, s.Services, s.Pods = w.namespaces, w.services, w.pods
	for _, t := range e.Templates {
		if !slices.ContainsFunc(w.pods, func(p *model.Pod) bool { return p.Template && podName(p) == podName(&t.Pod) }) {
			standing = append(standing, t)
		}
	}
	return standing
}

// asWritten is a pod as it is written anew, with what the cluster and the injector wrote into the one that stands.
func asWritten(old *model.Pod, p model.Pod) model.Pod {
	if old == nil {
		return p
	}
	if len(p.Addresses) == 0 {
		p.Addresses = old.Addresses
	}
	if !p.Template {
		p.UID, p.Owner, p.Created, p.Expected, p.Ended, p.AwaitsAddress = old.UID, old.Owner, old.Created, old.Expected, old.Ended, old.AwaitsAddress
	}
	if old.Proxy.Injected && !p.Proxy.Injected && !p.Template {
		p = stamped(p)
	}
	return p
}

// AsInjected is a snapshot in which templates stand for pods as they are made: with what the injector stamps on them, in namespaces that it injects.
func AsInjected(s *model.Snapshot) *model.Snapshot {
	return injected(s, func(p *model.Pod) bool { return p.Template })
}

// injected stamps what the injector stamps on those pods that are still to be made.
func injected(s *model.Snapshot, toBeMade func(p *model.Pod) bool) *model.Snapshot {
	injects := map[string]bool{}
	for _, ns := range s.Namespaces {
		injects[ns.Name] = ns.Labels[v1alpha1.LabelInject] == v1alpha1.InjectEnabled
	}
	lacks := func(p *model.Pod) bool {
		optsOut := p.Labels[v1alpha1.LabelInject] == v1alpha1.InjectDisabled && slices.Contains(s.Mesh.OptOutNamespaces, p.Namespace)
		return toBeMade(p) && injects[p.Namespace] && !p.Proxy.Injected && !p.HostNetwork && !optsOut
	}
	if !slices.ContainsFunc(s.Pods, lacks) {
		return s
	}
	out := *s
	out.Pods = slices.Clone(s.Pods)
	for i, p := range out.Pods {
		if lacks(p) {
			carries := stamped(*p)
			out.Pods[i] = &carries
		}
	}
	return &out
}

func stamped(p model.Pod) model.Pod {
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[v1alpha1.LabelProxy], p.Labels[v1alpha1.LabelServiceAccount] = v1alpha1.ProxyInjected, model.ServiceAccountLabel(p.ServiceAccount)
	p.Proxy.Injected = true
	return p
}
