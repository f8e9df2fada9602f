package translate

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// findings collects what users should know, each once.
type findings struct{ list []model.Diagnostic }

func (f *findings) add(d ...model.Diagnostic) { f.list = append(f.list, d...) }

func (f *findings) policy(p *model.Policy, code string, severity model.Severity, field, consequence, remedy string) {
	f.add(model.Diagnostic{
		Code: code, Severity: severity, Object: model.ObjectRef{Kind: "L7Policy", Namespace: p.Namespace, Name: p.Name},
		Field: field, Consequence: consequence, Remedy: remedy,
	})
}

// unresolved: a rule names a port that a selected workload does not declare.
func (f *findings) unresolved(p *model.Policy, rule int, name string, w *model.Workload) {
	consequence := fmt.Sprintf("workload %s declares no TCP port named %q: the port admits nothing there", w.Name, name)
	if p.Action == model.Deny {
		consequence = fmt.Sprintf("workload %s declares no TCP port named %q: the rule refuses on every port there", w.Name, name)
	}
	f.policy(p, "named-port-unknown", model.SeverityWarning, ruleField(rule)+".ports", consequence, "declare the port, or write its number")
}

// sorted returns each finding once, in an order that does not depend on how they were found.
func (f *findings) sorted() []model.Diagnostic {
	slices.SortFunc(f.list, func(a, b model.Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Object.Kind, b.Object.Kind), cmp.Compare(a.Object.Namespace, b.Object.Namespace), cmp.Compare(a.Object.Name, b.Object.Name),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Consequence, b.Consequence), cmp.Compare(a.Remedy, b.Remedy), cmp.Compare(a.Object.Source, b.Object.Source),
		)
	})
	return slices.Compact(f.list)
}

func ruleField(index int) string { return "spec.ingress[" + strconv.Itoa(index) + "]" }

// reportPorts finds what users should know of a workload's ports and of the rules that name them.
func (r *run) reportPorts(w *model.Workload, policies []*resolvedPolicy) {}
