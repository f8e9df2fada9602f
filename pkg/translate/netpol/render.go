package netpol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// What companions carry.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "pilot-lite" // is LabelManagedBy's value
	LabelPolicy    = "policy.pilot-lite.io/policy"
	LabelRole      = "policy.pilot-lite.io/role"
)

// emit writes a piece as NetworkPolicies: one for its own pods, and one for each part of them that subtraction told apart. Parts need no isolation of
// their own: their pods are the piece's.
func (b *builder) emit(p *model.Policy, r role, whole piece) {
	parts := map[string]*piece{}
	var order []string
	part := func(pods conj) *piece {
		key := pods.String()
		if parts[key] == nil {
			parts[key] = &piece{pods: pods, allowed: map[model.Direction][]entry{}}
			order = append(order, key)
		}
		return parts[key]
	}
	if len(whole.isolates) > 0 {
		part(whole.pods).isolates = whole.isolates
	}
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		for _, e := range whole.allowed[d] {
			q := part(e.pods)
			q.allowed[d] = append(q.allowed[d], e)
		}
	}
	for _, key := range order {
		q := parts[key]
		b.companions = append(b.companions, Companion{Policy: p.PolicyRef, DryRun: p.DryRun, NetworkPolicy: q.networkPolicy(p, r)})
	}
}

// directions are those in which a piece's pods are isolated: by it, or because they are allowed something.
func (q *piece) directions() []model.Direction {
	var out []model.Direction
	for _, d := range []model.Direction{model.Ingress, model.Egress} {
		if slices.Contains(q.isolates, d) || len(q.allowed[d]) > 0 {
			out = append(out, d)
		}
	}
	return out
}

func (q *piece) networkPolicy(p *model.Policy, r role) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: companionName(p, r, q),
		Labels: map[string]string{LabelManagedBy: ManagedBy, LabelPolicy: labelValue(p.Name), LabelRole: string(r)},
	}}
	if p.UID != "" {
		yes := true
		np.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: v1alpha1.SchemeGroupVersion().String(), Kind: v1alpha1.Kind, Name: p.Name, UID: types.UID(p.UID), Controller: &yes,
		}}
	}
	np.Spec.PodSelector = *q.pods.selector()
	for _, d := range q.directions() {
		if d == model.Ingress {
			np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
			for _, r := range rules(p.Namespace, q.allowed[d]) {
				np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: r.peers, Ports: r.ports})
			}
			continue
		}
		np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
		for _, r := range rules(p.Namespace, q.allowed[d]) {
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: r.peers, Ports: r.ports})
		}
	}
	return np
}

// rule is a rule of either direction.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer // nil: anybody
	ports []networkingv1.NetworkPolicyPort
}

// rules writes entries as rules: the ports of each peer, and then the peers that have the same ports. No peer comes to a port that is not its own.
func rules(namespace string, entries []entry) []rule {
	byPeer := map[string][]ports{}
	peers := map[string]peer{}
	for _, e := range entries {
		key := e.peer.String()
		peers[key] = e.peer
		byPeer[key] = append(byPeer[key], e.ports)
	}
	byPorts := map[string][]string{}
	for key, list := range byPeer {
		list = merged(list)
		byPeer[key] = list
		byPorts[fmt.Sprint(list)] = append(byPorts[fmt.Sprint(list)], key)
	}
	var keys []string
	for k, members := range byPorts {
		slices.Sort(members)
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(byPorts[a][0], byPorts[b][0]) })
	var out []rule
	for _, k := range keys {
		members := byPorts[k]
		r := rule{ports: apiPorts(byPeer[members[0]])}
		anybody := slices.ContainsFunc(members, func(m string) bool { return peers[m].kind == peerAny })
		for _, m := range members {
			if !anybody { // beside anybody, nobody else need be named; and an empty list means anybody
				r.peers = append(r.peers, peers[m].api(namespace))
			}
		}
		out = append(out, r)
	}
	return out
}

// merged joins ranges that touch or overlap.
func merged(list []ports) []ports {
	list = slices.Clone(list)
	slices.SortFunc(list, comparePorts)
	var out []ports
	for _, p := range list {
		if n := len(out); n > 0 && out[n-1].protocol == p.protocol && uint32(p.from) <= uint32(out[n-1].to)+1 {
			out[n-1].to = max(out[n-1].to, p.to)
			continue
		}
		out = append(out, p)
	}
	return out
}

func apiPorts(list []ports) []networkingv1.NetworkPolicyPort {
	var out []networkingv1.NetworkPolicyPort
	for _, p := range list {
		protocol, from := corev1.Protocol(p.protocol), intstr.FromInt32(int32(p.from))
		q := networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &from}
		if p.to != p.from {
			to := int32(p.to)
			q.EndPort = &to
		}
		out = append(out, q)
	}
	return out
}

func (p peer) api(namespace string) networkingv1.NetworkPolicyPeer {
	if p.kind == peerBlock {
		block := &networkingv1.IPBlock{CIDR: p.cidr.String()}
		for _, x := range p.except {
			block.Except = append(block.Except, x.String())
		}
		return networkingv1.NetworkPolicyPeer{IPBlock: block}
	}
	out := networkingv1.NetworkPolicyPeer{PodSelector: p.pods.selector(), NamespaceSelector: p.namespaces.selector()}
	if p.namespaces.String() == own(namespace).String() {
		out.NamespaceSelector = nil
	} else if len(p.pods) == 0 {
		out.PodSelector = nil
	}
	return out
}

const (
	maxName  = 253
	maxLabel = 63
	hashed   = 10
)

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])[:hashed]
}

// companionName is readable at its beginning and unique by its end, whatever the policy's name. It tells which pods are isolated in which directions: what has a name
// never changes in that. So while objects are replaced one by one, a pod that is to stay isolated never stands between one that has released it and one that has not
// come yet: objects with new names are made first, and old ones deleted last.
func companionName(p *model.Policy, r role, q *piece) string {
	name := "l7p-" + p.Name
	if r != roleIsolate {
		name += "-" + string(r)
	}
	suffix := "-" + hash(p.Name, string(r), q.pods.String(), fmt.Sprint(q.directions()))
	return strings.TrimRight(name[:min(len(name), maxName-len(suffix))], "-.") + suffix
}

func labelValue(name string) string {
	if len(name) <= maxLabel {
		return name
	}
	return strings.TrimRight(name[:maxLabel-hashed-1], "-._") + "-" + hash(name)
}
