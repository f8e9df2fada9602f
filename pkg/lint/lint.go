// Package lint finds what policies say to no effect, or to another than their author may expect: rules that nothing matches, that a Deny shadows or that another rule
// repeats, selectors and names that mean nothing, workloads that nobody protects, and where one layer is wider than the other. Input: a model.Index, and what translation
// made of it. Output: findings, those of reading and translation among them. Catalog lists every code. Pure. One entry point: Run.
package lint

import (
	"slices"

	"github.com/pilot-lite/pilot-lite/internal/reqclass"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

// Input is what is looked at.
type Input struct {
	Index  *model.Index
	Output *translate.Output
	Found  []model.Diagnostic // what reading found and the snapshot does not hold: the problems of files
}

// Run returns every finding once, sorted by object.
func Run(in Input) []model.Diagnostic {
	l := newLinter(in.Index)
	for _, p := range l.policies {
		l.policy(p)
		for _, r := range l.rules[p] {
			l.peers(r)
			l.ports(r)
			l.requests(r)
			l.hosts(r)
			l.unserved(r)
		}
	}
	l.regions()
	l.workloads()
	l.mesh()
	l.layers(in.Output.Companions)
	l.found.Add(in.Found...)
	l.found.Add(l.adopted(in.Output.Diagnostics)...)
	return l.found.Sorted()
}

// linter is one Run.
type linter struct {
	ix       *model.Index
	found    model.Findings
	finder   reqclass.Finder
	policies []*model.Policy
	rules    map[*model.Policy][]*rule // of both directions
	selected map[*model.Policy][]*model.Workload
	place    map[*model.Workload]int // in the index
	order    map[*model.Policy]int   // in the snapshot
	services map[[2]string]*model.Service
	nobody   map[*rule]bool // rules whose peers were found to mean nobody
	covered  map[coverKey]bool

	unanswered int // questions about requests
}

func newLinter(ix *model.Index) *linter {
	l := &linter{
		ix: ix, found: model.Findings{}, rules: map[*model.Policy][]*rule{}, selected: map[*model.Policy][]*model.Workload{},
		place: make(map[*model.Workload]int, len(ix.Workloads)), services: map[[2]string]*model.Service{}, nobody: map[*rule]bool{}, order: map[*model.Policy]int{}, covered: map[coverKey]bool{},
	}
	for i, w := range ix.Workloads {
		l.place[w] = i
	}
	for i := range ix.Snapshot.Services {
		s := &ix.Snapshot.Services[i]
		l.services[[2]string{s.Namespace, s.Name}] = s
	}
	for i, p := range ix.Snapshot.Policies {
		l.order[p], l.policies = i, append(l.policies, p)
		l.selected[p] = ix.Selected(p)
		for _, d := range []model.Direction{model.Ingress, model.Egress} {
			rules := p.Rules(d)
			for j := range rules {
				l.rules[p] = append(l.rules[p], l.newRule(p, d, j, &rules[j]))
			}
		}
	}
	return l
}

// adopted are translation's findings. Two are told otherwise here: whom a rule's peers do not mean is said peer by peer, and a policy that selects nothing is worse in
// front of its author than in a server's log, where it may be ahead of its pods.
func (l *linter) adopted(found []model.Diagnostic) []model.Diagnostic {
	told := map[model.Diagnostic]bool{}
	for r := range l.nobody {
		if r.direction == model.Ingress {
			told[model.Diagnostic{Object: r.policy.Finding("", "", "").Object, Field: r.field() + ".from"}] = true
		}
	}
	var out []model.Diagnostic
	for _, d := range found {
		switch d.Code {
		case "peers-mean-nobody":
			if told[model.Diagnostic{Object: d.Object, Field: d.Field}] {
				continue
			}
		case "policy-selects-nothing":
			d.Severity, d.Remedy = model.SeverityWarning, "check the selector and the namespace"
		}
		out = append(out, d)
	}
	return out
}

// all says whether something is true of all the elements of a list, and the list is not empty.
func all[T any](list []T, is func(T) bool) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(v T) bool { return !is(v) })
}
