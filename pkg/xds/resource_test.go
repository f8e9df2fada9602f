package xds_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// A version is the hash of a message as it is marshalled without a salt, and so is what is sent where there is no salter, whether the bytes are kept or written when they are needed.
func TestVersionIsTheHashOfTheMessage(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]proto.Message{
		"a cluster":              cluster("a"),
		"a slot":                 slot(t, rbac.HTTPSlot, allow),
		"a slot without content": &corev3.TypedExtensionConfig{Name: "empty"},
		"content without fields": &corev3.TypedExtensionConfig{Name: "empty", TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/google.protobuf.Empty"}},
	} {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		r := resource(t, m)
		if sum := sha256.Sum256(want); r.Version != hex.EncodeToString(sum[:12]) || !bytes.Equal(r.Any().GetValue(), want) {
			t.Errorf("%s: version %s, bytes %x", name, r.Version, r.Any().GetValue())
		}
	}
	if _, err := xds.NewResource(&corev3.TypedExtensionConfig{Name: "\xff", TypedConfig: &anypb.Any{TypeUrl: "a"}}, nil); err == nil {
		t.Error("a name that is not text is taken")
	}
}

// BenchmarkResource makes a resource of a slot of 5 KB, up to the bytes that are sent.
func BenchmarkResource(b *testing.B) {
	p := rbac.Policy{Ref: model.PolicyRef{Namespace: "shop", Name: "cart"}, Action: model.Allow}
	for i := range 16 {
		p.Rules = append(p.Rules, rbac.Rule{Name: string(rune('a' + i)), HTTP: []model.HTTPMatch{{Methods: []string{"GET"}, Paths: []model.PathMatch{{Type: model.Exact, Value: "/api/v1/" + string(rune('a'+i))}}}}})
	}
	message := rbac.Compile(rbac.Input{Policies: []rbac.Policy{p}}).HTTP
	cache := xds.NewCache(xds.Config{Salter: translate.Salt})
	sent := 0
	b.ReportAllocs()
	for b.Loop() {
		sent = cache.Body(resource(b, message))
	}
	b.ReportMetric(float64(sent), "sentB")
}
