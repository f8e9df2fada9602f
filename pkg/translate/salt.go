package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// Salt returns a copy of a slot whose bytes differ by the salt and which means the same. Envoy acknowledges content that it refused before without
// running it, so the same content is never sent twice in the same bytes by two processes, nor after a refusal. The salt stands in the name of an
// extension that Envoy finds by its type: the last action of an RBAC slot, the access log of a connect slot.
func Salt(slot *corev3.TypedExtensionConfig, salt string) *corev3.TypedExtensionConfig {
	switch slot.GetName() {
	case rbac.HTTPSlot, rbac.TCPSlot:
		return rbac.Salt(slot, salt)
	}
	var proxy tcpproxyv3.TcpProxy
	if err := slot.GetTypedConfig().UnmarshalTo(&proxy); err != nil || len(proxy.GetAccessLog()) == 0 {
		return slot
	}
	proxy.AccessLog[0].Name = salt
	return &corev3.TypedExtensionConfig{Name: slot.GetName(), TypedConfig: pack(&proxy)}
}
