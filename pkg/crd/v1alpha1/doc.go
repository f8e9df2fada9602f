// Package v1alpha1 holds the API types of the group policy.pilot-lite.io: the L7Policy that users apply, its status, and the labels and annotations
// that pilot-lite reads and writes. Data only; checks live in pkg/crd/validation.
//
// +kubebuilder:object:generate=true
// +groupName=policy.pilot-lite.io
package v1alpha1
