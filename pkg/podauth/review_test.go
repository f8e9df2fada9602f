package podauth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/pilot-lite/pilot-lite/pkg/podauth"
)

// Where keys are not published, or not to us, the API server is asked once for each token, and what it says is held against what the token says.
func TestReviews(t *testing.T) {
	t.Parallel()
	key := newEC(t, "1")
	for name, c := range map[string]struct {
		want   codes.Code
		change func(*podauth.Reviewed)
	}{
		"vouched for":                          {codes.OK, func(*podauth.Reviewed) {}},
		"not authenticated":                    {codes.Unauthenticated, func(r *podauth.Reviewed) { r.Authenticated = false }},
		"another user":                         {codes.Unauthenticated, func(r *podauth.Reviewed) { r.Username = "system:serviceaccount:shop:admin" }},
		"another account of that name":         {codes.Unauthenticated, func(r *podauth.Reviewed) { r.AccountUID = "other" }},
		"another pod":                          {codes.Unauthenticated, func(r *podauth.Reviewed) { r.PodName = "cart-2" }},
		"another pod's UID":                    {codes.Unauthenticated, func(r *podauth.Reviewed) { r.PodUID = "other" }},
		"bound to no pod":                      {codes.Unauthenticated, func(r *podauth.Reviewed) { r.PodName, r.PodUID = "", "" }},
		"an API server that knows no audience": {codes.Unauthenticated, func(r *podauth.Reviewed) { r.Audiences = nil }},
		"another audience":                     {codes.Unauthenticated, func(r *podauth.Reviewed) { r.Audiences = []string{"x"} }},
	} {
		for _, failure := range []error{notFound(), forbidden()} {
			server := newAPIServer(key)
			server.failure = failure
			c.change(&server.answer)
			a := podauth.New(server.config())
			for range 3 {
				_, err := present(a, key.token(t, bound(time.Unix(1<<31, 0), set("nbf", 0), set("iat", 0))))
				wants(t, name, c.want, err)
			}
		}
	}
}

// A good answer stands for five minutes and never beyond its token; a bad one for ten seconds.
func TestHowLongReviewsStand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEC(t, "1")
		server := newAPIServer(key)
		server.failure = notFound()
		a := podauth.New(server.config())
		token := key.token(t, bound(time.Now()))
		check := func(what, token string, want codes.Code, reviews int) {
			t.Helper()
			_, err := present(a, token)
			wants(t, what, want, err)
			if _, got := server.asked(); got != reviews {
				t.Errorf("%s: %d reviews so far, want %d", what, got, reviews)
			}
		}
		for range 1000 {
			check("a sidecar that comes back", token, codes.OK, 1)
		}
		server.change(func(s *apiServer) { s.answer.Authenticated = false })
		time.Sleep(4*time.Minute + 59*time.Second)
		check("within five minutes", token, codes.OK, 1)
		time.Sleep(2 * time.Second)
		check("after five minutes", token, codes.Unauthenticated, 2)
		time.Sleep(9 * time.Second)
		server.change(func(s *apiServer) { s.answer.Authenticated = true })
		check("within ten seconds of a refusal", token, codes.Unauthenticated, 2)
		time.Sleep(2 * time.Second)
		check("after ten seconds", token, codes.OK, 3)
		short := key.token(t, bound(time.Now(), set("exp", time.Now().Add(time.Minute).Unix())))
		check("a token for a minute", short, codes.OK, 4)
		time.Sleep(61 * time.Second)
		check("when it has ended the answer has too", short, codes.OK, 5) // the leeway: clocks differ, and the API server decides
		time.Sleep(time.Minute)
		check("and it is refused without asking", short, codes.Unauthenticated, 5)
	})
}

// While nobody can be asked, those who were vouched for come back, and nobody new comes in. With the API server back they do.
func TestReviewsThatFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := newEC(t, "1")
		server := newAPIServer(key)
		server.failure = forbidden()
		a := podauth.New(server.config())
		old := key.token(t, bound(time.Now()))
		_, err := present(a, old)
		wants(t, "before", codes.OK, err)
		server.change(func(s *apiServer) { s.refusal = errors.New("connection refused") })
		fresh := key.token(t, bound(time.Now(), set("jti", "5")))
		_, err = present(a, fresh)
		wants(t, "somebody new", codes.Unavailable, err)
		_, err = present(a, old)
		wants(t, "somebody known", codes.OK, err)
		time.Sleep(5*time.Minute + time.Second)
		_, err = present(a, old)
		wants(t, "somebody known too long ago", codes.Unavailable, err)
		server.change(func(s *apiServer) { s.refusal = nil })
		_, err = present(a, fresh)
		wants(t, "somebody new, with the API server back", codes.OK, err)

		// An API server that was let publish its keys meanwhile is not asked any more.
		server.change(func(s *apiServer) { s.failure = nil })
		_, before := server.asked()
		time.Sleep(6 * time.Second)
		_, err = present(a, key.token(t, bound(time.Now(), set("jti", "6"))))
		wants(t, "with published keys", codes.OK, err)
		if _, reviews := server.asked(); reviews != before {
			t.Error("asked all the same")
		}
	})
}

// Nobody to ask: nobody is let in.
func TestNoReviews(t *testing.T) {
	t.Parallel()
	key := newEC(t, "1")
	server := newAPIServer(key)
	server.failure = notFound()
	c := server.config()
	c.Review = nil
	_, err := present(podauth.New(c), key.token(t, bound(time.Now())))
	wants(t, "nobody to ask", codes.Unavailable, err)
}

// Strangers do not make the API server work: what they can make up is refused without asking, and what has to be asked is asked a few at a time.
func TestReviewsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stranger := newEC(t, "1")
		server := newAPIServer()
		server.failure = notFound()
		var mu sync.Mutex
		asking, most := 0, 0
		c := server.config()
		c.Review = func(ctx context.Context, token string, audiences []string) (podauth.Reviewed, error) {
			mu.Lock()
			asking++
			most = max(most, asking)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			asking--
			mu.Unlock()
			_, _ = server.review(ctx, token, audiences)
			return podauth.Reviewed{}, nil
		}
		a := podauth.New(c)
		for i, change := range []func(claim){
			set("aud", "other"), set("exp", time.Now().Add(-time.Hour).Unix()), inKubernetes(without("pod")), inKubernetes(set("pod", claim{"name": "cart-1", "uid": "guessed"})),
			inKubernetes(set("pod", claim{"name": "nobody", "uid": "x"})), set("sub", "x"),
		} {
			if _, err := present(a, stranger.token(t, bound(time.Now(), change))); err == nil {
				t.Errorf("%d: let in", i)
			}
		}
		server.costs(t, "made up", 1, 0)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				_, err := present(a, stranger.token(t, bound(time.Now(), set("jti", fmt.Sprint(i)))))
				wants(t, "a forged token of a pod that there is", codes.Unauthenticated, err)
			})
		}
		all.Wait()
		if most > 16 {
			t.Errorf("%d questions at once", most)
		}
	})
}
