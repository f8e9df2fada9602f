package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	gcpstream "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
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

// requestDelta takes a request of an incremental stream: what it acknowledges, and what it subscribes to.
func (c *Cache) requestDelta(s *stream, r *discoveryv3.DeltaDiscoveryRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub, first, err := c.handOver(s, r.GetNode(), r.GetTypeUrl(), r.GetResourceNamesSubscribe())
	if err != nil || sub == nil {
		return err
	}
	if first {
		sub.wanted = gcpstream.NewDeltaSubscription(r.GetResourceNamesSubscribe(), r.GetResourceNamesUnsubscribe(), nil, true)
	} else if len(r.GetResourceNamesSubscribe()) > 0 || len(r.GetResourceNamesUnsubscribe()) > 0 {
		sub.wanted.UpdateResourceSubscriptions(r.GetResourceNamesSubscribe(), r.GetResourceNamesUnsubscribe())
		sub.quiet = nil
	}
	if err := sub.bounded(); err != nil {
		return err
	}
	if first {
		if err := c.claimed(s, sub, r.GetInitialResourceVersions()); err != nil {
			return err
		}
	} else {
		for _, name := range r.GetResourceNamesSubscribe() {
			// A name that is subscribed to again is to be sent again, whatever the proxy was told of it.
			delete(sub.held, name)
		}
	}
	if unwanted := r.GetResourceNamesUnsubscribe(); len(unwanted) > 0 {
		for _, name := range unwanted {
			delete(sub.held, name)
		}
		sub.wanted.SetReturnedResources(map[string]string{}) // it notes there what is unsubscribed, for a cache that asks, and would for ever
	}
	c.answeredBy(s, sub, r.GetResponseNonce(), r.GetErrorDetail())
	c.serve(s)
	c.touch(s.node)
	return nil
}

// requestWorld takes a request of a state-of-the-world stream. One that was sent before the response under way came is not looked at: the proxy says all of it
// again as it answers.
func (c *Cache) requestWorld(s *stream, r *discoveryv3.DiscoveryRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	sub, first, err := c.handOver(s, r.GetNode(), r.GetTypeUrl(), r.GetResourceNames())
	if err != nil {
		return err
	}
	if tooLong(r.GetVersionInfo()) {
		return errTooLong()
	}
	if sub == nil {
		return nil
	}
	if f := sub.flying; f != nil && r.GetResponseNonce() != f.nonce {
		return nil
	}
	if first {
		sub.wanted, sub.claim = gcpstream.NewSotwSubscription(r.GetResourceNames(), true), r.GetVersionInfo()
	} else {
		sub.wanted.SetResourceSubscription(r.GetResourceNames())
		sub.quiet = nil
	}
	if err := sub.bounded(); err != nil {
		return err
	}
	for name := range sub.held {
		// A name that is not asked for any more is sent again when it is.
		if !sub.wants(name) {
			delete(sub.held, name)
		}
	}
	c.answeredBy(s, sub, r.GetResponseNonce(), r.GetErrorDetail())
	c.serve(s)
	c.touch(s.node)
	return nil
}

// handOver finds the subscription that a request speaks of; words are what it says that is kept. Of a type that nobody serves there is none.
func (c *Cache) handOver(s *stream, node *corev3.Node, typeURL string, words []string) (sub *subscription, first bool, err error) {
	if err := c.isOf(s, node); err != nil {
		return nil, false, err
	}
	if typeURL == "" {
		return nil, false, status.Error(codes.InvalidArgument, "a request names no type: ADS needs one")
	}
	if tooLong(typeURL) || slices.ContainsFunc(words, tooLong) {
		return nil, false, errTooLong()
	}
	k, served := kindOf(typeURL)
	if !served {
		return nil, false, s.other(typeURL)
	}
	if s.subs[k] != nil {
		return s.subs[k], false, nil
	}
	s.subs[k] = &subscription{kind: k, held: map[string]*holding{}}
	return s.subs[k], true, nil
}

// other notes a type that a stream asks for and nobody serves.
func (s *stream) other(typeURL string) error {
	if s.others == nil {
		s.others = map[string]struct{}{}
	}
	s.others[typeURL] = struct{}{}
	if len(s.others) > maxTypes {
		return status.Errorf(codes.ResourceExhausted, "a stream asks for %d resource types that are not served: at most %d are borne", len(s.others), maxTypes)
	}
	return nil
}

func errTooLong() error {
	return status.Errorf(codes.InvalidArgument, "a name, version or type of more than %d bytes", maxNameSize)
}

func tooLong(word string) bool { return len(word) > maxNameSize }

func tooManyNames(n int, k kind) error {
	return status.Errorf(codes.ResourceExhausted, "%d resource names of type %q: at most %d are served to a stream", n, k.typeURL(), maxNames)
}

// claimed takes what a proxy says it holds, from an earlier stream to this or another replica. A proxy that is known to have refused what it names is not
// believed.
func (c *Cache) claimed(s *stream, sub *subscription, versions map[string]string) error {
	if len(versions) > maxNames {
		return tooManyNames(len(versions), sub.kind)
	}
	for name, version := range versions {
		if tooLong(name) || tooLong(version) {
			return errTooLong()
		}
		if _, refused := c.refusals.seen[refusal{s.node, sub.kind.typeURL(), name, version}]; !refused {
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
	if f := sub.flying; f != nil && nonce == f.nonce {
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
