package inject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/internal/mistyped"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Rewritten is what became of an object.
type Rewritten struct {
	// JSON is the object with its sidecars; nil where nothing changed.
	JSON    []byte
	Notices []model.Diagnostic
}

// Object puts sidecars into the pods that a Kubernetes object describes: a Pod, the template of a Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job
// or CronJob, and each item of a List. Every other object stays as it is, and so does every field that this program does not know. If any pod is refused, nothing is
// returned but the reasons; their fields begin at the object that was passed. An object without a namespace is taken for one of "default", as kubectl does.
func Object(text []byte, c Config) (*Rewritten, []model.Diagnostic) {
	tree, err := decodeTree(text)
	if err != nil {
		return nil, []model.Diagnostic{unreadable(model.ObjectRef{}, "", errors.New("it is no object"))}
	}
	w := &rewriter{config: c}
	w.object("", tree, kindOf{})
	if len(w.found) > 0 {
		return nil, w.found
	}
	out := &Rewritten{Notices: w.notices}
	if !w.changed {
		return out, nil
	}
	if out.JSON, err = marshal(tree); err != nil {
		return nil, []model.Diagnostic{unreadable(model.ObjectRef{}, "", err)}
	}
	return out, nil
}

func unreadable(object model.ObjectRef, field string, err error) model.Diagnostic {
	return model.Diagnostic{
		Code: "wrong-type", Severity: model.SeverityError, Object: object, Field: field, Consequence: err.Error() + ": no sidecar can be put in", Remedy: "correct the value",
	}
}

// rewriter changes an object's tree in place.
type rewriter struct {
	config         Config
	changed        bool
	found, notices []model.Diagnostic
}

// kindOf is an object's type.
type kindOf struct{ version, kind string }

// object handles one object, or one item of a list, whose type the list may imply.
func (w *rewriter) object(field string, tree map[string]any, implied kindOf) {
	version, _ := tree["apiVersion"].(string)
	kind, _ := tree["kind"].(string)
	is := kindOf{version: cmp.Or(version, implied.version), kind: cmp.Or(kind, implied.kind)}
	if items, isList := tree["items"].([]any); isList && strings.HasSuffix(is.kind, "List") {
		for i, item := range items {
			if o, ok := item.(map[string]any); ok {
				w.object(at(field, fmt.Sprintf("items[%d]", i)), o, kindOf{version: is.version, kind: strings.TrimSuffix(is.kind, "List")})
			}
		}
		return
	}
	steps, known := is.pod()
	if !known {
		return
	}
	meta, _ := tree["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	if generated, _ := meta["generateName"].(string); name == "" {
		name = generated + "*"
	}
	namespace, _ := meta["namespace"].(string)
	namespace = cmp.Or(namespace, corev1.NamespaceDefault)
	p := placed{object: model.ObjectRef{Kind: is.kind, Namespace: namespace, Name: name}, field: field, tree: tree}
	for _, step := range steps {
		below, ok := p.tree[step].(map[string]any)
		if !ok {
			return // no pod stands there: the API server refuses the object
		}
		p.set, p.tree, p.field = p.replacer(step), below, at(p.field, step)
	}
	w.pod(&p)
}

// placed is a pod, or the template of one, and where it stands.
type placed struct {
	object model.ObjectRef
	field  string
	tree   map[string]any
	set    func(map[string]any) // puts another in its place; nil where the pod is the object itself
}

func (p *placed) replacer(step string) func(map[string]any) {
	around := p.tree
	return func(to map[string]any) { around[step] = to }
}

// pod says where in an object its pod stands.
func (k kindOf) pod() ([]string, bool) {
	switch k.version + " " + k.kind {
	case "v1 Pod":
		return nil, true
	case "apps/v1 Deployment", "apps/v1 StatefulSet", "apps/v1 DaemonSet", "apps/v1 ReplicaSet", "batch/v1 Job", "v1 ReplicationController":
		return []string{"spec", "template"}, true
	case "batch/v1 CronJob":
		return []string{"spec", "jobTemplate", "spec", "template"}, true
	}
	return nil, false
}

func at(field, step string) string { return strings.TrimPrefix(field+"."+step, ".") }

func (w *rewriter) pod(p *placed) {
	after, err := w.inject(p)
	if err != nil {
		w.found = append(w.found, unreadable(p.object, p.field, err))
		return
	}
	if after == nil {
		return
	}
	w.changed = true
	if p.set != nil {
		p.set(after)
		return
	}
	clear(p.tree)
	maps.Copy(p.tree, after)
}

// inject returns the pod with its sidecar; nil where it stays as it is, or is refused.
func (w *rewriter) inject(p *placed) (map[string]any, error) {
	text, err := marshal(p.tree)
	if err != nil {
		return nil, err
	}
	var pod corev1.Pod
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &pod); err != nil {
		return nil, w.wrongTypes(p, text, err)
	}
	result, found := Pod(&pod, p.object.Namespace, w.config)
	w.found = append(w.found, w.placed(p, found)...)
	if len(found) > 0 {
		return nil, nil
	}
	w.notices = append(w.notices, w.placed(p, result.Notices)...)
	operations, err := Patch(text, &pod, result.Pod)
	if err != nil || operations == nil {
		return nil, err
	}
	patch, err := jsonpatch.DecodePatch(operations)
	if err != nil {
		return nil, fmt.Errorf("read the patch: %w", err)
	}
	if text, err = patch.Apply(text); err != nil {
		return nil, fmt.Errorf("apply the patch: %w", err)
	}
	return decodeTree(text)
}

// wrongTypes tells why a pod could not be read; what it cannot tell is left as an error, in the decoder's own words.
func (w *rewriter) wrongTypes(p *placed, text []byte, err error) error {
	wrong := mistyped.In(text, reflect.TypeFor[corev1.Pod]())
	for _, v := range wrong {
		w.found = append(w.found, model.Diagnostic{
			Code: "wrong-type", Severity: model.SeverityError, Object: p.object, Field: at(p.field, v.Field), Consequence: "it is " + v.Is + ": no sidecar can be put in", Remedy: v.Remedy,
		})
	}
	if len(wrong) == 0 {
		return err
	}
	return nil
}

// placed names the object that the pod stands in, and the field as seen from there.
func (w *rewriter) placed(p *placed, found []model.Diagnostic) []model.Diagnostic {
	for i := range found {
		found[i].Object = p.object
		if found[i].Field != "" {
			found[i].Field = at(p.field, found[i].Field)
		}
	}
	return found
}
