package filesource

import (
	"io"
	"maps"
	"slices"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Prune says whether what a snapshot has and the files lack is deleted.
type Prune string

// Prunes.
const (
	PruneNothing  Prune = ""
	PrunePolicies Prune = "policies" // L7Policies, in the namespaces of those in the files
)

// Over reads files and folders once, and applies their objects over a snapshot as kubectl apply would (convert.Over). The error is for a path that cannot be read at all.
// Where there are problems, they are the whole result.
func Over(base *model.Snapshot, paths []string, stdin io.Reader, prune Prune) (*Result, error) {
	files, err := readAll(paths, stdin)
	if err != nil {
		return nil, err
	}
	_, r := join(files, generations{}, nil)
	if len(r.Problems) > 0 {
		return &Result{Problems: r.Problems}, nil
	}
	edit := &convert.Edit{}
	stands, governed := map[string]bool{}, map[string]bool{}
	count := generations{}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		c := files[path]
		edit.Namespaces = append(edit.Namespaces, c.parts.Namespaces...)
		edit.Services = append(edit.Services, c.parts.Services...)
		edit.Pods = append(edit.Pods, c.parts.Pods...)
		edit.Templates = append(edit.Templates, c.parts.Templates...)
		edit.Endpoints = append(edit.Endpoints, c.parts.Endpoints...)
		edit.NetworkPolicies = append(edit.NetworkPolicies, c.foreign...)
		for i := range c.policies {
			p := count.of(&c.policies[i])
			edit.Policies = append(edit.Policies, p)
			stands[p.Namespace+"/"+p.Name], governed[p.Namespace] = true, true
		}
		if c.mesh != nil {
			edit.Mesh = c.mesh
		}
	}
	if prune == PrunePolicies {
		edit.Gone = func(p *model.Policy) bool { return governed[p.Namespace] && !stands[p.Namespace+"/"+p.Name] }
	}
	var unchanged []convert.Template
	r.Snapshot, unchanged = convert.Over(base, edit)
	for _, t := range unchanged {
		r.Notices = append(r.Notices, model.Diagnostic{
			Code: "template-stands", Severity: model.SeverityWarning, Object: model.ObjectRef{Kind: t.Kind, Namespace: t.Pod.Namespace, Name: t.Pod.Name},
			Consequence: "its pods are listed as they stand: what the template changes in them is not compared", Remedy: "compare folders that list workloads without their pods",
		})
	}
	return r, nil
}
