package filesource

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// written is an object as it was written.
type written struct {
	object   model.ObjectRef
	path     string
	document *document
}

// Places tells where objects and their fields stand. The zero value knows of none.
type Places struct {
	at map[model.ObjectRef]written
}

// workloadKind is what findings call the object that pods are made from, whatever its kind.
const workloadKind = "Workload"

func placesOf(files map[string]*contents) *Places {
	p := &Places{at: map[model.ObjectRef]written{}}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		for _, w := range files[path].written {
			key := placeOf(w.object)
			keys := []model.ObjectRef{key}
			if makesPods(key.Kind) {
				keys = append(keys, model.ObjectRef{Kind: workloadKind, Namespace: key.Namespace, Name: key.Name})
			}
			for _, k := range keys {
				if _, taken := p.at[k]; !taken {
					p.at[k] = w
				}
			}
		}
	}
	return p
}

// placeOf names an object as findings do: with the namespace that kubectl would give it.
func placeOf(o model.ObjectRef) model.ObjectRef {
	o.Source = ""
	if o.Kind == "Namespace" || o.Kind == convert.MeshConfigKind {
		o.Namespace = ""
		return o
	}
	o.Namespace = cmp.Or(o.Namespace, corev1.NamespaceDefault)
	return o
}

func makesPods(kind string) bool {
	return slices.Contains([]string{"Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"}, kind)
}

// Of is "file:line" of a field of an object, or of the nearest thing around the field; "" for an object that stands in no file.
func (p *Places) Of(o model.ObjectRef, field string) string {
	if p == nil {
		return ""
	}
	w, known := p.at[placeOf(o)]
	if !known {
		return ""
	}
	return fmt.Sprintf("%s:%d", w.path, w.document.line(field))
}

// Locate gives findings that lack it the place that they are about.
func (p *Places) Locate(found []model.Diagnostic) []model.Diagnostic {
	out := slices.Clone(found)
	for i := range out {
		if out[i].Object.Source == "" {
			out[i].Object.Source = p.Of(out[i].Object, out[i].Field)
		}
	}
	return out
}
