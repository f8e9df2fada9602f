// Package slotwire writes slots in wire format without copying their content. Input: a slot's name, the type of its content, and the content, in
// pieces. Output: pieces that make up the bytes that marshalling the slot gives. Entry point: Pieces.
package slotwire

import (
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of the messages that a slot is made of, the same for ever as the wire format demands.
const (
	nameField    protowire.Number = 1 // envoy.config.core.v3.TypedExtensionConfig.name
	configField  protowire.Number = 2 // envoy.config.core.v3.TypedExtensionConfig.typed_config
	typeField    protowire.Number = 1 // google.protobuf.Any.type_url
	contentField protowire.Number = 2 // google.protobuf.Any.value
)

// Holds says whether a slot is what this package writes: a name and content of a type, and nothing else.
func Holds(slot *corev3.TypedExtensionConfig) bool {
	content := slot.GetTypedConfig()
	return isText(slot.GetName()) && isText(content.GetTypeUrl()) && len(slot.ProtoReflect().GetUnknown()) == 0 && len(content.ProtoReflect().GetUnknown()) == 0
}

func isText(s string) bool { return s != "" && utf8.ValidString(s) }

// Pieces are the wire form of a slot with the content that some pieces make up: what stands before the content, which has a length and ends the slot, and those.
func Pieces(slot *corev3.TypedExtensionConfig, content ...[]byte) [][]byte {
	length := 0
	for _, p := range content {
		length += len(p)
	}
	return append([][]byte{head(slot, length)}, content...)
}

// head is what stands before so much content. Empty content is not written.
func head(slot *corev3.TypedExtensionConfig, length int) []byte {
	name, typeURL := slot.GetName(), slot.GetTypedConfig().GetTypeUrl()
	inner := protowire.SizeTag(typeField) + protowire.SizeBytes(len(typeURL))
	if length > 0 {
		inner += protowire.SizeTag(contentField) + protowire.SizeBytes(length)
	}
	whole := protowire.SizeTag(nameField) + protowire.SizeBytes(len(name)) + protowire.SizeTag(configField) + protowire.SizeBytes(inner)
	out := make([]byte, 0, whole-length)
	out = protowire.AppendString(protowire.AppendTag(out, nameField, protowire.BytesType), name)
	out = protowire.AppendVarint(protowire.AppendTag(out, configField, protowire.BytesType), uint64(inner))
	out = protowire.AppendString(protowire.AppendTag(out, typeField, protowire.BytesType), typeURL)
	if length > 0 {
		out = protowire.AppendVarint(protowire.AppendTag(out, contentField, protowire.BytesType), uint64(length))
	}
	return out
}
