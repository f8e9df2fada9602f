package v1alpha1

import "k8s.io/apimachinery/pkg/runtime/schema"

// GroupName is the API group.
const GroupName = "policy.pilot-lite.io"

// Kind and Resource are the kind of L7Policy and its name in URLs.
const (
	Kind     = "L7Policy"
	Resource = "l7policies"
)

// SchemeGroupVersion is the group and version of the types of this package.
func SchemeGroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}
}
