package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/pilot-lite/pilot-lite/pkg/convert"
)

// client is what every typed client can do; L is its list.
type client[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

func of[L runtime.Object](c client[L]) api {
	return api{list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, o) }, watch: c.Watch}
}

// feeds are what a source follows.
func feeds(c *Config, s *Source) []*feed {
	everywhere := metav1.NamespaceAll
	troubled := func() { signal(s.troubled) }
	return []*feed{
		newFeed(c, of(c.Client.CoreV1().Namespaces()), &corev1.Namespace{}, s.namespaces, troubled),
		newFeed(c, of(c.Client.CoreV1().Services(everywhere)), &corev1.Service{}, s.services, troubled),
		newFeed(c, of(c.Client.DiscoveryV1().EndpointSlices(everywhere)), &discoveryv1.EndpointSlice{}, s.slices, troubled),
		newFeed(c, of(c.Client.CoreV1().Pods(everywhere)), &corev1.Pod{}, s.pods, troubled),
		newFeed(c, of(c.Client.CoreV1().ServiceAccounts(everywhere)), &corev1.ServiceAccount{}, s.accounts, troubled),
		newFeed(c, of(c.Client.NetworkingV1().NetworkPolicies(everywhere)), &networkingv1.NetworkPolicy{}, s.networkPolicies, troubled),
		newFeed(c, named(of(c.Client.CoreV1().ConfigMaps(c.Namespace)), convert.MeshConfigMap), &corev1.ConfigMap{}, s.mesh, troubled),
		newFeed(c, api{c.Policies.list, c.Policies.watch}, &policyText{}, s.policies, troubled),
	}
}

// named narrows to the object of one name, so that the right to read it is enough.
func named(a api, name string) api {
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	return api{
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return a.list(ctx, o)
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return a.watch(ctx, o)
		},
	}
}
