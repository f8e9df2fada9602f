package podauth

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reviewed is what the API server says of a token.
type Reviewed struct {
	Authenticated bool
	Username      string
	Audiences     []string
	PodName       string
	PodUID        string
}

// Review asks the API server about a token (TokenReview).
type Review func(ctx context.Context, token string, audiences []string) (Reviewed, error)

// How long an answer stands. A good one is not asked for again while a sidecar reconnects; it never outlives its token.
const (
	goodFor    = 5 * time.Minute
	badFor     = 10 * time.Second
	maxReviews = 20_000
)

// reviews remembers answers by the token's hash.
type reviews struct {
	ask      Review
	audience string
	now      func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]reviewed
}

type reviewed struct {
	answer Reviewed
	until  time.Time
}

func newReviews(ask Review, audience string, now func() time.Time) *reviews {
	return &reviews{ask: ask, audience: audience, now: now, known: map[[sha256.Size]byte]reviewed{}}
}

// review is for clusters that publish no keys: the API server is asked. While it is away only what it said lately stands, and nobody new comes in.
func (a *Authenticator) review(ctx context.Context, token string, parsed *jwt.JSONWebToken) (identity, error) {
	c, err := unverified(parsed)
	if err != nil || c.Expiry == nil || a.config.Now().After(c.Expiry.Time().Add(leeway)) {
		return identity{}, refuse("the token has ended, or is no service account token")
	}
	answer, err := a.reviews.get(ctx, token, c.Expiry.Time())
	if err != nil {
		return identity{}, status.Error(codes.Unavailable, "the API server, which knows whose the token is, does not answer")
	}
	id, err := c.identity()
	if err != nil {
		return identity{}, err
	}
	if !answer.Authenticated || answer.PodName != id.pod || answer.PodUID != id.uid || answer.Username != c.Subject || len(answer.Audiences) != 1 || answer.Audiences[0] != a.config.Audience {
		return identity{}, refuse("the API server does not vouch for the token")
	}
	return id, nil
}

func (r *reviews) get(ctx context.Context, token string, expires time.Time) (Reviewed, error) {
	if r.ask == nil {
		return Reviewed{}, status.Error(codes.Unavailable, "nobody to ask")
	}
	key := sha256.Sum256([]byte(token))
	r.mu.Lock()
	known, found := r.known[key]
	r.mu.Unlock()
	if found && r.now().Before(known.until) {
		return known.answer, nil
	}
	answer, err := r.ask(ctx, token, []string{r.audience})
	if err != nil {
		return Reviewed{}, err
	}
	until := r.now().Add(badFor)
	if answer.Authenticated {
		until = r.now().Add(goodFor)
		if expires.Before(until) {
			until = expires
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxReviews {
		clear(r.known)
	}
	r.known[key] = reviewed{answer, until}
	return answer, nil
}
