package model

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// Finding is a finding that addresses a part of the policy.
func (p *Policy) Finding(code string, severity Severity, field string) Diagnostic {
	return Diagnostic{Code: code, Severity: severity, Object: ObjectRef{Kind: v1alpha1.Kind, Namespace: p.Namespace, Name: p.Name}, Field: field}
}

// Findings collects what users should know, each once. What is true of several workloads is one finding: a policy may select a thousand.
type Findings map[Diagnostic][]string

// Add adds findings.
func (f Findings) Add(list ...Diagnostic) {
	for _, d := range list {
		f[d] = nil
	}
}

// Of adds a finding that is true of one workload.
func (f Findings) Of(w *Workload, d Diagnostic) {
	if names := f[d]; len(names) == 0 || names[len(names)-1] != w.Name {
		f[d] = append(names, w.Name)
	}
}

// Sorted returns the findings in an order that does not depend on how they were found.
func (f Findings) Sorted() []Diagnostic {
	out := make([]Diagnostic, 0, len(f))
	for d, workloads := range maps.All(f) {
		if len(workloads) > 0 {
			d.Consequence = someOf(workloads) + ": " + d.Consequence
		}
		out = append(out, d)
	}
	slices.SortFunc(out, Diagnostic.Compare)
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
