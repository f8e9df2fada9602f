package xds

import (
	"context"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// stream is one ADS stream of a proxy. Guarded by the cache's lock.
type stream struct {
	id     int64
	proved string // the node that its credential proves; "" where none is asked for
	node   string // the node that it is bound to; "" before the first request
	build  string // what the proxy says of its version
	delta  bool
	types  map[string]*subscription
	handed any // the request that was handed over last
}

// streamKey names a stream: the two protocols' servers count their own.
type streamKey struct {
	id    int64
	delta bool
}

// subscription is what a stream wants of one type, and what it was told.
type subscription struct {
	typeURL  string
	wildcard bool
	names    map[string]struct{}
	told     map[string]string   // name to version, as the proxy holds it or is about to
	solo     map[string]struct{} // names that shared a refused response: each is sent again on its own
	flying   *flight             // the response that was not answered yet
	respond  func(*flight)       // the open watch; nil while there is none
}

// flight is a response on its way.
type flight struct {
	resources []*Resource
	removed   []string
	bodies    []*anypb.Any
	version   string            // state of the world: what the proxy holds once it has applied this
	before    map[string]string // what the proxy was told before
	nonce     func() string
}

// wants says whether the stream is subscribed to a name.
func (s *subscription) wants(name string) bool {
	if s.wildcard {
		return true
	}
	_, ok := s.names[name]
	return ok
}

// serve answers what the stream's open watches may be answered with now.
func (c *Cache) serve(s *stream) {
	for _, typeURL := range servedTypes() {
		if sub := s.types[typeURL]; sub != nil {
			c.answer(s, sub)
		}
	}
}

// answer sends the next response of a subscription, if there is a watch to answer and something to say. One response of a type is under way at a time, so
// that its ACK or NACK speaks of it alone.
func (c *Cache) answer(s *stream, sub *subscription) {
	if sub.respond == nil || sub.flying != nil {
		return
	}
	f := c.next(s, sub)
	if f == nil {
		return
	}
	f.before = maps.Clone(sub.told)
	for _, r := range f.resources {
		f.bodies = append(f.bodies, c.body(r))
		sub.told[r.Name] = r.Version
		delete(sub.solo, r.Name)
	}
	for _, name := range f.removed {
		delete(sub.told, name)
	}
	f.version = stateVersion(sub.told)
	c.ledger.sent(s.node, sub.typeURL, f, c.now())
	c.metrics.pushed(sub.typeURL, f)
	respond := sub.respond
	sub.respond, sub.flying = nil, f
	respond(f)
}

// next is the difference between what the stream should run and what it was told, or the part of it that may travel together.
func (c *Cache) next(s *stream, sub *subscription) *flight {
	set := c.desired(s.node, sub)
	if set == nil {
		return nil
	}
	var f flight
	for _, r := range set.list {
		if sub.wants(r.Name) && sub.told[r.Name] != r.Version {
			f.resources = append(f.resources, r)
		}
	}
	for name := range sub.told {
		if _, stays := set.byName[name]; !stays {
			f.removed = append(f.removed, name)
		}
	}
	slices.Sort(f.removed)
	switch {
	case len(f.resources) == 0 && len(f.removed) == 0:
		return nil
	case sub.typeURL == ExtensionConfigType && len(f.resources) > 0:
		// One slot a response: Envoy refuses a response as a whole, and a bad slot must not take a good one with it.
		return &flight{resources: f.resources[:1]}
	case s.delta && len(sub.solo) > 0:
		for _, r := range f.resources {
			if _, alone := sub.solo[r.Name]; alone {
				return &flight{resources: []*Resource{r}}
			}
		}
	case !s.delta:
		// In a state of the world a listener or cluster that is left out is removed: everything is said every time.
		f.resources, f.removed = f.resources[:0], nil
		for _, r := range set.list {
			if sub.wants(r.Name) {
				f.resources = append(f.resources, r)
			}
		}
		if len(f.resources) == 0 {
			return nil
		}
		for name := range sub.told {
			if _, stays := set.byName[name]; !stays {
				delete(sub.told, name)
			}
		}
	}
	return &f
}

// body is a resource as it is sent. What any proxy refused goes out under bytes of its own every time: a proxy that is sent the bytes it refused
// acknowledges them without running them.
func (c *Cache) body(r *Resource) *anypb.Any {
	if c.ledger.everRefused(r) {
		return c.salting.fresh(r)
	}
	return c.salting.body(r)
}

// answered takes an ACK or a NACK of the response that is under way.
func (c *Cache) answered(s *stream, sub *subscription, refusal string) {
	f := sub.flying
	sub.flying = nil
	if refusal == "" {
		c.ledger.acked(s.node, sub.typeURL, f, c.now())
		c.metrics.acked(sub.typeURL)
		return
	}
	c.metrics.nacked(sub.typeURL)
	if len(f.resources) > 1 {
		// Which of them was meant the text does not say. Those before the bad one may have been applied, those after were not: none is proved.
		for _, r := range f.resources {
			sub.solo[r.Name] = struct{}{}
			if s.delta {
				delete(sub.told, r.Name)
			}
		}
	}
	if c.ledger.refused(s.node, sub.typeURL, f, refusal, c.now()) && c.logger != nil {
		for _, r := range f.resources {
			c.logger.Warn("a proxy refused its configuration", "node", s.node, "type", r.Type, "resource", r.Name, "version", r.Version, "text", refusal)
		}
	}
}

// deltaResponse is a flight in the incremental protocol.
type deltaResponse struct {
	request  *discoveryv3.DeltaDiscoveryRequest
	response *discoveryv3.DeltaDiscoveryResponse
	told     map[string]string
}

var _ cache.DeltaResponse = (*deltaResponse)(nil)

func newDeltaResponse(request *discoveryv3.DeltaDiscoveryRequest, f *flight, told map[string]string) *deltaResponse {
	r := &deltaResponse{request: request, told: told, response: &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: request.GetTypeUrl(), RemovedResources: f.removed, SystemVersionInfo: f.version, Resources: make([]*discoveryv3.Resource, 0, len(f.resources)),
	}}
	for i, res := range f.resources {
		r.response.Resources = append(r.response.Resources, &discoveryv3.Resource{Name: res.Name, Version: res.Version, Resource: f.bodies[i]})
	}
	f.nonce = r.response.GetNonce
	return r
}

func (r *deltaResponse) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	return r.response, nil
}
func (r *deltaResponse) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest { return r.request }
func (r *deltaResponse) GetSystemVersion() (string, error) {
	return r.response.GetSystemVersionInfo(), nil
}

func (r *deltaResponse) GetResponseVersion() string              { return r.response.GetSystemVersionInfo() }
func (r *deltaResponse) GetNextVersionMap() map[string]string    { return r.told }
func (r *deltaResponse) GetReturnedResources() map[string]string { return r.told }
func (r *deltaResponse) GetContext() context.Context             { return context.Background() }

// sotwResponse is a flight in the state-of-the-world protocol.
type sotwResponse struct {
	request  *discoveryv3.DiscoveryRequest
	response *discoveryv3.DiscoveryResponse
	told     map[string]string
}

var _ cache.Response = (*sotwResponse)(nil)

func newSotwResponse(request *discoveryv3.DiscoveryRequest, f *flight, told map[string]string) *sotwResponse {
	r := &sotwResponse{request: request, told: told, response: &discoveryv3.DiscoveryResponse{
		TypeUrl: request.GetTypeUrl(), VersionInfo: f.version, Resources: f.bodies,
	}}
	f.nonce = r.response.GetNonce
	return r
}

func (r *sotwResponse) GetDiscoveryResponse() (*discoveryv3.DiscoveryResponse, error) {
	return r.response, nil
}
func (r *sotwResponse) GetRequest() *discoveryv3.DiscoveryRequest { return r.request }
func (r *sotwResponse) GetVersion() (string, error)               { return r.response.GetVersionInfo(), nil }

func (r *sotwResponse) GetResponseVersion() string              { return r.response.GetVersionInfo() }
func (r *sotwResponse) GetReturnedResources() map[string]string { return r.told }
func (r *sotwResponse) GetContext() context.Context             { return context.Background() }
