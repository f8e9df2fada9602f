// Package protoyaml prints protocol buffer messages for people. Input: a message. Output: YAML or JSON with stable spacing and order, which
// protojson's own output has not, on purpose. Entry points: Marshal and MarshalJSON.
package protoyaml

import (
	"fmt"

	"github.com/golang/protobuf/jsonpb"       //nolint:staticcheck // its output is stable between builds, and required by ADR 5
	legacy "github.com/golang/protobuf/proto" //nolint:staticcheck // jsonpb takes no other
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// MarshalJSON returns the message as indented JSON. Any fields are resolved among the message types that are linked in.
func MarshalJSON(m proto.Message) ([]byte, error) {
	text, err := (&jsonpb.Marshaler{Indent: "  "}).MarshalToString(legacy.MessageV1(m))
	if err != nil {
		return nil, fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return []byte(text), nil
}

// Marshal returns the message as YAML, keys sorted.
func Marshal(m proto.Message) ([]byte, error) {
	text, err := MarshalJSON(m)
	if err != nil {
		return nil, err
	}
	out, err := yaml.JSONToYAML(text)
	if err != nil {
		return nil, fmt.Errorf("print %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return out, nil
}
