package netpol

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// term is one condition on a label. Values are sorted.
type term struct {
	key    string
	op     selection.Operator // In, NotIn, Exists or DoesNotExist
	values string             // joined by commas, which label values cannot hold
}

// conj is a conjunction of terms, sorted and without repetition: a label selector. The empty one selects everything.
type conj []term

// conjOf reads a selector; nil selects everything.
func conjOf(s labels.Selector) conj {
	if s == nil {
		return nil
	}
	requirements, selectable := s.Requirements()
	if !selectable {
		return conj{{key: "x", op: selection.DoesNotExist}, {key: "x", op: selection.Exists}} // selects nothing
	}
	var out conj
	for _, r := range requirements {
		t := term{key: r.Key(), op: r.Operator(), values: strings.Join(slices.Sorted(slices.Values(r.ValuesUnsorted())), ",")}
		switch t.op {
		case selection.Equals, selection.DoubleEquals:
			t.op = selection.In
		case selection.NotEquals:
			t.op = selection.NotIn
		default:
		}
		out = append(out, t)
	}
	return out.tidy()
}

func (c conj) tidy() conj {
	out := slices.Clone(c)
	slices.SortFunc(out, func(a, b term) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(string(a.op), string(b.op)), strings.Compare(a.values, b.values))
	})
	return slices.Compact(out)
}

// and is the conjunction of both, and whether anything can satisfy it.
func (c conj) and(more ...term) (conj, bool) {
	out := append(slices.Clone(c), more...).tidy()
	return out, out.possible()
}

// possible says whether some set of labels satisfies every term.
func (c conj) possible() bool {
	type valueRange struct {
		in, present, absent bool
		values              map[string]bool // what In leaves
		not                 map[string]bool
	}
	keys := map[string]*valueRange{}
	for _, t := range c {
		r := keys[t.key]
		if r == nil {
			r = &valueRange{not: map[string]bool{}}
			keys[t.key] = r
		}
		values := t.list()
		switch t.op {
		case selection.In:
			r.present = true
			next := map[string]bool{}
			for _, v := range values {
				if !r.in || r.values[v] {
					next[v] = true
				}
			}
			r.in, r.values = true, next
		case selection.NotIn:
			for _, v := range values {
				r.not[v] = true
			}
		case selection.Exists:
			r.present = true
		case selection.DoesNotExist:
			r.absent = true
		default:
		}
	}
	for _, r := range keys {
		if r.present && r.absent {
			return false
		}
		left := !r.in
		for v := range r.values {
			left = left || !r.not[v]
		}
		if !left {
			return false
		}
	}
	return true
}

// list is a term's values; the empty one is a value, too.
func (t term) list() []string {
	if t.op == selection.Exists || t.op == selection.DoesNotExist {
		return nil
	}
	return strings.Split(t.values, ",")
}

// not is the term that holds exactly where t does not. NotIn also holds where the label is absent, as does the opposite of In.
func (t term) not() term {
	switch t.op {
	case selection.In:
		t.op = selection.NotIn
	case selection.NotIn:
		t.op = selection.In
	case selection.Exists:
		t.op = selection.DoesNotExist
	case selection.DoesNotExist:
		t.op = selection.Exists
	default:
	}
	return t
}

// without is c AND NOT other, as a union of conjunctions: one for each term of other, denied.
func (c conj) without(other conj) []conj {
	var out []conj
	for _, t := range other {
		if piece, ok := c.and(t.not()); ok {
			out = append(out, piece)
		}
	}
	return out
}

func (c conj) String() string {
	var b strings.Builder
	for _, t := range c {
		b.WriteString(t.key + " " + string(t.op) + " " + t.values + ";")
	}
	return b.String()
}

// selector writes a conjunction as the API has it.
func (c conj) selector() *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	for _, t := range c {
		values := t.list()
		if _, taken := out.MatchLabels[t.key]; t.op == selection.In && len(values) == 1 && !taken {
			if out.MatchLabels == nil {
				out.MatchLabels = map[string]string{}
			}
			out.MatchLabels[t.key] = values[0]
			continue
		}
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{Key: t.key, Operator: operator(t.op), Values: values})
	}
	return out
}

func operator(op selection.Operator) metav1.LabelSelectorOperator {
	switch op {
	case selection.NotIn:
		return metav1.LabelSelectorOpNotIn
	case selection.Exists:
		return metav1.LabelSelectorOpExists
	case selection.DoesNotExist:
		return metav1.LabelSelectorOpDoesNotExist
	default:
		return metav1.LabelSelectorOpIn
	}
}

// matches says whether a set of labels satisfies every term.
func (c conj) matches(set map[string]string) bool {
	return !slices.ContainsFunc(c, func(t term) bool {
		value, present := set[t.key]
		switch t.op {
		case selection.In:
			return !present || !slices.Contains(t.list(), value)
		case selection.NotIn:
			return present && slices.Contains(t.list(), value)
		case selection.DoesNotExist:
			return present
		default:
			return !present
		}
	})
}
