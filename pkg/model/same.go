package model

import (
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// What is the same may be found out in either of two ways. Policies are compared by identity, as they are deep: snapshots share what did not change, and nothing in them is
// changed after they are built. Pods and Services are compared by content, as they are flat.

// SamePolicy says whether two policies are one that did not change.
func SamePolicy(a, b *Policy) bool {
	return a == b || a.PolicyRef == b.PolicyRef && a.Action == b.Action && a.DryRun == b.DryRun && a.IsolatesIngress == b.IsolatesIngress &&
		a.IsolatesEgress == b.IsolatesEgress && a.Accepted == b.Accepted && a.Guarded == b.Guarded &&
		SameSlice(a.Ingress, b.Ingress) && SameSlice(a.Egress, b.Egress) && sameSelector(a.Selector, b.Selector)
}

// SameSlice says whether two lists are one: that of whoever kept it because nothing in it changed.
func SameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// sameSelector: a parsed selector is a list of requirements; any other is compared by its words.
func sameSelector(a, b labels.Selector) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.Kind() == reflect.Slice && y.Kind() == reflect.Slice {
		return x.Len() == y.Len() && (x.Len() == 0 || x.Pointer() == y.Pointer())
	}
	return x.Type() == y.Type() && a.String() == b.String()
}

// SamePod says whether two pods say the same.
func SamePod(a, b *Pod) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID && sameMap(a.Labels, b.Labels) && a.ServiceAccount == b.ServiceAccount &&
		a.Owner == b.Owner && slices.Equal(a.Addresses, b.Addresses) && a.AwaitsAddress == b.AwaitsAddress && slices.Equal(a.Ports, b.Ports) &&
		a.Template == b.Template && a.Expected == b.Expected && a.Ended == b.Ended && a.HostNetwork == b.HostNetwork && a.Created.Equal(b.Created) &&
		sameSettings(&a.Proxy, &b.Proxy)
}

func sameSettings(a, b *ProxySettings) bool {
	return a.Injected == b.Injected && slices.Equal(a.Bound, b.Bound) && slices.Equal(a.ServerFirst, b.ServerFirst) && slices.Equal(a.ExcludedInbound, b.ExcludedInbound) &&
		a.AllowEscapedSlashes == b.AllowEscapedSlashes && a.AllowUnderscoreHeader == b.AllowUnderscoreHeader && a.AllowHTTP10 == b.AllowHTTP10 &&
		a.MaxStreamDuration == b.MaxStreamDuration
}

func sameService(a, b *Service) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && slices.Equal(a.ClusterIPs, b.ClusterIPs) && maps.Equal(a.Selector, b.Selector) && slices.Equal(a.Ports, b.Ports)
}

// sameMap compares maps, which are mostly the very same.
func sameMap(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || maps.Equal(a, b)
}
