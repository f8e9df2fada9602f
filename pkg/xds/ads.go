package xds

import (
	"errors"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ads serves ADS in both protocols. A stream has two goroutines: the one that gRPC gave it waits for its end, the other reads requests and hands them to the cache.
// Responses have one for as long as there are any (link).
type ads struct {
	cache *Cache
	guard *guard
	done  <-chan struct{}
}

var _ discoveryv3.AggregatedDiscoveryServiceServer = (*ads)(nil)

// errLeft says that a proxy ended its stream, or lost it.
var errLeft = errors.New("the proxy left")

// DeltaAggregatedResources serves a stream of the incremental protocol.
func (a *ads) DeltaAggregatedResources(in discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.serve(in, incremental, reading(in.Recv, a.cache.requestDelta))
}

// StreamAggregatedResources serves a stream of the state-of-the-world protocol.
func (a *ads) StreamAggregatedResources(in discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.serve(in, stateOfTheWorld, reading(in.Recv, a.cache.requestWorld))
}

// reading hands the next request over.
func reading[R any](next func() (R, error), handOver func(*stream, R) error) func(*stream) error {
	return func(s *stream) error {
		r, err := next()
		if err != nil {
			return errLeft
		}
		return handOver(s, r)
	}
}

// serve takes requests one after the other until the stream is to end. Returning is what ends it, and what frees who is stuck in a read or a write.
func (a *ads) serve(in grpc.ServerStream, p protocol, takeOne func(*stream) error) error {
	s, err := a.cache.opened(in, p)
	if err != nil {
		return err
	}
	defer a.cache.closed(s)
	go func() {
		s.link.end(a.guard.survive(func() error {
			for {
				if err := takeOne(s); err != nil {
					return err
				}
			}
		}))
	}()
	select {
	case err := <-s.link.ended:
		if errors.Is(err, errLeft) {
			return nil
		}
		return err
	case <-a.done:
		return nil
	}
}

// maxStreams bounds the streams of all proxies together.
const maxStreams = 50_000

func (c *Cache) opened(in grpc.ServerStream, p protocol) (*stream, error) {
	s := &stream{protocol: p, link: newLink(in)}
	s.claim, _ = in.Context().Value(claimKey{}).(Claim)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.streams) >= maxStreams {
		return nil, status.Errorf(codes.ResourceExhausted, "%d streams are open", maxStreams)
	}
	c.streams[s] = struct{}{}
	c.metrics.opened()
	return s, nil
}

func (c *Cache) closed(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
	c.metrics.closed()
	if s.node != "" {
		c.left(s)
	}
}

// isOf binds a stream to the node of its first request, for good: only that one is sure to name it, and another later would be a way to somebody else's
// configuration.
func (c *Cache) isOf(s *stream, node *corev3.Node) error {
	if _, open := c.streams[s]; !open {
		return errLeft
	}
	if s.node == "" {
		return c.bind(s, node)
	}
	if got := node.GetId(); got != "" && got != s.node {
		return status.Errorf(codes.InvalidArgument, "the node id changed from %q in mid-stream", s.node)
	}
	return nil
}

// maxStreamsPerNode bounds what one proxy may open: Envoy holds one, and a second for a moment as it reconnects.
const maxStreamsPerNode = 8

func (c *Cache) bind(s *stream, node *corev3.Node) error {
	id := node.GetId()
	if !validNodeID(id) {
		return status.Error(codes.InvalidArgument, `the node id is not "NAMESPACE/POD": write the bootstrap with "pilot-lite bootstrap --node NAMESPACE/POD"`)
	}
	if s.claim.Node != "" && s.claim.Node != id {
		return status.Errorf(codes.PermissionDenied, "the token is not that of node %q", id)
	}
	if len(c.byNode[id]) >= maxStreamsPerNode {
		return status.Errorf(codes.ResourceExhausted, "node %q has %d streams", id, maxStreamsPerNode)
	}
	if err := checkBuild(node); err != nil {
		if _, known := c.nodes[id]; known {
			c.turnedAway[id] = status.Convert(err).Message()
			c.touch(id)
		}
		return err
	}
	s.node, s.build = strings.Clone(id), buildVersion(node)
	c.joined(s)
	return nil
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
