package xds

import (
	"time"

	gcpstream "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
)

// protocol is a flavour of xDS.
type protocol int

const (
	incremental protocol = iota + 1
	stateOfTheWorld
)

// stream is one ADS stream of a proxy. Guarded by the cache's lock.
type stream struct {
	protocol protocol
	link     *link
	claim    Claim  // what its credentials prove; the zero value where none are asked for
	order    int64  // a newer stream of a node has a higher one
	node     string // the node that it is bound to; "" before the first request
	build    string // what the proxy says of its version
	since    time.Time
	subs     [kinds]*subscription // nil where it did not ask
	others   map[string]struct{}  // types that it asked for and nobody serves
	nonces   int64                // of its responses
}

// subscription is what a stream wants of one kind, and what its proxy holds of it.
type subscription struct {
	kind   kind
	wanted gcpstream.Subscription // by name, or all
	held   map[string]*holding    // by name
	claim  string                 // state of the world: the version that the proxy says it holds; "" once it was looked at
	solo   map[string]struct{}    // names that shared a refused response: each is sent again on its own
	flying *flight                // the response that was not answered yet
	// quiet is what there was nothing to say of when it was last compared with what the proxy holds; nil where either of them is another since.
	quiet    *resourceSet
	refusing bool // the proxy has refused something of it on this stream
}

// holding is one resource at one proxy, as far as the proxy's answers on this stream prove it.
type holding struct {
	told     string    // version that it was sent last, or says it holds; "" where it is to be sent, or was told to drop it
	enforced string    // version that it acknowledged last, or says it holds
	refused  string    // version that it refused after that
	text     string    // the proxy's words about it
	blamed   bool      // the refusal was meant for this resource and no other
	good     *Resource // what it acknowledged last; nil where only its version is known
	standing bool      // a slot: what the proxy refused is the last that it was sent
	changed  time.Time
}

// standIn is what a state of the world says in a resource's place, if the proxy refused that: what it acknowledged last, or nothing. So one refusal does not
// take every later response with it.
func (h *holding) standIn(r *Resource) (good *Resource, instead bool) {
	if h == nil || !h.blamed || h.refused != r.Version || h.told != h.refused {
		return nil, false
	}
	return h.good, true
}

// standsIn says whether r was sent in the place of what the proxy refused.
func (h *holding) standsIn(r *Resource) bool { return h.blamed && h.told == h.refused && h.good == r }

// flight is a response on its way.
type flight struct {
	resources []*Resource
	removed   []string
	bodies    []*body
	version   string // what the proxy holds once it has applied this
	nonce     string
	left      time.Time // in real time
	late      bool      // it was told of that the proxy takes long to answer
}

// bounded refuses a subscription to more names than are served.
func (s *subscription) bounded() error {
	if n := len(s.wanted.SubscribedResources()); n > maxNames {
		return tooManyNames(n, s.kind)
	}
	return nil
}

// wants says whether the stream is subscribed to a name.
func (s *subscription) wants(name string) bool {
	if s.wanted.IsWildcard() {
		return true
	}
	_, ok := s.wanted.SubscribedResources()[name]
	return ok
}

// alone has a resource be sent on its own the next time.
func (s *subscription) alone(name string) {
	if s.solo == nil {
		s.solo = map[string]struct{}{}
	}
	s.solo[name] = struct{}{}
}

func (s *subscription) at(name string) *holding {
	h := s.held[name]
	if h == nil {
		h = &holding{}
		s.held[name] = h
	}
	return h
}

// difference is what the proxy should be told to hold what is desired.
func (s *subscription) difference(desired *resourceSet) (changed []*Resource, removed []string) {
	if desired == s.quiet {
		return nil, nil
	}
	stay := 0
	for _, r := range desired.list {
		h := s.held[r.Name]
		if h != nil {
			stay++
		}
		if (h == nil || h.told != r.Version) && s.wants(r.Name) {
			changed = append(changed, r)
		}
	}
	if stay == len(s.held) {
		return changed, nil
	}
	for name, h := range s.held {
		if _, stays := desired.byName[name]; !stays && h.told != "" {
			removed = append(removed, name)
		}
	}
	return changed, removed
}

// confirm notes which resource it is that the proxy runs, where all that was known of it is the version, or where other policies have come to the same content.
func (s *subscription) confirm(desired *resourceSet) {
	for _, r := range desired.list {
		if h := s.held[r.Name]; h != nil && h.enforced == r.Version {
			h.good = r
		}
	}
}

// take notes that a flight leaves.
func (s *subscription) take(f *flight, now time.Time) {
	for _, r := range f.resources {
		h := s.at(r.Name)
		if h.standsIn(r) {
			h.standing = false
			continue
		}
		if h.told != r.Version {
			h.told, h.changed = r.Version, now
		}
		delete(s.solo, r.Name)
	}
	for _, name := range f.removed {
		s.at(name).told = ""
	}
	s.flying = f
}

// version names what the proxy holds once it has applied a flight. What it refused earlier is not in it: the version that a proxy names as it
// reconnects must not vouch for content that it never took.
func (s *subscription) version(f *flight) string {
	after := make(map[string]string, len(s.held))
	for name, h := range s.held {
		if h.told != "" && h.enforced != "" {
			after[name] = h.enforced
		}
	}
	for _, r := range f.resources {
		after[r.Name] = r.Version
	}
	return stateVersion(after)
}
