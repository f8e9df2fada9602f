package rbac

import (
	"encoding/binary"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pilot-lite/pilot-lite/internal/slotwire"
)

// Salt returns the wire form of a slot, in pieces, with bytes that differ by the salt and mean the same: Envoy remembers the hash of content that it refused, and
// answers the same content with an ACK without running it. The salt is the name of the last action's extension, which Envoy finds by its type.
// Nothing is decoded: the new name is appended as a second occurrence of the fields that lead to it, which every reader of the wire format
// merges into the first.
func Salt(slot *corev3.TypedExtensionConfig, salt string) [][]byte {
	field := httpMatcherField
	if slot.GetName() == TCPSlot {
		field = networkMatcherField
	}
	content := slot.GetTypedConfig().GetValue()
	way := append(make([]protowire.Number, 0, 16), field)
	for body := child(content, field); body != nil; {
		body = child(body, onNoMatchField)
		if next := child(body, nestedField); next != nil {
			way, body = append(way, onNoMatchField, nestedField), next
			continue
		}
		way, body = append(way, onNoMatchField, actionField, nameField), nil
	}
	tail := append(make([]byte, 0, 2*len(salt)+32), salt...)
	for _, w := range slices.Backward(way) {
		var head [1 + binary.MaxVarintLen64]byte
		tail = slices.Insert(tail, 0, appendHead(head[:0], w, len(tail))...)
	}
	return slotwire.Pieces(slot, content, tail)
}

// child returns the body of a message's field, or nil where it has none. Fields are skipped, not read.
func child(message []byte, number protowire.Number) []byte {
	for len(message) > 0 {
		n, typ, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}
		message = message[size:]
		if n == number && typ == protowire.BytesType {
			body, _ := protowire.ConsumeBytes(message)
			return body
		}
		if size = protowire.ConsumeFieldValue(n, typ, message); size < 0 {
			return nil
		}
		message = message[size:]
	}
	return nil
}
