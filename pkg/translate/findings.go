package translate

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// findings collects what users should know, each once. What is true of several workloads is one finding: a policy may select a thousand.
type findings map[model.Diagnostic][]string

func (f findings) add(list ...model.Diagnostic) {
	for _, d := range list {
		f[d] = nil
	}
}

// of adds a finding that is true of one workload.
func (f findings) of(w *model.Workload, d model.Diagnostic) {
	if names := f[d]; len(names) == 0 || names[len(names)-1] != w.Name {
		f[d] = append(names, w.Name)
	}
}

// sorted returns the findings in an order that does not depend on how they were found.
func (f findings) sorted() []model.Diagnostic {
	out := make([]model.Diagnostic, 0, len(f))
	for d, workloads := range maps.All(f) {
		if len(workloads) > 0 {
			d.Consequence = someOf(workloads) + ": " + d.Consequence
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b model.Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Object.Kind, b.Object.Kind), cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Consequence, b.Consequence), cmp.Compare(a.Remedy, b.Remedy), cmp.Compare(a.Object.Source, b.Object.Source),
		)
	})
	return out
}

// someOf names the first workloads and counts the rest.
func someOf(workloads []string) string {
	const named = 3
	slices.Sort(workloads)
	workloads = slices.Compact(workloads)
	switch n := len(workloads); {
	case n == 1:
		return "workload " + workloads[0]
	case n <= named:
		return "workloads " + strings.Join(workloads, ", ")
	default:
		return "workloads " + strings.Join(workloads[:named], ", ") + " and " + strconv.Itoa(n-named) + " more"
	}
}

// onPolicy is a finding that addresses a part of a policy.
func onPolicy(p *model.Policy, code string, severity model.Severity, field string) model.Diagnostic {
	return model.Diagnostic{
		Code: code, Severity: severity, Object: model.ObjectRef{Kind: "L7Policy", Namespace: p.Namespace, Name: p.Name}, Field: field,
	}
}

func ruleField(index int) string { return "spec.ingress[" + strconv.Itoa(index) + "]" }

func portText(port uint16) string { return strconv.Itoa(int(port)) }
