package lint

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/eval/kernel"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// policy looks at a policy and the pods that it selects.
func (l *linter) policy(p *model.Policy) {
	if p.DryRun {
		d := p.Finding("policy-dry-run", model.SeverityNotice, "spec.enforcement")
		d.Consequence, d.Remedy = "the policy is only tried out: it isolates nothing, refuses nothing, and makes no NetworkPolicy", "write Enforce when its dry run shows nothing unexpected"
		l.found.Add(d)
	}
	if !p.IsolatesIngress {
		return
	}
	withHTTP := slices.ContainsFunc(p.Ingress, func(r model.Rule) bool { return r.HTTP != nil })
	for _, w := range l.selected[p] {
		switch d := p.Finding("", model.SeverityWarning, "spec.podSelector"); {
		case w.HostNetwork:
			d.Code = "selected-on-host-network"
			d.Consequence = "is on the host's network, where neither a sidecar nor a NetworkPolicy stands before it: the policy does not protect it"
			d.Remedy = "take hostNetwork away from the pod, or select others only"
			l.found.Of(w, d)
		case w.Proxy.Injected:
		default:
			d.Code = "pod-without-sidecar"
			switch {
			case !withHTTP:
				d.Consequence = "carries no sidecar, so the NetworkPolicy alone stands before it"
			case p.Action == model.Deny:
				d.Consequence = "carries no sidecar, so what the rules with http refuse is refused by nobody, where another policy lets the caller in"
			default:
				d.Consequence = "carries no sidecar, so nobody can tell requests apart, and the rules with http let nobody in there"
			}
			d.Remedy = "have a sidecar injected: label the namespace " + v1alpha1.LabelInject + "=" + v1alpha1.InjectEnabled + " and create the pods again"
			l.found.Of(w, d)
		}
	}
}

// workloads looks at who protects what.
func (l *linter) workloads() {
	allowed, governed, careful := map[*model.Workload]bool{}, map[*model.Workload]bool{}, map[string]bool{}
	for _, p := range l.policies {
		careful[p.Namespace] = true
		if p.DryRun || !p.IsolatesIngress {
			continue
		}
		for _, w := range l.selected[p] {
			governed[w] = true
			allowed[w] = allowed[w] || p.Action == model.Allow
		}
	}
	for _, ns := range l.ix.Snapshot.Namespaces {
		careful[ns.Name] = careful[ns.Name] || ns.Labels[v1alpha1.LabelInject] == v1alpha1.InjectEnabled
	}
	standing, found := kernel.New(l.ix.Snapshot.NetworkPolicies)
	l.found.Add(found...)
	for _, w := range l.ix.Workloads {
		if w.HostNetwork || all(w.Pods, func(p *model.Pod) bool { return p.Ended }) {
			continue
		}
		l.settings(w, governed[w])
		if !allowed[w] {
			l.unprotected(w, governed[w], careful[w.Namespace], standing)
		}
	}
}

// unprotected tells of a workload that no Allow isolates. Of all those of a namespace it is one finding.
func (l *linter) unprotected(w *model.Workload, denied, careful bool, standing *kernel.Set) {
	d := model.Diagnostic{Severity: model.SeverityNotice, Object: model.ObjectRef{Kind: "Namespace", Name: w.Namespace}, Remedy: "write an Allow policy that selects the pods and says who may call them"}
	isolated := len(standing.Governing(networkingv1.PolicyTypeIngress, kernel.PodEnd(l.ix, w.Pods[0])).Isolating()) > 0
	switch {
	case isolated:
		d.Code, d.Consequence = "network-policy-alone", "no Allow policy selects its pods: a NetworkPolicy stands before them, and whom it lets in may ask anything"
	case denied:
		d.Code, d.Consequence = "denied-only", "only Deny policies select its pods: everybody may ask everything that those do not name"
	default:
		d.Code, d.Consequence = "workload-unprotected", "no enforced policy selects its pods for ingress: everybody may call them"
		if careful {
			d.Severity = model.SeverityWarning
		}
	}
	l.found.Of(w, d)
}

// settings looks at what a workload leaves out of its protection.
func (l *linter) settings(w *model.Workload, governed bool) {
	for _, n := range w.Proxy.ExcludedInbound {
		d := model.Diagnostic{
			Code: "excluded-port", Severity: model.SeverityNotice, Object: model.ObjectRef{Kind: "Workload", Namespace: w.Namespace, Name: w.Name},
			Field:       "metadata.annotations[" + v1alpha1.AnnotationExcludeInboundPorts + "]",
			Consequence: "port " + portText(n) + " goes around the sidecar: the NetworkPolicy alone stands before it, and no rule with http can hold there",
			Remedy:      "take the port out of the list when the application no longer needs it",
		}
		if governed {
			d.Severity = model.SeverityWarning
		}
		l.found.Add(d)
	}
}

// mesh looks at the settings that hold for everything.
func (l *linter) mesh() {
	mesh := &l.ix.Snapshot.Mesh
	add := func(code string, severity model.Severity, field, consequence, remedy string) {
		l.found.Add(model.Diagnostic{
			Code: code, Severity: severity, Object: model.ObjectRef{Kind: "MeshConfig", Name: "pilot-lite"}, Field: field, Consequence: consequence, Remedy: remedy,
		})
	}
	for i, name := range mesh.OptOutNamespaces {
		add("mesh-relaxed", model.SeverityNotice, fmt.Sprintf("spec.optOutNamespaces[%d]", i), "pods of namespace "+name+" may go without a sidecar", "remove the namespace when none of its pods needs that")
	}
	for i, p := range mesh.Metrics {
		if meansEverybody(p) {
			add("mesh-relaxed", model.SeverityNotice, fmt.Sprintf("spec.metrics.peers[%d]", i), "everybody may read the metrics of isolated pods", "name the scrapers alone")
		}
	}
	if !slices.ContainsFunc(l.policies, func(p *model.Policy) bool {
		return p.IsolatesEgress && !p.DryRun && p.Action == model.Allow && len(l.selected[p]) > 0
	}) {
		return
	}
	l.plumbing("spec.dns", mesh.DNS, "isolated pods can ask nobody for names", add)
	l.plumbing("spec.controlPlane.peers", mesh.ControlPlane, "sidecars of isolated pods do not reach the control plane", add)
}

func meansEverybody(p model.Peer) bool {
	if p.Block != nil {
		return p.Block.CIDR.Bits() == 0
	}
	return p.Namespaces != nil && p.Namespaces.Empty() && (p.Pods == nil || p.Pods.Empty()) && p.ServiceAccounts == nil
}

// plumbing tells of peers that isolated pods need and that mean nobody. Where no pod of their namespaces is known, as in files that leave those out, nothing can be said.
func (l *linter) plumbing(field string, peers []model.Peer, consequence string, add func(code string, severity model.Severity, field, consequence, remedy string)) {
	known := false
	for _, p := range peers {
		if p.Block != nil || len(l.ix.PeerWorkloads("", p)) > 0 {
			return
		}
		known = known || len(l.ix.PeerWorkloads("", model.Peer{Namespaces: p.Namespaces})) > 0
	}
	if known {
		add("plumbing-means-nobody", model.SeverityWarning, field, "no pod is meant, so "+consequence, "correct the selectors in the MeshConfig")
	}
}
