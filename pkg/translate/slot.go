package translate

import (
	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// ConnectSlot is the slot that says when a TCP chain connects to the application; in bound mode "/" and the port follow, since each port has
// an application address of its own.
const ConnectSlot = "l7policy/tcp-connect"

// httpRBAC is the place of the HTTP slot: the first HTTP filter, so that nothing answers a request or changes it before it is decided.
func httpRBAC() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: rbac.HTTPSlot, ConfigType: &hcmv3.HttpFilter_ConfigDiscovery{
		ConfigDiscovery: slotSource(&rbacv3.RBAC{Matcher: denyUnknown()}),
	}}
}

// tcpRBAC is the place of the TCP slot: the first network filter of a TCP chain.
func tcpRBAC() *listenerv3.Filter {
	return networkSlot(rbac.TCPSlot, &networkrbacv3.RBAC{StatPrefix: "l7policy", Matcher: denyUnknown()})
}

func networkSlot(name string, fallback proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_ConfigDiscovery{ConfigDiscovery: slotSource(fallback)}}
}

// slotSource subscribes to the slot over ADS. A listener waits for the content of its slots, without a time limit, so that a proxy is not ready, and
// the application behind it not started, before its policies are known. Where the content is removed or the first one refused, the fallback holds.
func slotSource(fallback proto.Message) *corev3.ExtensionConfigSource {
	config := pack(fallback)
	return &corev3.ExtensionConfigSource{
		ConfigSource: &corev3.ConfigSource{
			ResourceApiVersion:    corev3.ApiVersion_V3,
			InitialFetchTimeout:   durationpb.New(0), // the listener waits for as long as it takes
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		},
		DefaultConfig: config,
		TypeUrls:      []string{config.GetTypeUrl()},
	}
}

// denyUnknown denies everything, under a name that tells "no configuration has come" from "no rule matches".
func denyUnknown() *xdsmatcherv3.Matcher {
	return &xdsmatcherv3.Matcher{OnNoMatch: &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
		Action: &xdscorev3.TypedExtensionConfig{
			Name: "action", TypedConfig: pack(&rbacconfigv3.Action{Name: model.OutcomeUnknown, Action: rbacconfigv3.RBAC_DENY}),
		},
	}}}
}
