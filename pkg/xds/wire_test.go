package xds

import (
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
)

// What is put together by hand is what protobuf would write, to a reader that we did not write, whatever the lengths.
func TestAResponseReadsAsMeant(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name      string
		resources []string // their contents
		removed   []string
	}{
		{"nothing", nil, nil},
		{"an empty content", []string{""}, nil},
		{"one", []string{"x"}, nil},
		{"lengths of one byte, two and three", []string{strings.Repeat("a", 60), strings.Repeat("b", 130), strings.Repeat("c", 20_000), ""}, nil},
		{"removals alone", nil, []string{"a", "b"}},
		{"both", []string{"x", "y"}, []string{"gone", ""}},
	} {
		f := &flight{removed: tc.removed, nonce: "7", version: "state"}
		delta := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: ClusterType, Nonce: "7", RemovedResources: tc.removed}
		world := &discoveryv3.DiscoveryResponse{TypeUrl: ClusterType, Nonce: "7", VersionInfo: "state"}
		for i, content := range tc.resources {
			r := &Resource{Type: ClusterType, Name: strings.Repeat("n", i*100), Version: strings.Repeat("v", i)}
			body := &anypb.Any{TypeUrl: ClusterType, Value: []byte(content)}
			f.resources, f.bodies = append(f.resources, r), append(f.bodies, newBody(ClusterType, [][]byte{[]byte(content[:len(content)/2]), nil, []byte(content[len(content)/2:])}))
			delta.Resources = append(delta.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: body})
			world.Resources = append(world.Resources, body)
		}
		for p, want := range map[protocol]proto.Message{incremental: delta, stateOfTheWorld: world} {
			got := want.ProtoReflect().New().Interface()
			if err := proto.Unmarshal(f.encode(p, ClusterType).data.Materialize(), got); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, diff)
			}
		}
	}
}

// Ten thousand proxies share a content: a response brings no copy of it.
func TestAResponseSharesItsContent(t *testing.T) {
	t.Parallel()
	content := []byte(strings.Repeat("x", 5000))
	f := &flight{resources: []*Resource{{Name: "slot"}}, bodies: []*body{newBody(ExtensionConfigType, [][]byte{content})}}
	for _, part := range f.encode(incremental, ExtensionConfigType).data {
		if data := part.ReadOnlyData(); len(data) == len(content) && &data[0] == &content[0] {
			return
		}
	}
	t.Error("the content was copied")
}
