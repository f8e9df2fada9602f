package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/pilot-lite/pilot-lite/internal/slotwire"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// Salt returns the wire form of a slot, in pieces, with bytes that differ by the salt and mean the same. Envoy acknowledges content that it refused before without
// running it, so the same content is never sent twice in the same bytes by two processes, nor after a refusal. The salt stands in the name of an
// extension that Envoy finds by its type: the last action of an RBAC slot, the access log of a connect slot.
func Salt(slot *corev3.TypedExtensionConfig, salt string) [][]byte {
	switch slot.GetName() {
	case rbac.HTTPSlot, rbac.TCPSlot, model.MetricsSlot:
		return rbac.Salt(slot, salt)
	}
	var proxy tcpproxyv3.TcpProxy
	content := slot.GetTypedConfig()
	if err := content.UnmarshalTo(&proxy); err != nil || len(proxy.GetAccessLog()) == 0 {
		return slotwire.Pieces(slot, content.GetValue())
	}
	proxy.AccessLog[0].Name = salt
	return slotwire.Pieces(slot, pack(&proxy).GetValue())
}
