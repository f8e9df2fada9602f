package kube

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
)

// policyText is an L7Policy as it arrives: of its metadata what is used, spec and status as they are written.
type policyText struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	spec, status json.RawMessage
}

// policyTexts is a list of them.
type policyTexts struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []policyText
}

var (
	_ runtime.Object = (*policyText)(nil)
	_ runtime.Object = (*policyTexts)(nil)
	_ metav1.Object  = (*policyText)(nil)
)

// DeepCopyObject copies a policy. Its text is shared: nobody changes it.
func (p *policyText) DeepCopyObject() runtime.Object {
	out := *p
	p.DeepCopyInto(&out.ObjectMeta)
	return &out
}

// DeepCopyObject copies a list.
func (l *policyTexts) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = make([]policyText, len(l.Items))
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopyObject().(*policyText) //nolint:forcetypeassert // it is what that returns
	}
	return &out
}

// policyWire is a policy, or a list of them, or anything else of which the kind alone matters.
type policyWire struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Namespace          string            `json:"namespace"`
		Name               string            `json:"name"`
		UID                types.UID         `json:"uid"`
		Generation         int64             `json:"generation"`
		ResourceVersion    string            `json:"resourceVersion"`
		Annotations        map[string]string `json:"annotations"`
		Continue           string            `json:"continue"`
		RemainingItemCount *int64            `json:"remainingItemCount"`
	} `json:"metadata"`
	Spec   json.RawMessage `json:"spec"`
	Status json.RawMessage `json:"status"`
	Items  []policyWire    `json:"items"`
}

func (w *policyWire) policy() policyText {
	m := &w.Metadata
	return policyText{w.TypeMeta, metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, Generation: m.Generation, ResourceVersion: m.ResourceVersion, Annotations: m.Annotations,
	}, w.Spec, w.Status}
}

func (w *policyWire) list() *policyTexts {
	m := &w.Metadata
	out := &policyTexts{w.TypeMeta, metav1.ListMeta{ResourceVersion: m.ResourceVersion, Continue: m.Continue, RemainingItemCount: m.RemainingItemCount}, make([]policyText, 0, len(w.Items))}
	for i := range w.Items {
		out.Items = append(out.Items, w.Items[i].policy())
	}
	return out
}

// policySerializer decodes what an API server answers about policies.
type policySerializer struct{ types []runtime.SerializerInfo }

var _ runtime.NegotiatedSerializer = policySerializer{}

func newPolicySerializer() policySerializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"}) // statuses, and the frames of a watch
	frames := kserializer.NewSerializerWithOptions(kserializer.DefaultMetaFactory, scheme, scheme, kserializer.SerializerOptions{})
	return policySerializer{[]runtime.SerializerInfo{{
		MediaType: runtime.ContentTypeJSON, MediaTypeType: "application", MediaTypeSubType: "json", EncodesAsText: true, Serializer: policyDecoder{frames},
		StreamSerializer: &runtime.StreamSerializerInfo{EncodesAsText: true, Serializer: frames, Framer: kserializer.Framer},
	}}}
}

// SupportedMediaTypes is JSON: custom resources have no other. It is asked for with each request.
func (s policySerializer) SupportedMediaTypes() []runtime.SerializerInfo { return s.types }

// EncoderForVersion encodes as it is: what is sent are bytes and options.
func (policySerializer) EncoderForVersion(e runtime.Encoder, _ runtime.GroupVersioner) runtime.Encoder {
	return e
}

// DecoderToVersion decodes the one version there is.
func (policySerializer) DecoderToVersion(d runtime.Decoder, _ runtime.GroupVersioner) runtime.Decoder {
	return d
}

// policyDecoder decodes policies and lists of them, and leaves anything else to another.
type policyDecoder struct{ runtime.Serializer }

// Decode decodes an object, in one pass where it is a policy.
func (d policyDecoder) Decode(text []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	var in policyWire
	if err := kjson.UnmarshalCaseSensitivePreserveInts(text, &in); err != nil {
		return nil, nil, err
	}
	kind := in.GroupVersionKind()
	switch kind {
	case v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind):
		p := in.policy()
		return &p, &kind, nil
	case v1alpha1.SchemeGroupVersion().WithKind(v1alpha1.Kind + "List"):
		list := in.list()
		if wanted, ok := into.(*policyTexts); ok {
			*wanted = *list
			list = wanted
		}
		return list, &kind, nil
	}
	return d.Serializer.Decode(text, defaults, into)
}
