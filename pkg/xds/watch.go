package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What a stream may subscribe to: names of one type, and types. Far more than a sidecar has, far less than would hurt.
const (
	maxNames = 1000
	maxTypes = 16
)

// CreateDeltaWatch takes a request of an incremental stream: what it acknowledges, what it subscribes to, and the wish to be answered.
func (c *Cache) CreateDeltaWatch(req *cache.DeltaRequest, view cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.requests[req]
	delete(c.requests, req)
	if s == nil {
		return nil, status.Error(codes.Internal, "a request came on no stream")
	}
	sub, first := s.subscription(req.GetTypeUrl())
	if sub == nil {
		return nil, errTooManyTypes()
	}
	if first {
		// What the proxy says it holds, from an earlier stream to this or another replica.
		maps.Copy(sub.told, req.GetInitialResourceVersions())
		c.ledger.claimed(s.node, sub.typeURL, sub.told, c.now())
	}
	if err := sub.subscribe(view); err != nil {
		return nil, err
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(sub.told, name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		// A name that is subscribed to again is to be sent again, whatever the proxy was told of it.
		if !first {
			delete(sub.told, name)
		}
	}
	if f := sub.flying; f != nil && req.GetResponseNonce() != "" && req.GetResponseNonce() == f.nonce() {
		c.answered(s, sub, refusal(req.GetErrorDetail()))
	}
	sub.respond = func(f *flight) { out <- newDeltaResponse(req, f, maps.Clone(sub.told)) }
	return c.open(s, sub), nil
}

// CreateWatch takes a request of a state-of-the-world stream.
func (c *Cache) CreateWatch(req *cache.Request, view cache.Subscription, out chan cache.Response) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.requests[req]
	delete(c.requests, req)
	if s == nil {
		return nil, status.Error(codes.Internal, "a request came on no stream")
	}
	sub, first := s.subscription(req.GetTypeUrl())
	if sub == nil {
		return nil, errTooManyTypes()
	}
	if err := sub.subscribe(view); err != nil {
		return nil, err
	}
	if first && req.GetVersionInfo() != "" {
		c.resume(s, sub, req.GetVersionInfo())
	}
	if f := sub.flying; f != nil && f.nonce() == "" {
		// The server drops a response that it has not sent when another request comes in: it is said again.
		sub.flying, sub.told = nil, f.before
	}
	if f := sub.flying; f != nil && req.GetResponseNonce() != "" && req.GetResponseNonce() == f.nonce() {
		c.answered(s, sub, refusal(req.GetErrorDetail()))
	}
	sub.respond = func(f *flight) { out <- newSotwResponse(req, f, maps.Clone(sub.told)) }
	return c.open(s, sub), nil
}

func errTooManyTypes() error {
	return status.Errorf(codes.ResourceExhausted, "a stream is served at most %d resource types", maxTypes)
}

// resume believes a reconnecting state-of-the-world proxy that it holds the present state, if the version that it names is that of the present state.
func (c *Cache) resume(s *stream, sub *subscription, version string) {
	set := c.desired(s.node, sub)
	if set == nil {
		return
	}
	held := map[string]string{}
	for _, r := range set.list {
		if sub.wants(r.Name) {
			held[r.Name] = r.Version
		}
	}
	if stateVersion(held) == version {
		sub.told = held
		c.ledger.claimed(s.node, sub.typeURL, held, c.now())
	}
}

// stateVersion names a set of resources and their versions.
func stateVersion(held map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(held)) {
		fmt.Fprintf(h, "%q %q\n", name, held[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// open answers a new watch, now or later, and returns what cancels it.
func (c *Cache) open(s *stream, sub *subscription) func() {
	c.answer(s, sub)
	respond := sub.respond
	if respond == nil {
		return nil
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		sub.respond = nil
	}
}

// subscription is the stream's of a type, and whether this is its first request; nil where the stream has too many.
func (s *stream) subscription(typeURL string) (*subscription, bool) {
	if sub := s.types[typeURL]; sub != nil {
		return sub, false
	}
	if len(s.types) >= maxTypes {
		return nil, false
	}
	sub := &subscription{typeURL: typeURL, told: map[string]string{}, solo: map[string]struct{}{}}
	s.types[typeURL] = sub
	return sub, true
}

// subscribe copies what a stream wants: the server changes its own view between requests.
func (s *subscription) subscribe(view cache.Subscription) error {
	names := view.SubscribedResources()
	if len(names) > maxNames {
		return status.Errorf(codes.ResourceExhausted, "%d resource names of type %s: at most %d are served to a stream", len(names), s.typeURL, maxNames)
	}
	s.wildcard, s.names = view.IsWildcard(), maps.Clone(names)
	return nil
}

// refusal is the text of a NACK, "" for an ACK.
func refusal(detail *statuspb.Status) string {
	if detail == nil {
		return ""
	}
	if text := detail.GetMessage(); text != "" {
		return text
	}
	return "refused without a text"
}
