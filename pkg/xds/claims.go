package xds

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Authenticator proves, from a stream's credentials alone and before anything that it says is looked at, which node it is.
type Authenticator interface {
	Authenticate(ctx context.Context) (Claim, error)
}

// Claim is what a stream's credentials prove.
type Claim struct {
	Node string // "NAMESPACE/POD"
	// UID is the pod's: one that was made anew under the same name is another. "" where the credentials do not say.
	UID     string
	Expires time.Time // zero: never
	// Standing is asked while the stream is open: an error ends it. Nil: it stands.
	Standing func() error
}

const (
	// claimInterval is how often an open stream's claim is looked at.
	claimInterval = 10 * time.Second
	// expiredGrace is how long a stream outlives its token: the sidecar is given its next one before, and comes back with it.
	expiredGrace = time.Minute
)

// claimKey carries a stream's claim from the interceptor to the service.
type claimKey struct{}

// check says why a claim does not stand any more.
func (c *Claim) check(now time.Time) error {
	if !c.Expires.IsZero() && now.After(c.Expires.Add(expiredGrace)) {
		return status.Error(codes.Unauthenticated, "the stream's token has expired: come back with the next one")
	}
	if c.Standing != nil {
		return c.Standing()
	}
	return nil
}

// nodeOf is the node whose configuration a stream gets. A stream that an earlier pod of the same name opened gets nobody's, from the very update that knows of
// the new pod on: its claim is looked at only now and then, and another pod's configuration is never served.
func (c *Cache) nodeOf(s *stream) (node, bool) {
	n, known := c.nodes[s.node]
	if !known || s.claim.UID != "" && s.claim.UID != n.UID {
		return node{}, false
	}
	return n, true
}

// stray says whether a stream is that of an earlier pod of its node's name.
func (c *Cache) stray(s *stream) bool {
	_, same := c.nodeOf(s)
	_, known := c.nodes[s.node]
	return known && !same
}
