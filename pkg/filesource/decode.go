package filesource

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/internal/mistyped"
	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// contents are the converted objects of one file.
type contents struct {
	parts    convert.Parts
	policies []policy
	foreign  []*networkingv1.NetworkPolicy
	mesh     *model.Mesh
	objects  map[string]string // kind, namespace and name to where it stands
	written  []written         // the objects as they were written
	// problems make the file bad; notices do not.
	problems, notices []model.Diagnostic
}

// policy is a converted policy and the text that it was converted from, which tells whether an edit changed it.
type policy struct {
	*model.Policy

	text string
	ours bool // its generation is ours to count: the file gives none
}

// read decodes and converts a file. It returns what is wrong in contents.problems, never an error: all of it at once.
func read(path string, content []byte) *contents {
	c := &contents{objects: map[string]string{}}
	docs, err := split(content)
	if err != nil {
		line := 1
		if at, ok := errors.AsType[*positionError](err); ok {
			line = at.line
		}
		c.problem(path, line, model.ObjectRef{Kind: "File", Name: path}, "", err.Error(), "write objects as kubectl apply takes them", "unreadable-file")
		return c
	}
	for i := range docs {
		d := &decoder{contents: c, path: path, document: &docs[i]}
		d.decode()
		c.written = append(c.written, written{object: d.object, path: path, document: &docs[i]})
	}
	return c
}

func (c *contents) problem(path string, line int, object model.ObjectRef, field, why, remedy, code string) {
	object.Source = fmt.Sprintf("%s:%d", path, line)
	c.problems = append(c.problems, model.Diagnostic{
		Code: code, Severity: model.SeverityError, Object: object, Field: field, Consequence: why, Remedy: remedy,
	})
}

// ourVersion is what an object of ours begins with.
const ourVersion = "apiVersion: policy.pilot-lite.io/v1alpha1"

// decoder handles one document.
type decoder struct {
	*contents
	path     string
	document *document
	object   model.ObjectRef
}

func (d *decoder) bad(field, why, remedy, code string) {
	if d.document.number > 1 {
		why = fmt.Sprintf("document %d: %s", d.document.number, why)
	}
	d.problem(d.path, d.document.line(field), d.object, field, why, remedy, code)
}

// take adds diagnostics of the object, with their place. Errors make the file bad.
func (d *decoder) take(found []model.Diagnostic) {
	for _, f := range found {
		f.Object.Source = fmt.Sprintf("%s:%d", d.path, d.document.line(f.Field))
		if f.Severity == model.SeverityError && f.Code != "bad-annotation" {
			d.problems = append(d.problems, f)
		} else {
			d.notices = append(d.notices, f)
		}
	}
}

func (d *decoder) decode() {
	gvk := schema.FromAPIVersionAndKind(scalar(child(d.document.node, "apiVersion")), scalar(child(d.document.node, "kind")))
	meta := child(d.document.node, "metadata")
	d.object = model.ObjectRef{Kind: gvk.Kind, Namespace: scalar(child(meta, "namespace")), Name: scalar(child(meta, "name"))}
	switch {
	case gvk.Kind == "":
		d.bad("", "the object has no kind", "write apiVersion, kind and metadata", "no-kind")
	case d.object.Name == "":
		d.bad("metadata", "the object has no name", "write metadata.name", "no-name")
	case gvk == v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind):
		d.policy()
	case gvk == v1alpha1.SchemeGroupVersion().WithKind(convert.MeshConfigKind):
		d.meshConfig(d.document.json)
	case gvk.Group == v1alpha1.SchemeGroupVersion().Group:
		d.bad("kind", fmt.Sprintf("%s %s is not known", gvk.GroupVersion(), gvk.Kind), "write "+ourVersion+" and kind: L7Policy or MeshConfig", "unknown-kind")
	case strings.EqualFold(gvk.Kind, v1alpha1.Kind): // skipped as another's, it would leave open what it was written to shut
		d.bad("apiVersion", fmt.Sprintf("%s has no L7Policy of ours, so it would protect nobody", gvk.GroupVersion()), "write "+ourVersion+" and kind: L7Policy; leave out another product's", "unknown-kind")
	default:
		d.kubernetes(gvk)
	}
}

// once notes that the object stands here, and says whether it stood nowhere else in the file.
func (d *decoder) once() bool {
	here := fmt.Sprintf("%s:%d", d.path, d.document.node.Line)
	key := d.object.String()
	if first, twice := d.objects[key]; twice {
		d.bad("metadata.name", "the object stands at "+first+" already", "remove one of the two", "duplicate-object")
		return false
	}
	d.objects[key] = here
	return true
}

func (d *decoder) policy() {
	var p v1alpha1.L7Policy
	if !d.strict(d.document.json, &p) {
		return
	}
	if p.Namespace == "" {
		p.Namespace, d.object.Namespace = corev1.NamespaceDefault, corev1.NamespaceDefault
	}
	spec := resolved(child(d.document.node, "spec"))
	if spec == nil || spec.ShortTag() == "!!null" {
		d.bad("", "the policy has no spec, which the API server requires", "write spec, with the podSelector and the rules", "no-spec")
		return
	}
	if !d.once() {
		return
	}
	converted, found := convert.PolicyInFile(&p)
	d.take(found)
	if converted.Action == model.Allow && !slices.ContainsFunc([]string{"podSelector", "ingress", "egress"}, func(key string) bool { return child(spec, key) != nil }) {
		d.notices = append(d.notices, model.Diagnostic{
			Code: "whole-namespace-shut", Severity: model.SeverityWarning, Object: d.at("spec"), Field: "spec",
			Consequence: "it has neither podSelector nor rules: every pod of the namespace is isolated, and " + shut(&converted),
			Remedy:      "select pods and list rules; to mean it, write podSelector: {}",
		})
	}
	d.policies = append(d.policies, policy{Policy: &converted, text: string(d.document.json), ours: p.Generation == 0})
}

// shut is what a policy without rules leaves to the pods that it isolates.
func shut(p *model.Policy) string {
	switch {
	case !p.IsolatesEgress:
		return "nobody is let in"
	case !p.IsolatesIngress:
		return "may call nobody"
	}
	return "nobody is let in or out"
}

func (d *decoder) meshConfig(body []byte) {
	var m convert.MeshConfig
	if !d.strict(body, &m) || !d.once() {
		return
	}
	if d.mesh != nil {
		d.bad("", "a second MeshConfig: there is one for everything", "remove one of the two", "duplicate-object")
		return
	}
	mesh, found := convert.Mesh(&m)
	d.take(found)
	d.mesh = &mesh
}

// strict decodes one of our own kinds, and says whether what is right of it could be read.
func (d *decoder) strict(body []byte, into any) bool {
	found, read := convert.Strict(body, into)
	d.allBad(found)
	return read
}

func (d *decoder) allBad(found []model.Diagnostic) {
	for _, f := range found {
		d.bad(f.Field, f.Consequence, f.Remedy, f.Code)
	}
}

// kubernetes decodes the kinds that are used; the others are skipped.
func (d *decoder) kubernetes(gvk schema.GroupVersionKind) {
	object, err := scheme.Scheme.New(gvk)
	if err != nil || !used(object) {
		if version, found := readAs(gvk.Kind); found && scheme.Scheme.IsGroupRegistered(gvk.Group) {
			d.bad("apiVersion", fmt.Sprintf("%s has no %s that is read", gvk.GroupVersion(), gvk.Kind), "write apiVersion: "+version.String(), "unknown-kind")
			return
		}
		d.skip(gvk)
		return
	}
	unknown, err := kjson.UnmarshalStrict(d.document.json, object)
	if err != nil {
		d.allBad(convert.WrongTypes(d.document.json, object, err))
		return
	}
	for _, e := range unknown {
		field, _ := mistyped.Stray(e) // none is written twice in what was read as YAML
		d.notices = append(d.notices, model.Diagnostic{
			Code: "unknown-field", Severity: model.SeverityWarning, Object: d.at(field), Field: field,
			Consequence: "unknown field: it has no effect", Remedy: "correct its spelling or its place, or remove it",
		})
	}
	if d.once() {
		d.convert(object)
	}
}

func (d *decoder) at(field string) model.ObjectRef {
	object := d.object
	object.Source = fmt.Sprintf("%s:%d", d.path, d.document.line(field))
	return object
}

func (d *decoder) skip(gvk schema.GroupVersionKind) {
	d.notices = append(d.notices, model.Diagnostic{
		Code: "skipped-kind", Severity: model.SeverityNotice, Object: d.at(""),
		Consequence: fmt.Sprintf("%s %s decides no verdict: skipped", gvk.GroupVersion(), gvk.Kind),
	})
}

// readAs is the version in which a kind of Kubernetes' own is used; none for the others. In another version it is a slip that the API server would refuse, and skipped it would
// be missed by the policies that mean it.
func readAs(kind string) (version schema.GroupVersion, found bool) {
	for _, version := range []schema.GroupVersion{
		corev1.SchemeGroupVersion, appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, networkingv1.SchemeGroupVersion,
	} {
		if object, err := scheme.Scheme.New(version.WithKind(kind)); err == nil && used(object) {
			return version, true
		}
	}
	return schema.GroupVersion{}, false
}

func used(object runtime.Object) bool {
	switch object.(type) {
	case *corev1.Namespace, *corev1.Service, *corev1.Pod, *corev1.ServiceAccount, *corev1.ConfigMap, *appsv1.Deployment, *appsv1.StatefulSet, *appsv1.DaemonSet,
		*appsv1.ReplicaSet, *batchv1.Job, *batchv1.CronJob, *discoveryv1.EndpointSlice, *networkingv1.NetworkPolicy:
		return true
	}
	return false
}

func (d *decoder) convert(object runtime.Object) {
	switch o := object.(type) {
	case *corev1.Namespace:
		d.parts.Namespaces = append(d.parts.Namespaces, convert.Namespace(o))
	case *corev1.Service:
		d.parts.Services = append(d.parts.Services, convert.Service(o))
	case *corev1.Pod:
		pod, found := convert.Pod(o)
		d.take(found)
		d.parts.Pods = append(d.parts.Pods, &pod)
	case *discoveryv1.EndpointSlice:
		d.parts.Endpoints = append(d.parts.Endpoints, convert.EndpointSlice(o))
	case *networkingv1.NetworkPolicy:
		if o.Namespace == "" {
			o.Namespace = corev1.NamespaceDefault
		}
		if convert.ForeignNetworkPolicy(o) {
			d.foreign = append(d.foreign, o)
		}
	case *corev1.ConfigMap:
		d.configMap(o)
	default:
		d.workload(object)
	}
}

// workload converts an object with a pod template.
func (d *decoder) workload(object runtime.Object) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		d.template(&o.ObjectMeta, o.Spec.Selector, &o.Spec.Template)
	case *appsv1.StatefulSet:
		d.template(&o.ObjectMeta, o.Spec.Selector, &o.Spec.Template)
	case *appsv1.DaemonSet:
		d.template(&o.ObjectMeta, o.Spec.Selector, &o.Spec.Template)
	case *appsv1.ReplicaSet:
		if metav1.GetControllerOf(o) == nil {
			d.template(&o.ObjectMeta, o.Spec.Selector, &o.Spec.Template)
		}
	case *batchv1.Job:
		if metav1.GetControllerOf(o) == nil {
			d.template(&o.ObjectMeta, o.Spec.Selector, &o.Spec.Template)
		}
	case *batchv1.CronJob:
		d.template(&o.ObjectMeta, o.Spec.JobTemplate.Spec.Selector, &o.Spec.JobTemplate.Spec.Template)
	}
}

func (d *decoder) template(meta *metav1.ObjectMeta, selector *metav1.LabelSelector, template *corev1.PodTemplateSpec) {
	t, found := convert.WorkloadTemplate(d.object.Kind, meta, selector, template)
	d.take(found)
	d.parts.Templates = append(d.parts.Templates, t)
}

// configMap reads the mesh's settings as they stand in a cluster.
func (d *decoder) configMap(m *corev1.ConfigMap) {
	written, ok := m.Data[convert.MeshConfigKey]
	if m.Name != convert.MeshConfigMap || !ok {
		return
	}
	body, err := convert.MeshJSON(written)
	if err != nil {
		d.bad("data", err.Error(), "write a MeshConfig", "wrong-type")
		return
	}
	d.object.Kind = convert.MeshConfigKind
	d.meshConfig(body)
}
