package translate_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
)

func anyPeer(t *rapid.T) model.Peer {
	return rapid.SampledFrom([]model.Peer{
		friends()[0],
		{Pods: selector("app", "stranger")},
		{Pods: selector("app", "nobody")},
		{},
		{Block: &model.IPBlock{CIDR: netip.MustParsePrefix("127.0.0.0/8"), Except: []netip.Prefix{netip.MustParsePrefix("127.0.0.3/32")}}},
	}).Draw(t, "peer")
}

func anyPort(t *rapid.T) model.PortRange {
	return rapid.SampledFrom([]model.PortRange{
		{Protocol: model.TCP, From: 8080, To: 8080},
		{Protocol: model.TCP, From: 5000, To: 9000},
		{Protocol: model.TCP, Name: "db"},
		{Protocol: model.TCP, Name: "none"},
		{Protocol: model.UDP, From: 53, To: 53},
		{Protocol: model.TCP},
	}).Draw(t, "port")
}

func anyPolicy(t *rapid.T, name string) *model.Policy {
	p := policy(name, rapid.SampledFrom([]model.Action{model.Allow, model.Deny}).Draw(t, "action"))
	p.Generation = rapid.Int64Range(1, 3).Draw(t, "generation")
	p.DryRun = rapid.Bool().Draw(t, "dry run")
	p.IsolatesIngress = rapid.IntRange(0, 9).Draw(t, "ingress") > 0
	p.Selector = selector("app", rapid.SampledFrom([]string{"cart", "cart", "friend", "nobody"}).Draw(t, "selector"))
	for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := model.Rule{Name: fmt.Sprint(i)}
		if rapid.Bool().Draw(t, "peers") {
			r.Peers = rapid.SliceOfN(rapid.Custom(anyPeer), 1, 3).Draw(t, "peers")
		}
		if rapid.Bool().Draw(t, "ports") {
			r.Ports = rapid.SliceOfN(rapid.Custom(anyPort), 1, 3).Draw(t, "ports")
		}
		if rapid.Bool().Draw(t, "http") {
			path := rapid.SampledFrom([]string{"/a", "/b"}).Draw(t, "path")
			r.HTTP = []model.HTTPMatch{{Methods: []string{"GET"}}, {Paths: []model.PathMatch{{Type: model.Prefix, Value: path}}}}
		}
		p.Ingress = append(p.Ingress, r)
	}
	return p
}

func anyPolicies(t *rapid.T) []*model.Policy {
	var out []*model.Policy
	for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
		out = append(out, anyPolicy(t, fmt.Sprintf("p%d", i)))
	}
	return out
}

func anyCallee(t *rapid.T) *model.Pod {
	return cart(func(p *model.Pod) {
		if rapid.Bool().Draw(t, "bound") {
			p.Proxy.Bound = []model.BoundPort{
				{Port: 8080, Listen: netip.MustParseAddrPort("127.0.0.1:18080"), Application: netip.MustParseAddrPort("127.0.0.1:28080")},
				{Port: 5432, Listen: netip.MustParseAddrPort("127.0.0.1:15432"), Application: netip.MustParseAddrPort("127.0.0.1:25432")},
			}
		}
		if rapid.Bool().Draw(t, "server first") {
			p.Proxy.ServerFirst = []uint16{5432}
		}
		p.Proxy.AllowEscapedSlashes = rapid.Bool().Draw(t, "slashes")
		if rapid.Bool().Draw(t, "IPv6") {
			p.Addresses = append(p.Addresses, addr("fd00::1"))
		}
	})
}

// With and without a memory, the output is the same, whatever came before.
func TestMemoTransparent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tr := new(translate.Translator)
		for range rapid.IntRange(1, 4).Draw(t, "snapshots") {
			ix := world(anyCallee(t), anyPolicies(t)...)
			same := cmp.Options{cmp.Comparer(proto.Equal), cmp.Comparer(func(a, b *model.Workload) bool { return a == b }), cmp.Comparer(func(a, b *model.Policy) bool { return a == b })}
			if diff := cmp.Diff(translate.Translate(ix), tr.Translate(ix), same); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// A rebuild that changes nothing yields the same messages, so that nothing is marshalled or compared again.
func TestUnchangedResourcesAreTheSameMessage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		callee, policies := anyCallee(t), anyPolicies(t)
		tr := new(translate.Translator)
		before, after := tr.Translate(world(callee, policies...)), tr.Translate(world(callee, policies...))
		for i, w := range before.Workloads {
			for j, r := range w.Resources {
				if after.Workloads[i].Resources[j].Message != r.Message {
					t.Fatalf("%T was built again", r.Message)
				}
			}
		}
	})
}

// No policy edit changes a listener or a cluster: nothing drains, and no connection is cut.
func TestListenersDoNotDependOnPolicies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		callee := anyCallee(t)
		before, after := plumbing(t, world(callee, anyPolicies(t)...)), plumbing(t, world(callee, anyPolicies(t)...))
		if !reflect.DeepEqual(before, after) {
			t.Fatal(cmp.Diff(before, after))
		}
	})
}

// plumbing is the bytes of everything but the slots, by workload.
func plumbing(t *rapid.T, ix *model.Index) map[string][][]byte {
	out := map[string][][]byte{}
	for _, w := range translate.Translate(ix).Workloads {
		for _, r := range w.Resources {
			if _, isSlot := r.Message.(*corev3.TypedExtensionConfig); isSlot {
				continue
			}
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r.Message)
			if err != nil {
				t.Fatal(err)
			}
			out[w.Workload.Key] = append(out[w.Workload.Key], b)
		}
	}
	return out
}

// Envoy's own constraints hold for everything that is generated, and the names of slots do not depend on policies either.
func TestGeneratedMessagesAreValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for _, w := range translate.Translate(world(anyCallee(t), anyPolicies(t)...)).Workloads {
			for _, r := range w.Resources {
				if err := r.Message.(interface{ ValidateAll() error }).ValidateAll(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
