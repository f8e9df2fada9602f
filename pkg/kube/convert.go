package kube

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// ourPrefix begins the names of all annotations that are read.
const ourPrefix = "policy.pilot-lite.io/"

// pod is what is kept of a Pod.
type pod struct {
	model.Pod
	found  []model.Diagnostic
	images unique.Handle[Images]
}

// Images are those of the containers that the injector put into a pod; the zero value is that of a pod without them.
type Images struct{ Capture, Proxy string }

// Policy is what is kept of an L7Policy: its conversion, and what the status writer needs.
type Policy struct {
	*model.Policy

	Diagnostics     []model.Diagnostic // of the conversion
	Status          v1alpha1.L7PolicyStatus
	ResourceVersion string
	words           words // that it was converted from
}

// meshConfig is what is kept of the ConfigMap with the mesh's settings.
type meshConfig struct {
	mesh  model.Mesh
	found []model.Diagnostic // errors: the settings are not taken over
}

// metaOf keeps what is used of an object's metadata.
func metaOf(m *metav1.ObjectMeta) metav1.ObjectMeta {
	out := metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation, Labels: m.Labels,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		OwnerReferences: slices.DeleteFunc(m.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Controller == nil || !*o.Controller }),
	}
	for key, value := range m.Annotations {
		if strings.HasPrefix(key, ourPrefix) {
			if out.Annotations == nil {
				out.Annotations = map[string]string{}
			}
			out.Annotations[key] = value
		}
	}
	return out
}

// strip takes out of an object what is not used, so that a list of thousands of pods does not stand in memory whole before it is converted.
func strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		*o = corev1.Pod{ObjectMeta: metaOf(&o.ObjectMeta), Spec: podSpec(&o.Spec), Status: corev1.PodStatus{
			Phase: o.Status.Phase, PodIP: o.Status.PodIP, PodIPs: o.Status.PodIPs,
		}}
	case *corev1.ServiceAccount:
		*o = corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace, UID: o.UID, ResourceVersion: o.ResourceVersion}}
	case *corev1.Namespace:
		o.ObjectMeta = metaOf(&o.ObjectMeta)
	case *corev1.Service:
		o.ObjectMeta, o.Status = metaOf(&o.ObjectMeta), corev1.ServiceStatus{}
	case *discoveryv1.EndpointSlice:
		o.ObjectMeta = metaOf(&o.ObjectMeta)
	case *networkingv1.NetworkPolicy:
		for i := range o.ManagedFields {
			o.ManagedFields[i].FieldsV1 = nil // who wrote it is used, not which fields
		}
	}
	return object, nil
}

func podSpec(s *corev1.PodSpec) corev1.PodSpec {
	out := corev1.PodSpec{NodeName: s.NodeName, ServiceAccountName: s.ServiceAccountName, HostNetwork: s.HostNetwork}
	keep := func(in []corev1.Container) []corev1.Container {
		kept := make([]corev1.Container, 0, len(in))
		for i := range in {
			c := corev1.Container{Name: in[i].Name, Ports: in[i].Ports, RestartPolicy: in[i].RestartPolicy}
			if c.Name == v1alpha1.CaptureContainer || c.Name == v1alpha1.ProxyContainer {
				c.Image = in[i].Image
			}
			kept = append(kept, c)
		}
		return kept
	}
	out.InitContainers, out.Containers = keep(s.InitContainers), keep(s.Containers)
	return out
}

func convertNamespace(object any) (model.Namespace, bool) {
	o, ok := object.(*corev1.Namespace)
	if !ok {
		return model.Namespace{}, false
	}
	return convert.Namespace(o), true
}

func convertService(object any) (model.Service, bool) {
	o, ok := object.(*corev1.Service)
	if !ok {
		return model.Service{}, false
	}
	return convert.Service(o), true
}

// convertPods converts pods, which share their labels: those of a workload differ in nothing else.
func convertPods() func(object any) (pod, bool) {
	var known sharedLabels
	return func(object any) (pod, bool) {
		p, ok := convertPod(object)
		p.Labels = known.of(p.Labels)
		return p, ok
	}
}

func convertPod(object any) (pod, bool) {
	o, ok := object.(*corev1.Pod)
	if !ok {
		return pod{}, false
	}
	o.ObjectMeta = metaOf(&o.ObjectMeta)
	converted, found := convert.Pod(o)
	converted.AwaitsAddress = converted.Expected && !o.Spec.HostNetwork && o.Status.PodIP == "" && o.DeletionTimestamp == nil
	return pod{converted, found, imagesOf(o)}, true
}

// imagesOf are a pod's, which it shares with all that were injected by the same version.
func imagesOf(p *corev1.Pod) unique.Handle[Images] {
	var out Images
	if p.Labels[v1alpha1.LabelProxy] == v1alpha1.ProxyInjected {
		for i := range p.Spec.InitContainers {
			switch c := &p.Spec.InitContainers[i]; c.Name {
			case v1alpha1.CaptureContainer:
				out.Capture = c.Image
			case v1alpha1.ProxyContainer:
				out.Proxy = c.Image
			}
		}
	}
	return unique.Make(out)
}

func convertAccount(object any) (string, bool) {
	o, ok := object.(*corev1.ServiceAccount)
	if !ok {
		return "", false
	}
	return string(o.UID), true
}

func convertSlice(object any) ([]convert.Endpoint, bool) {
	o, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, false
	}
	endpoints := convert.EndpointSlice(o)
	return endpoints, len(endpoints) > 0
}

func convertNetworkPolicy(object any) (*networkingv1.NetworkPolicy, bool) {
	o, ok := object.(*networkingv1.NetworkPolicy)
	if !ok {
		return nil, false
	}
	_, _ = strip(o)
	return o, true
}

// convertPolicies converts policies. What is written of one decides what it means, so that an event that brings the same words, as each write of a status does, takes over
// what was made of them before.
func convertPolicies(known func(namespace, name string) (Policy, bool)) func(object any) (Policy, bool) {
	return func(object any) (Policy, bool) {
		o, ok := object.(*policyText)
		if !ok {
			return Policy{}, false
		}
		out := Policy{ResourceVersion: o.ResourceVersion}
		// What a newer version adds to the status or to the metadata changes no verdict: only the spec is read strictly.
		_ = kjson.UnmarshalCaseSensitivePreserveInts(o.status, &out.Status)
		meta := metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID, Generation: o.Generation}
		if value, written := o.Annotations[v1alpha1.AnnotationGuarded]; written {
			meta.Annotations = map[string]string{v1alpha1.AnnotationGuarded: value}
		}
		body := bodyOf(o.spec)
		out.words = wordsOf(&meta, body)
		if was, is := known(o.Namespace, o.Name); is && was.words == out.words {
			out.Policy, out.Diagnostics = was.Policy, was.Diagnostics
			return out, true
		}
		_, converted, found := convert.PolicyJSON(&meta, body)
		out.Policy, out.Diagnostics = &converted, found
		return out, true
	}
}

// bodyOf is a policy that has nothing but a spec.
func bodyOf(spec []byte) []byte {
	if len(spec) == 0 {
		spec = []byte("null")
	}
	return slices.Concat([]byte(`{"spec":`), spec, []byte("}"))
}

// words tell apart what is written in policies.
type words [sha256.Size]byte

// wordsOf are those of all that a policy's conversion looks at.
func wordsOf(meta *metav1.ObjectMeta, body []byte) words {
	h := sha256.New()
	guarded, written := meta.Annotations[v1alpha1.AnnotationGuarded]
	_, _ = fmt.Fprintf(h, "%q %q %q %d %t %q ", meta.Namespace, meta.Name, meta.UID, meta.Generation, written, guarded)
	_, _ = h.Write(body)
	return words(h.Sum(nil))
}

func convertMesh(object any) (meshConfig, bool) {
	o, ok := object.(*corev1.ConfigMap)
	if !ok {
		return meshConfig{}, false
	}
	written, ok := o.Data[convert.MeshConfigKey]
	if !ok || strings.TrimSpace(written) == "" {
		return meshConfig{}, false
	}
	mesh, found := meshOf(written)
	for i := range found {
		found[i].Object = model.ObjectRef{Kind: "ConfigMap", Namespace: o.Namespace, Name: o.Name}
		found[i].Field = strings.TrimSuffix("data["+convert.MeshConfigKey+"]."+found[i].Field, ".")
	}
	return meshConfig{mesh, found}, true
}

// meshOf finds all that is wrong with settings, as files do.
func meshOf(written string) (model.Mesh, []model.Diagnostic) {
	body, err := convert.MeshJSON(written)
	if err != nil {
		return model.Mesh{}, []model.Diagnostic{{Code: "wrong-type", Severity: model.SeverityError, Consequence: err.Error(), Remedy: "write a MeshConfig"}}
	}
	var c convert.MeshConfig
	found, read := convert.Strict(body, &c)
	if !read {
		return model.Mesh{}, found
	}
	mesh, more := convert.Mesh(&c)
	return mesh, append(found, more...)
}

func same[T any](a, b *T) bool { return reflect.DeepEqual(a, b) }
