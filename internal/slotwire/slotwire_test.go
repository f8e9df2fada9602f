package slotwire_test

import (
	"bytes"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/slotwire"
)

// What is written is what marshalling gives, whatever the lengths take in bytes, without room to spare, nor a copy of the content.
func TestWrittenAsMarshalled(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, 90, 100, 127, 128, 200, 5000, 16200, 16384, 70000, 1 << 21} {
		content := bytes.Repeat([]byte{7}, length)
		slot := &corev3.TypedExtensionConfig{Name: "l7policy/http", TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/some.Filter", Value: content}}
		want, err := proto.Marshal(slot)
		if err != nil {
			t.Fatal(err)
		}
		if !slotwire.Holds(slot) {
			t.Fatalf("%d bytes: such a slot is not written", length)
		}
		pieces := slotwire.Pieces(slot, content[:length/3], nil, content[length/3:])
		if !bytes.Equal(bytes.Join(pieces, nil), want) {
			t.Errorf("%d bytes: written otherwise than marshalled", length)
		}
		if head := pieces[0]; cap(head) != len(head) {
			t.Errorf("%d bytes: room for %d", len(head), cap(head))
		}
		if length > 3 && &pieces[1][0] != &content[0] {
			t.Errorf("%d bytes: the content was copied", length)
		}
	}
}

// What marshalling refuses, or holds more than is written, is left to it.
func TestOtherSlotsAreNotWritten(t *testing.T) {
	t.Parallel()
	unknown := &corev3.TypedExtensionConfig{Name: "a", TypedConfig: &anypb.Any{TypeUrl: "b"}}
	unknown.GetTypedConfig().ProtoReflect().SetUnknown([]byte{0x78, 1})
	for name, slot := range map[string]*corev3.TypedExtensionConfig{
		"no content":         {Name: "a"},
		"no name":            {TypedConfig: &anypb.Any{TypeUrl: "b"}},
		"no type":            {Name: "a", TypedConfig: &anypb.Any{Value: []byte{1}}},
		"a name of bytes":    {Name: "\xff", TypedConfig: &anypb.Any{TypeUrl: "b"}},
		"a type of bytes":    {Name: "a", TypedConfig: &anypb.Any{TypeUrl: "\xff"}},
		"a field unheard of": unknown,
	} {
		if slotwire.Holds(slot) {
			t.Errorf("%s: it would be written", name)
		}
	}
}
