package xds

import (
	"context"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// callbacks tells the cache which stream a request came on: go-control-plane's servers call them right before they hand the request to the cache, on
// the same goroutine.
type callbacks struct {
	cache *Cache
}

// validNodeID accepts "NAMESPACE/POD", both DNS names (RFC 1123) as Kubernetes has them.
func validNodeID(id string) bool {
	namespace, pod, found := strings.Cut(id, "/")
	return found && validName(namespace) && validName(pod)
}

// validName is asked of every stream, so it compiles no expression.
func validName(name string) bool {
	const longest = 253
	if name == "" || len(name) > longest {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case (c == '-' || c == '.') && i > 0 && i < len(name)-1:
		default:
			return false
		}
	}
	return true
}

// maxStreams bounds the streams of all proxies together.
const maxStreams = 50_000

func (c callbacks) open(ctx context.Context, key streamKey) error {
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	if len(c.cache.streams) >= maxStreams {
		return status.Errorf(codes.ResourceExhausted, "%d streams are open", maxStreams)
	}
	s := &stream{streamKey: key, types: map[string]*subscription{}}
	if claim, ok := ctx.Value(claimKey{}).(Claim); ok {
		s.proved, s.uid = claim.Node, claim.UID
	}
	c.cache.streams[key] = s
	c.cache.metrics.opened()
	return nil
}

func (c callbacks) closed(key streamKey) {
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	s := c.cache.streams[key]
	if s == nil {
		return
	}
	delete(c.cache.streams, key)
	delete(c.cache.requests, s.handed)
	c.cache.metrics.closed()
	if s.node != "" {
		c.cache.left(s)
	}
}

// request binds a stream to the node of its first request, for good: only that one is sure to name it, and another later would be a way to somebody
// else's configuration.
func (c callbacks) request(key streamKey, node *corev3.Node, req any) error {
	c.cache.mu.Lock()
	defer c.cache.mu.Unlock()
	s := c.cache.streams[key]
	if s == nil {
		return status.Error(codes.Internal, "a request came on no stream")
	}
	if s.node == "" {
		if err := c.bind(s, node); err != nil {
			return err
		}
	} else if got := node.GetId(); got != "" && got != s.node {
		return status.Errorf(codes.InvalidArgument, "the node id changed from %q in mid-stream", s.node)
	}
	if node != nil {
		// The server keeps the node as long as the stream, and an Envoy's lists every extension that it was built with.
		proto.Reset(node)
		node.Id = s.node
	}
	// The servers do not hand every request over: one with a stale nonce is dropped. One a stream is kept.
	delete(c.cache.requests, s.handed)
	s.handed = req
	c.cache.requests[req] = s
	return nil
}

// maxStreamsPerNode bounds what one proxy may open: Envoy holds one, and a second for a moment as it reconnects.
const maxStreamsPerNode = 8

func (c callbacks) bind(s *stream, node *corev3.Node) error {
	id := node.GetId()
	if !validNodeID(id) {
		return status.Error(codes.InvalidArgument, `the node id is not "NAMESPACE/POD": write the bootstrap with "pilot-lite bootstrap --node NAMESPACE/POD"`)
	}
	if s.proved != "" && s.proved != id {
		return status.Errorf(codes.PermissionDenied, "the token is not that of node %q", id)
	}
	if len(c.cache.byNode[id]) >= maxStreamsPerNode {
		return status.Errorf(codes.ResourceExhausted, "node %q has %d streams", id, maxStreamsPerNode)
	}
	if err := checkBuild(node); err != nil {
		if _, known := c.cache.nodes[id]; known {
			c.cache.turnedAway[id] = status.Convert(err).Message()
			c.cache.touch(id)
		}
		return err
	}
	s.node, s.build = id, buildVersion(node)
	c.cache.joined(s)
	return nil
}

func (c callbacks) OnStreamOpen(ctx context.Context, id int64, _ string) error {
	return c.open(ctx, streamKey{id, stateOfTheWorld})
}

func (c callbacks) OnStreamClosed(id int64, _ *corev3.Node) { c.closed(streamKey{id, stateOfTheWorld}) }

func (c callbacks) OnStreamRequest(id int64, r *discoveryv3.DiscoveryRequest) error {
	return c.request(streamKey{id, stateOfTheWorld}, r.GetNode(), r)
}

func (c callbacks) OnStreamResponse(context.Context, int64, *discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {
}

func (c callbacks) OnDeltaStreamOpen(ctx context.Context, id int64, _ string) error {
	return c.open(ctx, streamKey{id, incremental})
}

func (c callbacks) OnDeltaStreamClosed(id int64, _ *corev3.Node) {
	c.closed(streamKey{id, incremental})
}

func (c callbacks) OnStreamDeltaRequest(id int64, r *discoveryv3.DeltaDiscoveryRequest) error {
	return c.request(streamKey{id, incremental}, r.GetNode(), r)
}

func (c callbacks) OnStreamDeltaResponse(int64, *discoveryv3.DeltaDiscoveryRequest, *discoveryv3.DeltaDiscoveryResponse) {
}

func (c callbacks) OnFetchRequest(context.Context, *discoveryv3.DiscoveryRequest) error {
	return status.Error(codes.Unimplemented, "only streams are served")
}
func (c callbacks) OnFetchResponse(*discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {}
