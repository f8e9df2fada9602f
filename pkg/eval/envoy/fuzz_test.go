package envoy_test

import (
	"net/netip"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// FuzzFilter: whatever a filter says, it is refused or gives every request a decision; what cannot be told denies.
func FuzzFilter(f *testing.F) {
	drawn := rapid.Custom(drawFilter)
	for i := range 20 {
		text, err := proto.Marshal(drawn.Example(i))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "/a?x", "a", "v,w")
	}
	f.Fuzz(func(t *testing.T, text []byte, path, host, value string) {
		m := &rbacv3.RBAC{}
		if proto.Unmarshal(text, m) != nil {
			t.Skip()
		}
		filter, err := envoy.HTTP(m)
		if err != nil {
			return
		}
		for _, r := range []*envoy.Request{
			{Source: netip.MustParseAddr("10.0.0.1"), Port: 80, HTTP: &model.HTTPRequest{Method: "GET", Host: host, Path: path, Headers: []model.Header{{Name: "x-a", Value: value}, {Name: "x-a", Value: path}}}},
			{TLS: &envoy.Peer{URIs: []string{value}}, HTTP: &model.HTTPRequest{}, PlainSegments: true},
			{},
		} {
			got := filter.Decide(r)
			if got.Err != nil && (got.Allowed || got.Outcome != envoy.Unknown) {
				t.Errorf("%v, and the decision is %+v", got.Err, got)
			}
			if (got.Outcome == envoy.Decided) != (len(got.Way) > 0) {
				t.Errorf("the way there is missing, or leads nowhere: %+v", got)
			}
			filter.Shadow(r)
		}
	})
}
