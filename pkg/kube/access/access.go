// Package access lets callers over HTTP read what the API server lets them read. Input: a bearer token, from anybody who can reach the port. Output: the page behind,
// or why not; while the API server cannot be asked, nobody new gets it. What strangers can make it ask, and hold, is bounded. Entry points: New and Gate.Guard.
package access

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/pilot-lite/pilot-lite/internal/answers"
)

// TokenReviews says whose a token is: the typed client for TokenReviews has it.
type TokenReviews interface {
	Create(ctx context.Context, r *authenticationv1.TokenReview, o metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

// SubjectAccessReviews says what somebody may do: the typed client for SubjectAccessReviews has it.
type SubjectAccessReviews interface {
	Create(ctx context.Context, r *authorizationv1.SubjectAccessReview, o metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error)
}

// Config is what a Gate needs.
type Config struct {
	Tokens  TokenReviews
	Reviews SubjectAccessReviews
	Logger  *slog.Logger
}

// How long an answer stands: a right that is taken away holds for as long, and a scraper costs two questions in that time.
const (
	goodFor = 30 * time.Second
	badFor  = 10 * time.Second
)

// What strangers can make us do. A token that was never seen costs one question, or two where it is somebody's.
const (
	maxToken     = 16 << 10
	maxKnown     = 1024
	askTime      = 5 * time.Second
	askAtOnce    = 4
	askPerSecond = 5
	askBurst     = 20
)

// Gate stands before pages.
type Gate struct {
	config Config
	asking chan struct{} // as many as may ask at once
	rate   flowcontrol.PassiveRateLimiter

	known      *answers.Answers[key, int] // statuses
	complaints answers.Complaints
}

// key is a token, by its hash, and a path.
type key struct {
	token [sha256.Size]byte
	path  string
}

// New returns a gate that knows nobody yet.
func New(c Config) *Gate {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Gate{
		config: c, asking: make(chan struct{}, askAtOnce), rate: flowcontrol.NewTokenBucketPassiveRateLimiter(askPerSecond, askBurst), known: answers.New[key, int](maxKnown),
	}
}

// Guard lets those read a page who may "get" its path (nonResourceURLs). What is answered to others repeats nothing of what they sent.
func (g *Gate) Guard(path string, page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusUnauthorized
		if token, is := bearer(r); is {
			status = g.status(r.Context(), token, path)
		}
		switch status {
		case http.StatusOK:
			page.ServeHTTP(w, r)
			return
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", "10")
		}
		http.Error(w, text(status, path), status)
	})
}

// text says what to do, to people who try it by hand.
func text(status int, path string) string {
	switch status {
	case http.StatusUnauthorized:
		return "send a token that the API server knows: Authorization: Bearer TOKEN"
	case http.StatusForbidden:
		return `the token's owner may not "get" the nonResourceURL ` + path + ": bind a ClusterRole that lets them"
	case http.StatusTooManyRequests:
		return "too many unknown tokens at once: try again"
	}
	return "the API server, which knows who may read this, does not answer"
}

// bearer is the one token of a request.
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	token, is := strings.CutPrefix(values[0], "Bearer ")
	return token, is && token != "" && len(token) <= maxToken
}

// status is 200 for who may read the path, and what to answer to anybody else.
func (g *Gate) status(ctx context.Context, token, path string) int {
	k := key{sha256.Sum256([]byte(token)), path}
	last, stands := g.known.Look(k, time.Now())
	switch {
	case stands:
		return last
	case last == http.StatusOK: // who was let in lately does not queue behind strangers
	case !g.rate.TryAccept():
		return http.StatusTooManyRequests
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
	case <-ctx.Done():
		return http.StatusServiceUnavailable
	}
	if last, stands := g.known.Look(k, time.Now()); stands { // another request with the token was faster
		return last
	}
	status, err := g.ask(ctx, token, path)
	if err != nil {
		g.complaints.Make(g.config.Logger, time.Now(), "the API server cannot be asked who may read: nobody new is let in", err)
		return http.StatusServiceUnavailable
	}
	g.keep(k, status)
	return status
}

// ask asks whose the token is, and what they may do. An error is no answer, and is not remembered.
func (g *Gate) ask(ctx context.Context, token, path string) (int, error) {
	// Without audiences of ours: scrapers have the token that they ask the API server with.
	whose, err := g.config.Tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return 0, fmt.Errorf("review a token: %w", err)
	case !whose.Status.Authenticated:
		return http.StatusUnauthorized, nil
	}
	user := whose.Status.User
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
	}
	for name, values := range user.Extra {
		if spec.Extra == nil {
			spec.Extra = map[string]authorizationv1.ExtraValue{}
		}
		spec.Extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := g.config.Reviews.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return 0, fmt.Errorf("review access: %w", err)
	case !may.Status.Allowed || may.Status.Denied:
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}

func (g *Gate) keep(k key, status int) {
	now := time.Now()
	until := now.Add(badFor)
	if status == http.StatusOK {
		until = now.Add(goodFor)
	}
	g.known.Keep(k, status, now, until)
}
