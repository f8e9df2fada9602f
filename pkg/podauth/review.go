package podauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/internal/answers"
)

// Reviewed is what the API server says of a token.
type Reviewed struct {
	Authenticated   bool
	Username        string
	AccountUID      string
	Audiences       []string
	PodName, PodUID string
}

// Review asks the API server about a token (TokenReview).
type Review func(ctx context.Context, token string, audiences []string) (Reviewed, error)

// TokenReviews is what is asked of the API server: the typed client for TokenReviews has it.
type TokenReviews interface {
	Create(ctx context.Context, r *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// ReviewBy asks an API server.
func ReviewBy(client TokenReviews) Review {
	return func(ctx context.Context, token string, audiences []string) (Reviewed, error) {
		r, err := client.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences}}, metav1.CreateOptions{})
		if err != nil {
			return Reviewed{}, fmt.Errorf("review a token: %w", err)
		}
		only := func(key string) string {
			if values := r.Status.User.Extra[key]; len(values) == 1 {
				return values[0]
			}
			return ""
		}
		return Reviewed{
			Authenticated: r.Status.Authenticated, Username: r.Status.User.Username, AccountUID: r.Status.User.UID, Audiences: r.Status.Audiences,
			PodName: only("authentication.kubernetes.io/pod-name"), PodUID: only("authentication.kubernetes.io/pod-uid"),
		}, nil
	}
}

// vouches says whether the answer is that the token proves what it says of itself, for this audience alone.
func (r *Reviewed) vouches(c *claims, audience string) bool {
	return r.Authenticated && len(r.Audiences) == 1 && r.Audiences[0] == audience && r.Username == c.Subject && r.AccountUID == c.Kubernetes.ServiceAccount.UID &&
		r.PodName == c.Kubernetes.Pod.Name && r.PodUID == c.Kubernetes.Pod.UID
}

// How long an answer stands. A good one is not asked for again while a sidecar reconnects; it never outlives its token.
const (
	goodFor    = 5 * time.Minute
	badFor     = 10 * time.Second
	maxReviews = 20_000
	// reviewTime bounds a question, and reviewsAtOnce how many are asked at a time: whoever can reach the port can make us ask.
	reviewTime    = 10 * time.Second
	reviewsAtOnce = 16
)

// reviews remembers answers by the token's hash.
type reviews struct {
	ask      Review
	audience string
	now      func() time.Time
	logger   *slog.Logger
	asking   chan struct{} // as many as may ask at once

	known      *answers.Answers[[sha256.Size]byte, Reviewed]
	complaints answers.Complaints
}

func newReviews(ask Review, audience string, now func() time.Time, logger *slog.Logger) *reviews {
	if ask == nil {
		ask = func(context.Context, string, []string) (Reviewed, error) {
			return Reviewed{}, errors.New("there is nobody to ask")
		}
	}
	return &reviews{ask: ask, audience: audience, now: now, logger: logger, asking: make(chan struct{}, reviewsAtOnce), known: answers.New[[sha256.Size]byte, Reviewed](maxReviews)}
}

// review is for clusters that publish no keys: the API server is asked. While it is away only what it said lately stands, and nobody new comes in. What can be
// refused without asking is: a stranger has to name a pod that there is.
func (a *Authenticator) review(ctx context.Context, token string, parsed *jwt.JSONWebToken) (Proof, error) {
	var c claims
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		return Proof{}, refuse("the token is no service account token")
	}
	p, err := a.proof("", &c)
	if err != nil {
		return Proof{}, err
	}
	answer, err := a.reviews.get(ctx, token, p.Expires)
	if err != nil {
		return Proof{}, status.Error(codes.Unavailable, "the API server, which knows whose the token is, does not answer")
	}
	if !answer.vouches(&c, a.config.Audience) {
		return Proof{}, refuse("the API server does not vouch for the token")
	}
	return p, nil
}

func (r *reviews) get(ctx context.Context, token string, expires time.Time) (Reviewed, error) {
	key := sha256.Sum256([]byte(token))
	if answer, found := r.known.Look(key, r.now()); found {
		return answer, nil
	}
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return Reviewed{}, ctx.Err()
	}
	if answer, found := r.known.Look(key, r.now()); found { // another stream of the same proxy was faster
		return answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	answer, err := r.ask(ctx, token, []string{r.audience})
	if err != nil {
		r.complaints.Make(r.logger, r.now(), "the API server cannot be asked about tokens: nobody new is let in", err)
		return Reviewed{}, err
	}
	r.keep(key, answer, expires)
	return answer, nil
}

func (r *reviews) keep(key [sha256.Size]byte, answer Reviewed, expires time.Time) {
	now := r.now()
	until := now.Add(badFor)
	if answer.Authenticated {
		until = now.Add(goodFor)
		if expires.Before(until) {
			until = expires
		}
	}
	r.known.Keep(key, answer, now, until)
}
