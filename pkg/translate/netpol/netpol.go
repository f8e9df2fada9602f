// Package netpol builds the companion NetworkPolicies: the L3/4 projection of the policies, which the node's kernel enforces outside the pod.
// Input: a model.Index. Output: companions by policy, and diagnostics. One entry point: Builder.Build.
package netpol

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Companion is one NetworkPolicy made for a policy.
type Companion struct {
	Policy        model.PolicyRef // of no generation: all that say the same at L3/4 have the very same companion
	DryRun        bool            // would stand if the policy were enforced
	NetworkPolicy *networkingv1.NetworkPolicy
}

// Isolates says whether a companion is the one that isolates every pod that its policy governs.
func (c *Companion) Isolates() bool { return c.NetworkPolicy.Labels[LabelRole] == string(roleIsolate) }

const (
	// maxEntries bounds what subtraction may blow one policy's direction up to: entries, and exceptions of their blocks, beyond those that it had.
	maxEntries = 256
	// maxSubtractions bounds how often an entry is set off against a denial: who writes policies must not keep the control plane from everybody else's.
	maxSubtractions = 1 << 17
)

// builder builds the companions of one policy.
type builder struct {
	from

	ix         *model.Index
	companions []Companion
	found      []model.Diagnostic
	everybody  bool // what comes out depends on workloads that no policy that it is built from selects
}

// piece is a part of the governed pods that gets an object of its own: what it isolates, and what it allows there.
type piece struct {
	pods     conj
	isolates []model.Direction
	allowed  map[model.Direction][]entry
}

// role says what a companion is for; it is a label's value.
type role string

const (
	roleIsolate  role = "isolate"  // isolates every governed pod, and carries an Allow's rules without http
	roleHTTP     role = "http"     // carries the rules with http, for pods with a sidecar
	roleDeny     role = "deny"     // allows all but what a Deny refuses, where no Allow isolates
	rolePlumbing role = "plumbing" // carries what an isolated pod needs to live at all
)

// policy builds the companions of one policy. All governed pods are isolated by one object; rules with http are in another, which selects in
// addition the label of pods that carry a sidecar: for a pod without one nobody checks the http. Plumbing is a third.
func (b *builder) policy(p *model.Policy) {
	if p.Action == model.Deny {
		b.denyOnly(p)
		return
	}
	base := conjOf(p.Selector)
	plain, plumbing := piece{pods: base, allowed: map[model.Direction][]entry{}}, piece{pods: base, allowed: map[model.Direction][]entry{}}
	var http []entry
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		if !p.Governs(d) {
			continue
		}
		plain.isolates = append(plain.isolates, d)
		entries, withHTTP := b.entries(p, d)
		plain.allowed[d] = b.subtract(p, d, entries)
		plumbing.allowed[d] = b.plumbing(d, base)
		http = append(http, b.subtract(p, d, withHTTP)...)
	}
	if len(plain.isolates) == 0 {
		return
	}
	b.emit(p, roleIsolate, plain)
	b.emit(p, rolePlumbing, plumbing)
	if carrying, possible := base.and(carriesProxy()); possible && len(http) > 0 {
		b.emit(p, roleHTTP, piece{pods: carrying, allowed: map[model.Direction][]entry{model.Ingress: http}})
	}
}

// entries are the entries of a policy's rules in one direction: those of rules without http, and those of rules with http.
func (b *builder) entries(p *model.Policy, d model.Direction) (plain, withHTTP []entry) {
	base := conjOf(p.Selector)
	for i, r := range p.Rules(d) {
		into, pods := &plain, base
		if r.HTTP != nil {
			into = &withHTTP
			carrying, possible := base.and(carriesProxy())
			if !possible {
				continue
			}
			pods = carrying
		}
		field := fmt.Sprintf("spec.%s[%d].ports", d, i)
		for _, governed := range b.portsOf(p, d, r, field, pods) {
			for _, q := range peersOf(p.Namespace, r.Peers) {
				*into = append(*into, entry{governed.pods, q, governed.ports})
			}
		}
	}
	return plain, withHTTP
}

// carriesProxy is the label that the injector stamps and an admission policy protects.
func carriesProxy() term {
	return term{v1alpha1.LabelProxy, selection.In, v1alpha1.ProxyInjected}
}

// peersOf are a rule's peers; a rule without means anybody.
func peersOf(namespace string, peers []model.Peer) []peer {
	if peers == nil {
		return []peer{{kind: peerAny}}
	}
	var out []peer
	for _, m := range peers {
		if m.Block != nil {
			q := peer{kind: peerBlock, cidr: m.Block.CIDR.Masked()}
			for _, x := range m.Block.Except {
				q = q.excepting(x.Masked())
			}
			out = append(out, q)
			continue
		}
		q := peer{kind: peerPods, namespaces: own(namespace), pods: conjOf(m.Pods)}
		if m.Namespaces != nil {
			q.namespaces = conjOf(m.Namespaces)
		}
		if m.ServiceAccounts != nil {
			var values []string
			for _, name := range m.ServiceAccounts {
				values = append(values, model.ServiceAccountLabel(name))
			}
			slices.Sort(values)
			q.pods = append(slices.Clone(q.pods), term{v1alpha1.LabelServiceAccount, selection.In, strings.Join(slices.Compact(values), ",")}).tidy()
		}
		if q.namespaces.possible() && q.pods.possible() {
			out = append(out, q)
		}
	}
	return out
}

const nameLabel = "kubernetes.io/metadata.name"

// own selects a namespace by the label that the API server sets.
func own(namespace string) conj { return conj{{nameLabel, selection.In, namespace}} }

// denials are what the enforced Deny policies of a namespace refuse in a direction, as far as L4 can know it: rules without http.
func (b *builder) denials(d model.Direction) []entry {
	var out []entry
	for _, s := range *b.denies {
		p := s.Policy
		if !p.Governs(d) {
			continue
		}
		for i, r := range p.Rules(d) {
			if r.HTTP != nil {
				continue
			}
			for _, governed := range b.deniedPorts(p, d, i) {
				for _, q := range peersOf(p.Namespace, r.Peers) {
					out = append(out, entry{governed.pods, q, governed.ports})
				}
			}
		}
	}
	return out
}

// subtract takes the denials out of a policy's entries. Where that cannot be said exactly, ingress stays wider, since L7 denies there as well; egress
// has no L7 and is cut back.
func (b *builder) subtract(p *model.Policy, d model.Direction, entries []entry) []entry {
	most, subtractions := maxEntries+sizeOf(entries), 0
	for _, denied := range b.denials(d) {
		if subtractions += len(entries); subtractions > maxSubtractions {
			b.reportTooMany(p, d)
			return nil
		}
		var next []entry
		inexact := false
		for _, e := range entries {
			left, exact := e.minus(denied, b.holds)
			if !exact && d == model.Ingress {
				left = []entry{e}
			}
			inexact = inexact || !exact
			next = append(next, left...)
		}
		if inexact {
			b.reportInexact(p, d)
		}
		entries = unique(next)
		if sizeOf(entries) > most {
			b.reportTooMany(p, d)
			if d == model.Egress || len(entries) <= maxEntries { // the rest of many denied blocks would be open to pods without a sidecar
				return nil
			}
			return entries[:maxEntries]
		}
	}
	return unique(entries)
}

// sizeOf counts entries and the exceptions of their blocks, which are as much to write, to read and to set off.
func sizeOf(entries []entry) int {
	n := len(entries)
	for _, e := range entries {
		n += len(e.peer.except)
	}
	return n
}

func unique(entries []entry) []entry {
	seen := map[string]bool{}
	return slices.DeleteFunc(entries, func(e entry) bool {
		key := e.String()
		defer func() { seen[key] = true }()
		return seen[key]
	})
}

// holds says whether a pod that is selected has an address in a block.
func (b *builder) holds(pods, block peer) bool {
	b.everybody = true
	return slices.ContainsFunc(b.ix.Workloads, func(w *model.Workload) bool {
		if !pods.namespaces.matches(b.ix.NamespaceLabels(w.Namespace)) || !pods.pods.matches(labels.Set(w.Labels)) {
			return false
		}
		for _, a := range w.Addresses {
			if !block.cidr.Contains(a) {
				continue
			}
			excepted := false
			for _, x := range block.except {
				excepted = excepted || x.Contains(a)
			}
			if !excepted {
				return true
			}
		}
		return false
	})
}

func (b *builder) reportInexact(p *model.Policy, d model.Direction) {
	consequence := "a Deny names some of the callers by selector and this policy by address, or the other way round, which NetworkPolicy cannot set off against each other: "
	if d == model.Ingress {
		consequence += "the sidecar denies them, the companion lets them through"
	} else {
		consequence += "the companion leaves out what may overlap"
	}
	b.report(p, "deny-not-subtractable", "spec."+string(d), consequence, "name the same callers by selector in both policies, or by address in both")
}

func (b *builder) reportTooMany(p *model.Policy, d model.Direction) {
	b.report(p, "too-many-entries", "spec."+string(d), fmt.Sprintf("what the Deny policies leave of this policy takes more than %d entries, or too many steps to find: the companion is cut short", maxEntries),
		"write fewer or simpler Deny policies for the same pods")
}

func (b *builder) report(p *model.Policy, code, field, consequence, remedy string) {
	d := p.Finding(code, model.SeverityError, field)
	d.Consequence, d.Remedy = consequence, remedy
	if !slices.Contains(b.found, d) {
		b.found = append(b.found, d)
	}
}
