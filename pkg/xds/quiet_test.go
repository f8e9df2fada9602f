package xds

import (
	"context"
	"fmt"
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"
)

// Whatever comes, and in whatever order: when the cache says nothing to a proxy, there is nothing to say. What it remembers of that is what it would find.
func TestQuietMeansNothingToSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := &drive{T: t, cache: NewCache(Config{}), drawn: map[string]*Resource{}}
		for range rapid.IntRange(5, 100).Draw(t, "steps") {
			rapid.SampledFrom([]func(){d.set, d.connect, d.ask, d.drop, d.answer, d.answer, d.answer}).Draw(t, "step")()
			d.look()
		}
	})
}

// drive plays a few proxies of one node, and who sets the state.
type drive struct {
	*rapid.T

	cache   *Cache
	streams []*stream
	drawn   map[string]*Resource // each of them is made once
	stands  [kinds][3]*Resource  // by kind and name; nil where it is not there
}

// deafStream takes every response.
type deafStream struct{ grpc.ServerStream }

func (deafStream) Context() context.Context { return context.Background() }
func (deafStream) SendMsg(any) error        { return nil }

func drivenNames() []string { return []string{"a", "b", "c"} }

// draw is a resource with a content of two.
func (d *drive) draw(k kind, name string) *Resource {
	text := fmt.Sprint(rapid.IntRange(1, 2).Draw(d.T, "content"))
	if r := d.drawn[fmt.Sprint(k, name, text)]; r != nil {
		return r
	}
	content, err := anypb.New(wrapperspb.String(text))
	if err != nil {
		d.Fatal(err)
	}
	message := map[kind]proto.Message{
		clusters:  &clusterv3.Cluster{Name: name, AltStatName: string(content.GetValue())},
		listeners: &listenerv3.Listener{Name: name, StatPrefix: string(content.GetValue())},
		slots:     &corev3.TypedExtensionConfig{Name: name, TypedConfig: content},
	}[k]
	r, err := NewResource(message, nil)
	if err != nil {
		d.Fatal(err)
	}
	d.drawn[fmt.Sprint(k, name, text)] = r
	return r
}

// set replaces the state, of which a few resources are others than before. The node is in that workload, in another, or has no pod.
func (d *drive) set() {
	for range rapid.IntRange(1, 3).Draw(d.T, "changes") {
		k, i := d.kind(), rapid.IntRange(0, 2).Draw(d.T, "name")
		d.stands[k][i] = nil
		if rapid.IntRange(0, 3).Draw(d.T, "gone") > 0 {
			d.stands[k][i] = d.draw(k, drivenNames()[i])
		}
	}
	u := Update{Workloads: map[string][]*Resource{"w": nil, "v": {d.draw(slots, "a")}}, Nodes: map[string][]Node{}}
	for k := range kinds {
		for _, r := range d.stands[k] {
			if r != nil {
				u.Workloads["w"] = append(u.Workloads["w"], r)
			}
		}
	}
	if of := rapid.SampledFrom([]string{"w", "w", "w", "w", "w", "v", ""}).Draw(d.T, "node's workload"); of != "" {
		u.Nodes[of] = []Node{{ID: "shop/cart", UID: "1"}}
	}
	d.cache.Set(u)
}

// connect opens one of at most three streams.
func (d *drive) connect() {
	if len(d.streams) == 3 {
		return
	}
	s := &stream{protocol: rapid.SampledFrom([]protocol{incremental, stateOfTheWorld}).Draw(d.T, "protocol"), link: newLink(deafStream{})}
	d.cache.mu.Lock()
	d.cache.streams[s] = struct{}{}
	d.cache.mu.Unlock()
	d.streams = append(d.streams, s)
}

// drop ends a stream.
func (d *drive) drop() {
	if len(d.streams) > 0 {
		d.cache.closed(d.streams[0])
		d.streams = d.streams[1:]
	}
}

func (d *drive) stream() *stream {
	if len(d.streams) == 0 {
		d.connect()
	}
	return rapid.SampledFrom(d.streams).Draw(d.T, "stream")
}

func (d *drive) kind() kind { return kind(rapid.IntRange(0, int(kinds)-1).Draw(d.T, "kind")) }

func (d *drive) names(what string) []string {
	return rapid.SliceOfDistinct(rapid.SampledFrom(append(drivenNames(), "*")), rapid.ID[string]).Draw(d.T, what)
}

// ask sends a request that answers nothing: the first of its type, with claims or without, or another.
func (d *drive) ask() {
	s := d.stream()
	d.send(s, d.kind(), "", nil)
}

// answer acknowledges or refuses a response that is under way.
func (d *drive) answer() {
	s := d.stream()
	for k, sub := range s.subs {
		if sub != nil && sub.flying != nil {
			var problem *statuspb.Status
			if rapid.IntRange(0, 2).Draw(d.T, "refused") == 0 {
				problem = &statuspb.Status{Message: "no"}
			}
			d.send(s, kind(k), sub.flying.nonce, problem)
			return
		}
	}
}

func (d *drive) send(s *stream, k kind, nonce string, problem *statuspb.Status) {
	node, first := &corev3.Node{Id: "shop/cart"}, s.subs[k] == nil
	var err error
	switch {
	case s.protocol == stateOfTheWorld:
		err = d.cache.requestWorld(s, &discoveryv3.DiscoveryRequest{Node: node, TypeUrl: k.typeURL(), ResourceNames: d.names("names"), ResponseNonce: nonce, ErrorDetail: problem})
	case nonce != "":
		err = d.cache.requestDelta(s, &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: k.typeURL(), ResponseNonce: nonce, ErrorDetail: problem})
	default:
		r := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: k.typeURL(), ResourceNamesSubscribe: d.names("names")}
		if first && rapid.Bool().Draw(d.T, "claims") {
			r.InitialResourceVersions = map[string]string{"a": d.draw(k, "a").Version}
		}
		if !first {
			r.ResourceNamesUnsubscribe = d.names("unwanted")
		}
		err = d.cache.requestDelta(s, r)
	}
	if err != nil {
		d.Fatal(err)
	}
}

// look asks of every stream that owes no answer what would be said to it by a cache that remembers nothing.
func (d *drive) look() {
	d.cache.mu.Lock()
	defer d.cache.mu.Unlock()
	for i, s := range d.streams {
		if slices.ContainsFunc(s.subs[:], func(sub *subscription) bool { return sub != nil && sub.flying != nil }) {
			continue
		}
		for k, sub := range s.subs {
			if sub == nil {
				continue
			}
			sub.quiet = nil
			set := d.cache.desired(s, sub)
			if set == nil {
				continue
			}
			if f := d.cache.next(s, sub, set); f != nil {
				d.Fatalf("stream %d, %s: not said: %v, removed %v", i, kind(k).typeURL(), f.resources, f.removed)
			}
		}
	}
}
