package xds

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync/atomic"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/slotwire"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Type URLs of what is served.
const (
	ListenerType        = resourcev3.ListenerType
	ClusterType         = resourcev3.ClusterType
	ExtensionConfigType = resourcev3.ExtensionConfigType
)

// kind is a served type, by its place in what is kept for each of them.
type kind int

// The kinds, in the order in which a proxy should learn of changes: what is referred to comes before what refers to it.
const (
	clusters kind = iota
	listeners
	slots
	kinds // how many there are
)

func (k kind) typeURL() string {
	return [kinds]string{clusters: ClusterType, listeners: ListenerType, slots: ExtensionConfigType}[k]
}

// kindOf is the kind of a served type.
func kindOf(typeURL string) (k kind, served bool) {
	for k = range kinds {
		if k.typeURL() == typeURL {
			return k, true
		}
	}
	return 0, false
}

// Salter returns the wire form of a slot, in pieces, that differs by a salt, in a field without effect.
type Salter func(slot *corev3.TypedExtensionConfig, salt string) [][]byte

// body is a resource's wire form, in pieces. A slot's content is the piece that its message holds: a salt stands beside it.
type body struct {
	typeURL string
	pieces  mem.BufferSlice
	size    int
}

func newBody(typeURL string, pieces [][]byte) *body {
	out := &body{typeURL: typeURL, pieces: make(mem.BufferSlice, 0, len(pieces))}
	for _, p := range pieces {
		out.pieces, out.size = append(out.pieces, mem.SliceBuffer(p)), out.size+len(p)
	}
	return out
}

// Resource is one xDS message with its version. It is marshalled once, whatever the number of proxies. Immutable; safe for concurrent use.
type Resource struct {
	Type, Name string
	Version    string // a hash of the unsalted bytes
	Policies   []model.PolicyRef

	*encoding
}

// encoding is a message's marshalled form, which resources with the same message share.
type encoding struct {
	message proto.Message
	kind    kind
	plain   []byte // nil for a slot, whose message holds its content marshalled already
	salted  atomic.Pointer[saltedForm]
}

// saltedForm is a message as it is sent under a salt.
type saltedForm struct {
	salt string
	body *body
}

// WithPolicies is the resource, as built from other policies.
func (r *Resource) WithPolicies(policies []model.PolicyRef) *Resource {
	if slices.Equal(r.Policies, policies) {
		return r
	}
	return &Resource{Type: r.Type, Name: r.Name, Version: r.Version, Policies: policies, encoding: r.encoding}
}

// NewResource marshals a listenerv3.Listener, clusterv3.Cluster or corev3.TypedExtensionConfig.
func NewResource(message proto.Message, policies []model.PolicyRef) (*Resource, error) {
	r := &Resource{Policies: policies, encoding: &encoding{message: message}}
	switch m := message.(type) {
	case *listenerv3.Listener:
		r.Type, r.Name, r.kind = ListenerType, m.GetName(), listeners
	case *clusterv3.Cluster:
		r.Type, r.Name, r.kind = ClusterType, m.GetName(), clusters
	case *corev3.TypedExtensionConfig:
		r.Type, r.Name, r.kind = ExtensionConfigType, m.GetName(), slots
	default:
		return nil, fmt.Errorf("resource of type %T: not served", message)
	}
	if r.Name == "" {
		return nil, fmt.Errorf("resource of type %s: no name", r.Type)
	}
	sum := sha256.New()
	if slot, isSlot := message.(*corev3.TypedExtensionConfig); isSlot && slotwire.Holds(slot) {
		for _, p := range r.wire() {
			sum.Write(p)
		}
	} else {
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			return nil, fmt.Errorf("marshal %s %q: %w", r.Type, r.Name, err)
		}
		sum.Write(body)
		r.plain = body
	}
	r.Version = hex.EncodeToString(sum.Sum(nil)[:12])
	return r, nil
}

// wire is the message without a salt.
func (e *encoding) wire() [][]byte {
	if slot, isSlot := e.message.(*corev3.TypedExtensionConfig); isSlot && e.plain == nil {
		return slotwire.Pieces(slot, slot.GetTypedConfig().GetValue())
	}
	return [][]byte{e.plain}
}

// salting gives the slots of this process bytes of their own. Envoy remembers the hash of the last content that it was sent for a slot, even when it
// refused it, and acknowledges the same bytes without applying them, whoever sends them: bytes that no other process sends cannot meet that memory.
type salting struct {
	salter Salter
	salt   string
}

func newSalting(salter Salter) salting { return salting{salter: salter, salt: rand.Text()} }

// redraw gives every resource bytes that were never sent before.
func (s *salting) redraw() { s.salt = rand.Text() }

// body is the resource as it is sent to every proxy that did not refuse it.
func (s *salting) body(r *Resource) *body {
	if form := r.salted.Load(); form != nil && form.salt == s.salt {
		return form.body
	}
	form := &saltedForm{salt: s.salt, body: s.with(r, s.salt)}
	r.salted.Store(form)
	return form.body
}

// fresh is the resource with bytes that nobody was ever sent.
func (s *salting) fresh(r *Resource) *body { return s.with(r, rand.Text()) }

func (s *salting) with(r *Resource, salt string) *body {
	slot, isSlot := r.message.(*corev3.TypedExtensionConfig)
	if !isSlot || s.salter == nil {
		return newBody(r.Type, r.wire())
	}
	return newBody(r.Type, s.salter(slot, salt))
}
