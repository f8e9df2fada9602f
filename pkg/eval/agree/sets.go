package agree

import (
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// set is whom a peer means, the same pointer while it means the same workloads.
type set struct {
	asked     question
	callers   []*caller // by key
	refs      []Caller
	addresses *[]*addresses // the callers'; the same pointer while they are the same
	outgoing  *outgoing     // nil where nobody of it is isolated as a caller
	round     uint64
	followed  uint64 // the check in which outgoing was found
}

// question asks for the workloads that a peer means: pods of a namespace, or of those that a selector means.
type question struct {
	namespace        string
	namespaces, pods labels.Selector
	accounts         []string
}

func (q question) key() string {
	var b strings.Builder
	b.WriteString(strconv.Quote(q.namespace))
	for _, s := range []labels.Selector{q.namespaces, q.pods} {
		b.WriteByte('|')
		if s != nil {
			b.WriteString(s.String())
		}
	}
	if q.accounts != nil {
		b.WriteString("|" + strings.Join(q.accounts, ","))
	}
	return b.String()
}

// set answers a question once for each grouping of pods.
func (x *Checker) set(q question) *set {
	key := q.key()
	old := x.sets[key]
	if old != nil && old.round == x.round {
		return old
	}
	s := &set{asked: q, round: x.round}
	add := func(ws []*model.Workload) {
		for _, w := range ws {
			if !w.HostNetwork && q.means(w.Labels) {
				s.callers = append(s.callers, x.callers[w.Key])
			}
		}
	}
	if q.namespaces == nil {
		add(x.ix.InNamespace(q.namespace))
	} else {
		meant := map[string]bool{}
		for i, w := range x.ix.Workloads {
			known, asked := meant[w.Namespace]
			if !asked {
				known = q.namespaces.Matches(x.ix.NamespaceLabels(w.Namespace))
				meant[w.Namespace] = known
			}
			if known {
				add(x.ix.Workloads[i : i+1])
			}
		}
	}
	known := make([]*addresses, 0, len(s.callers))
	for _, c := range s.callers {
		known = append(known, c.addresses)
	}
	if old != nil && slices.Equal(old.callers, s.callers) {
		old.round = x.round
		if !slices.Equal(*old.addresses, known) {
			old.addresses = &known
		}
		return old
	}
	s.addresses = &known
	for _, c := range s.callers {
		s.refs = append(s.refs, c.ref)
	}
	if x.sets == nil {
		x.sets = map[string]*set{}
	}
	x.sets[key] = s
	return s
}

// meant says whether a workload that came or went is meant.
func (q question) meant(m model.Moved) bool {
	if q.namespaces == nil && m.Namespace != q.namespace || q.namespaces != nil && !q.namespaces.Matches(m.NamespaceLabels) {
		return false
	}
	return q.means(m.Labels)
}

func (q question) means(set map[string]string) bool {
	if q.pods != nil && !q.pods.Matches(labels.Set(set)) {
		return false
	}
	if q.accounts == nil {
		return true
	}
	stamped, ok := set[v1alpha1.LabelServiceAccount]
	return ok && slices.ContainsFunc(q.accounts, func(name string) bool { return model.ServiceAccountLabel(name) == stamped })
}
