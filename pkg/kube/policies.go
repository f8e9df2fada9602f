package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	kjson "sigs.k8s.io/json"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Policies is a client for L7Policies. It reads them as text, which is decoded once, straight into what is kept of them.
type Policies struct{ client rest.Interface }

// NewPolicies makes a client from a configuration, which is not changed.
func NewPolicies(config *rest.Config) (*Policies, error) {
	own := rest.CopyConfig(config)
	gv := v1alpha1.SchemeGroupVersion()
	own.APIPath, own.GroupVersion, own.NegotiatedSerializer = "/apis", &gv, newPolicySerializer()
	own.AcceptContentTypes, own.ContentType = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return &Policies{client}, nil
}

// metadataAlone asks for an answer that says nothing of spec and status.
const metadataAlone = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Ref is a policy's present generation; false where there is no such policy.
func (p *Policies) Ref(ctx context.Context, namespace, name string) (model.PolicyRef, bool, error) {
	body, err := p.client.Get().Namespace(namespace).Resource(v1alpha1.Resource).Name(name).SetHeader("Accept", metadataAlone).Do(ctx).Raw()
	switch {
	case apierrors.IsNotFound(err):
		return model.PolicyRef{}, false, nil
	case err != nil:
		return model.PolicyRef{}, false, fmt.Errorf("read policy %s/%s: %w", namespace, name, err)
	}
	var got policyWire
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &got); err != nil {
		return model.PolicyRef{}, false, fmt.Errorf("read policy %s/%s: %w", namespace, name, err)
	}
	return model.PolicyRef{Namespace: namespace, Name: name, UID: string(got.Metadata.UID), Generation: got.Metadata.Generation}, true, nil
}

// statusBody is what is applied of a policy's status.
type statusBody struct {
	metav1.TypeMeta
	Metadata statusOf                `json:"metadata"`
	Status   v1alpha1.L7PolicyStatus `json:"status"`
}

// statusOf says which policy a status is for: the very one, not another of its name.
type statusOf struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
}

// ApplyStatus applies the status of a policy, by force.
func (p *Policies) ApplyStatus(ctx context.Context, ref model.PolicyRef, status *v1alpha1.L7PolicyStatus, manager string) error {
	body, err := json.Marshal(statusBody{
		metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion().String(), Kind: v1alpha1.Kind}, statusOf{ref.Namespace, ref.Name, types.UID(ref.UID)}, *status,
	})
	if err != nil {
		return fmt.Errorf("encode a status: %w", err)
	}
	return p.client.Patch(types.ApplyPatchType).Namespace(ref.Namespace).Resource(v1alpha1.Resource).Name(ref.Name).SubResource("status").
		Param("fieldManager", manager).Param("force", "true").SetHeader("Accept", metadataAlone).Body(body).Do(ctx).Error()
}

func (p *Policies) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	out := &policyTexts{}
	return out, p.client.Get().Resource(v1alpha1.Resource).VersionedParams(&o, metav1.ParameterCodec).Timeout(timeoutOf(&o)).Do(ctx).Into(out)
}

func (p *Policies) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return p.client.Get().Resource(v1alpha1.Resource).VersionedParams(&o, metav1.ParameterCodec).Timeout(timeoutOf(&o)).Watch(ctx)
}

func timeoutOf(o *metav1.ListOptions) time.Duration {
	if o.TimeoutSeconds == nil {
		return 0
	}
	return time.Duration(*o.TimeoutSeconds) * time.Second
}
