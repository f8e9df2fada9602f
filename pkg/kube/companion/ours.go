package companion

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/netpol"
)

// AnnotationBuiltFrom is "UID/GENERATION" of the policy that a companion was written for. One that a later generation would make the same keeps the earlier one's.
const AnnotationBuiltFrom = "policy.pilot-lite.io/built-from"

func builtFromText(p model.PolicyRef) string { return fmt.Sprintf("%s/%d", p.UID, p.Generation) }

// applied says whether we applied an object at any time, by its managed fields.
func applied(np *networkingv1.NetworkPolicy) bool {
	return slices.ContainsFunc(np.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == FieldManager && f.Operation == metav1.ManagedFieldsOperationApply
	})
}

// owner is the policy that an object belongs to; nil where there is none.
func owner(np *networkingv1.NetworkPolicy) *metav1.OwnerReference {
	for i := range np.OwnerReferences {
		group, _, _ := strings.Cut(np.OwnerReferences[i].APIVersion, "/")
		if np.OwnerReferences[i].Kind == v1alpha1.Kind && group == v1alpha1.GroupName {
			return &np.OwnerReferences[i]
		}
	}
	return nil
}

func marked(np *networkingv1.NetworkPolicy) bool {
	return np.Labels[netpol.LabelManagedBy] == netpol.ManagedBy
}

// ours says whether an object under a companion's name is the companion, in whatever condition.
func ours(np *networkingv1.NetworkPolicy, c *netpol.Companion) bool {
	if applied(np) {
		return true
	}
	o := owner(np)
	return marked(np) && o != nil && string(o.UID) == c.Policy.UID
}

// orphan says whether an object under no companion's name was one. It takes all marks: of what may be somebody's nothing is deleted.
func orphan(np *networkingv1.NetworkPolicy) bool {
	_, built := np.Annotations[AnnotationBuiltFrom]
	return marked(np) && np.Labels[netpol.LabelRole] != "" && built && (applied(np) || owner(np) != nil)
}

// builtFrom is the policy and generation that an object says it was made from.
func builtFrom(np *networkingv1.NetworkPolicy) (uid string, generation int64) {
	uid, number, _ := strings.Cut(np.Annotations[AnnotationBuiltFrom], "/")
	generation, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return uid, 0
	}
	return uid, generation
}

// asDesired says whether an object is what it should be for a policy. One that an earlier generation made, and that this one would make the same, is left as it is: most
// edits change what requests may say, and no companion.
func asDesired(p model.PolicyRef, desired, standing *networkingv1.NetworkPolicy) bool {
	uid, generation := builtFrom(standing)
	return uid == p.UID && 0 < generation && generation <= p.Generation && alike(desired, standing)
}

// alike says whether an object says all that another does. Labels, annotations and owners that others added are theirs, and change nothing that the kernel does.
func alike(desired, standing *networkingv1.NetworkPolicy) bool {
	for k, v := range desired.Labels {
		if got, ok := standing.Labels[k]; !ok || got != v {
			return false
		}
	}
	for i := range desired.OwnerReferences {
		if !slices.ContainsFunc(standing.OwnerReferences, func(o metav1.OwnerReference) bool { return equality.Semantic.DeepEqual(o, desired.OwnerReferences[i]) }) {
			return false
		}
	}
	return equality.Semantic.DeepEqual(&desired.Spec, &standing.Spec)
}

// sameReach says whether an object selects the pods that it should, in the directions that it should.
func sameReach(desired, standing *networkingv1.NetworkPolicy) bool {
	return equality.Semantic.DeepEqual(&desired.Spec.PodSelector, &standing.Spec.PodSelector) && slices.Equal(desired.Spec.PolicyTypes, standing.Spec.PolicyTypes)
}

// mayShare says whether two objects may isolate the same pod in the same direction.
func mayShare(a, b *networkingv1.NetworkPolicy) bool {
	if !slices.ContainsFunc(a.Spec.PolicyTypes, func(t networkingv1.PolicyType) bool { return slices.Contains(b.Spec.PolicyTypes, t) }) {
		return false
	}
	return !excludes(requirements(&a.Spec.PodSelector), requirements(&b.Spec.PodSelector)) && !excludes(requirements(&b.Spec.PodSelector), requirements(&a.Spec.PodSelector))
}

func requirements(s *metav1.LabelSelector) []metav1.LabelSelectorRequirement {
	out := slices.Clone(s.MatchExpressions)
	for k, v := range s.MatchLabels {
		out = append(out, metav1.LabelSelectorRequirement{Key: k, Operator: metav1.LabelSelectorOpIn, Values: []string{v}})
	}
	return out
}

// excludes says whether a demands a value of a label that b refuses.
func excludes(a, b []metav1.LabelSelectorRequirement) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Key != y.Key || x.Operator != metav1.LabelSelectorOpIn {
				continue
			}
			common := slices.ContainsFunc(x.Values, func(v string) bool {
				switch y.Operator {
				case metav1.LabelSelectorOpIn:
					return slices.Contains(y.Values, v)
				case metav1.LabelSelectorOpNotIn:
					return !slices.Contains(y.Values, v)
				case metav1.LabelSelectorOpDoesNotExist:
					return false
				case metav1.LabelSelectorOpExists:
				}
				return true
			})
			if !common {
				return true
			}
		}
	}
	return false
}
