package translate

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// findings are what was found about one policy or one workload.
type findings []finding

type finding struct {
	model.Diagnostic

	workload *model.Workload // that it is true of; nil where it is not of workloads
}

func (f *findings) add(list ...model.Diagnostic) {
	for _, d := range list {
		*f = append(*f, finding{d, nil})
	}
}

// of adds a finding that is true of one workload.
func (f *findings) of(w *model.Workload, d model.Diagnostic) { *f = append(*f, finding{d, w}) }

func (f findings) equal(o findings) bool {
	return len(f) == len(o) && (len(f) == 0 || &f[0] == &o[0] || slices.EqualFunc(f, o, func(a, b finding) bool {
		return a.Diagnostic == b.Diagnostic && (a.workload == b.workload || a.workload != nil && b.workload != nil && a.workload.Name == b.workload.Name)
	}))
}

// take returns what was found since it was called last.
func (r *run) take() findings {
	found := slices.Clone(r.findings)
	r.findings = r.findings[:0]
	return found
}

// part adds findings to what this round reports.
func (r *run) part(f findings) {
	if len(f) > 0 {
		r.parts = append(r.parts, f)
	}
}

// reported is what one round reported, and from what.
type reported struct {
	of    []model.Diagnostic
	parts []findings
	list  []model.Diagnostic
}

// sorted joins what was found: the very list of the round before, if the same was found.
func (x *reported) sorted(of []model.Diagnostic, parts []findings) []model.Diagnostic {
	same := slices.Equal(x.of, of) && slices.EqualFunc(x.parts, parts, findings.equal)
	x.of, x.parts = of, parts
	if same && x.list != nil {
		return x.list
	}
	all := model.Findings{}
	for _, part := range parts {
		for i := range part {
			if part[i].workload == nil {
				all.Add(part[i].Diagnostic)
			} else {
				all.Of(part[i].workload, part[i].Diagnostic)
			}
		}
	}
	all.Add(of...)
	x.list = all.Sorted()
	return x.list
}
