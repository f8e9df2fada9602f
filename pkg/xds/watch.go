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
	maxNames    = 1000
	maxTypes    = 16
	maxNameSize = 1024 // of a name, a version or a type URL, in bytes
)

// CreateDeltaWatch takes a request of an incremental stream: what it acknowledges, what it subscribes to, and the wish to be answered.
func (c *Cache) CreateDeltaWatch(req *cache.DeltaRequest, view cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, sub, first, err := c.handOver(req, req.GetTypeUrl(), view, req.GetResourceNamesSubscribe())
	if err != nil {
		return nil, err
	}
	if first {
		if err := c.claimed(s, sub, req.GetInitialResourceVersions()); err != nil {
			return nil, err
		}
	} else {
		for _, name := range req.GetResourceNamesSubscribe() {
			// A name that is subscribed to again is to be sent again, whatever the proxy was told of it.
			delete(sub.held, name)
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(sub.held, name)
	}
	c.answeredBy(s, sub, req.GetResponseNonce(), req.GetErrorDetail())
	typeURL := sub.typeURL
	sub.respond = func(f *flight) { out <- newDeltaResponse(typeURL, f) }
	return c.open(s, sub), nil
}

// CreateWatch takes a request of a state-of-the-world stream.
func (c *Cache) CreateWatch(req *cache.Request, view cache.Subscription, out chan cache.Response) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, sub, first, err := c.handOver(req, req.GetTypeUrl(), view, append(req.GetResourceNames(), req.GetVersionInfo()))
	if err != nil {
		return nil, err
	}
	if first {
		sub.claim = req.GetVersionInfo()
	}
	for name := range sub.held {
		// A name that is not asked for any more is sent again when it is.
		if !sub.wants(name) {
			delete(sub.held, name)
		}
	}
	if f := sub.flying; f != nil && f.nonce() == "" {
		// The server drops a response that it has not sent when another request comes in: it is said again.
		sub.untake()
	}
	c.answeredBy(s, sub, req.GetResponseNonce(), req.GetErrorDetail())
	typeURL := sub.typeURL
	sub.respond = func(f *flight) { out <- newSotwResponse(typeURL, f) }
	return c.open(s, sub), nil
}

// handOver finds the stream and the subscription that a request speaks of, and takes what it subscribes to; words are what it says that is kept.
func (c *Cache) handOver(req any, typeURL string, view cache.Subscription, words []string) (s *stream, sub *subscription, first bool, err error) {
	s = c.requests[req]
	delete(c.requests, req)
	if s == nil {
		return nil, nil, false, status.Error(codes.Internal, "a request came on no stream")
	}
	if len(typeURL) > maxNameSize || slices.ContainsFunc(words, tooLong) {
		return nil, nil, false, status.Errorf(codes.InvalidArgument, "a name, version or type of more than %d bytes", maxNameSize)
	}
	sub, known := s.types[typeURL]
	if !known {
		if len(s.types) >= maxTypes {
			return nil, nil, false, status.Errorf(codes.ResourceExhausted, "a stream is served at most %d resource types", maxTypes)
		}
		sub = &subscription{typeURL: typeURL, held: map[string]*holding{}, solo: map[string]struct{}{}}
		s.types[typeURL] = sub
	}
	names := view.SubscribedResources()
	if len(names) > maxNames {
		return nil, nil, false, tooManyNames(len(names), typeURL)
	}
	// A copy: the server changes its own view between requests.
	sub.wildcard, sub.names = view.IsWildcard(), maps.Clone(names)
	return s, sub, !known, nil
}

func tooLong(word string) bool { return len(word) > maxNameSize }

func tooManyNames(n int, typeURL string) error {
	return status.Errorf(codes.ResourceExhausted, "%d resource names of type %q: at most %d are served to a stream", n, typeURL, maxNames)
}

// claimed takes what a proxy says it holds, from an earlier stream to this or another replica. A proxy that is known to have refused what it names is not
// believed.
func (c *Cache) claimed(s *stream, sub *subscription, versions map[string]string) error {
	if len(versions) > maxNames {
		return tooManyNames(len(versions), sub.typeURL)
	}
	for name, version := range versions {
		if tooLong(name) || tooLong(version) {
			return status.Errorf(codes.InvalidArgument, "a name or version of more than %d bytes", maxNameSize)
		}
		if _, refused := c.refusals.seen[refusal{s.node, sub.typeURL, name, version}]; !refused {
			sub.held[name] = &holding{told: version, enforced: version, changed: c.now()}
		}
	}
	return nil
}

// resume believes a reconnecting state-of-the-world proxy that it holds what is desired, if the version that it names is that of what is desired.
func (c *Cache) resume(s *stream, sub *subscription, desired *resourceSet) {
	claim := sub.claim
	sub.claim = ""
	held := map[string]string{}
	var resources []*Resource
	for _, r := range desired.list {
		if c.refusals.has(s.node, r) {
			return
		}
		if sub.wants(r.Name) {
			held[r.Name] = r.Version
			resources = append(resources, r)
		}
	}
	if stateVersion(held) != claim {
		return
	}
	for _, r := range resources {
		sub.held[r.Name] = &holding{told: r.Version, enforced: r.Version, good: r, changed: c.now()}
	}
}

// answeredBy takes the ACK or NACK in a request, if it is one of the response under way.
func (c *Cache) answeredBy(s *stream, sub *subscription, nonce string, problem *statuspb.Status) {
	if f := sub.flying; f != nil && nonce != "" && nonce == f.nonce() {
		c.answered(s, sub, refusalText(problem))
		if len(c.holds) > 0 && c.upToDate(s) {
			c.learnt(s)
		}
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

// open answers a new watch, now or later, and returns what cancels it. What the request acknowledged may be what another type waited for.
func (c *Cache) open(s *stream, sub *subscription) func() {
	c.serve(s)
	c.touch(s.node)
	if sub.respond == nil {
		return nil
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		sub.respond = nil
	}
}

// refusalText is the text of a NACK, "" for an ACK.
func refusalText(detail *statuspb.Status) string {
	if detail == nil {
		return ""
	}
	if text := detail.GetMessage(); text != "" {
		return text
	}
	return "refused without a text"
}
