package xds

import (
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// protocol is a flavour of xDS.
type protocol int

const (
	incremental protocol = iota + 1
	stateOfTheWorld
)

// streamKey names a stream: the two protocols' servers count their own.
type streamKey struct {
	id       int64
	protocol protocol
}

// stream is one ADS stream of a proxy. Guarded by the cache's lock.
type stream struct {
	streamKey
	order  int64  // a newer stream of a node has a higher one
	proved string // the node that its credential proves; "" where none is asked for
	uid    string // and its pod's UID; "" where the credential does not say
	node   string // the node that it is bound to; "" before the first request
	build  string // what the proxy says of its version
	since  time.Time
	types  map[string]*subscription
	handed any // the request that was handed over last
}

// subscription is what a stream wants of one type, and what its proxy holds of it.
type subscription struct {
	typeURL  string
	wildcard bool
	names    map[string]struct{}
	held     map[string]*holding // by name
	claim    string              // state of the world: the version that the proxy says it holds; "" once it was looked at
	solo     map[string]struct{} // names that shared a refused response: each is sent again on its own
	flying   *flight             // the response that was not answered yet
	respond  func(*flight)       // the open watch; nil while there is none
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
	bodies    []*anypb.Any
	version   string            // what the proxy holds once it has applied this
	before    map[string]string // what the proxy was told before of what is in this
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
	for _, r := range desired.list {
		if h := s.held[r.Name]; s.wants(r.Name) && (h == nil || h.told != r.Version) {
			changed = append(changed, r)
		}
	}
	for name, h := range s.held {
		if _, stays := desired.byName[name]; !stays && h.told != "" {
			removed = append(removed, name)
		}
	}
	return changed, removed
}

// take notes that a flight leaves.
func (s *subscription) take(f *flight, now time.Time) {
	f.before = make(map[string]string, len(f.resources)+len(f.removed))
	for _, r := range f.resources {
		h := s.at(r.Name)
		if h.standsIn(r) {
			h.standing = false
			continue
		}
		f.before[r.Name] = h.told
		if h.told != r.Version {
			h.told, h.changed = r.Version, now
		}
		delete(s.solo, r.Name)
	}
	for _, name := range f.removed {
		h := s.at(name)
		f.before[name], h.told = h.told, ""
	}
	f.version = s.version(f)
	s.flying = f
}

// untake is for a flight that never left.
func (s *subscription) untake() {
	for name, told := range s.flying.before {
		if h := s.held[name]; h != nil {
			h.told = told
		}
	}
	s.flying = nil
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
