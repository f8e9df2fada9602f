package xds

import (
	wireencoding "google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// outgoing is an encoded response. What it says of a resource's content are the very bytes that every other response shares: a response costs its own few words,
// and no copy.
type outgoing struct{ data mem.BufferSlice }

// codec is gRPC's for protobuf, which also takes what is encoded already.
type codec struct{ wireencoding.CodecV2 }

func newCodec() codec { return codec{wireencoding.GetCodecV2(proto.Name)} }

// Marshal returns the bytes of a message.
func (c codec) Marshal(m any) (mem.BufferSlice, error) {
	if o, encoded := m.(*outgoing); encoded {
		return o.data, nil
	}
	return c.CodecV2.Marshal(m)
}

// The numbers of fields: https://github.com/envoyproxy/envoy/blob/v1.40.0/api/envoy/service/discovery/v3/discovery.proto, and google/protobuf/any.proto.
const (
	responseVersion  = 1 // version_info; in the incremental protocol system_version_info, which is left out: only people read it
	responseResource = 2
	responseType     = 4
	responseNonce    = 5
	responseRemoved  = 6 // in the incremental protocol

	resourceVersion = 1
	resourceBody    = 2
	resourceName    = 3

	anyType  = 1
	anyValue = 2
)

// encode is a flight in the words of a protocol.
func (f *flight) encode(p protocol, typeURL string) *outgoing {
	const headSize = 208 // of a response with one resource, about
	head := appendString(make([]byte, 0, headSize), responseType, typeURL)
	head = appendString(head, responseNonce, f.nonce)
	if p == stateOfTheWorld {
		head = appendString(head, responseVersion, f.version)
	} else {
		for _, name := range f.removed {
			head = appendString(head, responseRemoved, name)
		}
	}
	const pieces = 4 // of a resource, at most: what stands before it, and the head, the content and the salt of a slot
	out := &outgoing{data: make(mem.BufferSlice, 0, 1+pieces*len(f.resources))}
	for i, r := range f.resources {
		body := f.bodies[i]
		if p == stateOfTheWorld {
			head = appendLength(head, responseResource, sizeOfAny(body))
		} else {
			head = appendLength(head, responseResource, sizeOfString(resourceName, r.Name)+sizeOfString(resourceVersion, r.Version)+
				protowire.SizeTag(resourceBody)+protowire.SizeBytes(sizeOfAny(body)))
			head = appendString(head, resourceName, r.Name)
			head = appendString(head, resourceVersion, r.Version)
			head = appendLength(head, resourceBody, sizeOfAny(body))
		}
		head = appendString(head, anyType, body.typeURL)
		out.data = append(append(out.data, mem.SliceBuffer(appendLength(head, anyValue, body.size))), body.pieces...) // which end the value, the Any and the resource
		head = nil
	}
	if len(head) > 0 {
		out.data = append(out.data, mem.SliceBuffer(head))
	}
	return out
}

func sizeOfAny(body *body) int {
	return sizeOfString(anyType, body.typeURL) + protowire.SizeTag(anyValue) + protowire.SizeBytes(body.size)
}

func sizeOfString(field protowire.Number, text string) int {
	return protowire.SizeTag(field) + protowire.SizeBytes(len(text))
}

func appendString(b []byte, field protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), text)
}

// appendLength begins a field of so many bytes.
func appendLength(b []byte, field protowire.Number, size int) []byte { //nolint:unparam // three fields happen to have one number
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(size))
}
