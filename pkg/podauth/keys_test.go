package podauth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pilot-lite/pilot-lite/pkg/podauth"
)

func notFound() error { return apierrors.NewNotFound(schema.GroupResource{}, "jwks") }

func forbidden() error {
	return apierrors.NewForbidden(schema.GroupResource{}, "jwks", errors.New("no rights"))
}

// costs wants a number of requests for keys so far, and of reviews.
func (s *apiServer) costs(t testing.TB, what string, requests, reviews int) {
	t.Helper()
	if gotRequests, gotReviews := s.asked(); gotRequests != requests || gotReviews != reviews {
		t.Errorf("%s: %d requests for keys and %d reviews, want %d and %d", what, gotRequests, gotReviews, requests, reviews)
	}
}

// A thousand sidecars that come back at once cost two requests: one for the issuer, one for the keys. So do strangers by the thousand.
func TestReconnectsCostNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key, stranger := newEC(t, "1"), newEC(t, "2")
		server := newAPIServer(key)
		a := podauth.New(server.config())
		const sidecars = 1000
		var tokens []string
		for i := range sidecars {
			name, uid := fmt.Sprintf("cart-%d", i), fmt.Sprintf("uid-%d", i)
			server.pods["shop/"+name] = podauth.Pod{UID: uid, ServiceAccount: "cart"}
			tokens = append(tokens, key.token(t, bound(time.Now(), inKubernetes(set("pod", claim{"name": name, "uid": uid})))))
		}
		for range 2 {
			var all sync.WaitGroup
			for i, token := range tokens {
				all.Go(func() {
					if proof, err := present(a, token); err != nil || proof.Node != fmt.Sprintf("shop/cart-%d", i) {
						t.Errorf("sidecar %d: %+v, %v", i, proof, err)
					}
				})
			}
			all.Wait()
		}
		server.costs(t, "2,000 connections", 2, 0)
		for range sidecars {
			_, err := present(a, stranger.token(t, bound(time.Now())))
			wants(t, "a key that nobody knows", codes.Unauthenticated, err)
		}
		server.costs(t, "1,000 strangers within a moment", 2, 0)
		time.Sleep(5 * time.Second)
		for range sidecars {
			_, _ = present(a, stranger.token(t, bound(time.Now())))
		}
		server.costs(t, "1,000 more, 5 s later", 4, 0)
	})
}

// The API server rotates its keys: a token of the new one is accepted at once, one of the old one until that is withdrawn.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newEC(t, "1"), newEC(t, "2")
		server := newAPIServer(first)
		a := podauth.New(server.config())
		check := func(what string, key *signer, want codes.Code) {
			t.Helper()
			_, err := present(a, key.token(t, bound(time.Now())))
			wants(t, what, want, err)
			synctest.Wait()
		}
		check("the first key", first, codes.OK)
		time.Sleep(time.Minute)
		server.change(func(s *apiServer) { s.keys = append(s.keys, second) })
		check("a new key", second, codes.OK)
		check("the first key", first, codes.OK)
		server.change(func(s *apiServer) { s.keys = s.keys[1:] })
		check("a key that was withdrawn a moment ago", first, codes.OK)
		time.Sleep(5*time.Minute + time.Second)
		check("the second key, whose user lets the keys be read again", second, codes.OK)
		check("a key that was withdrawn", first, codes.Unauthenticated)
		check("the second key", second, codes.OK)
	})
}

// A token that was accepted once is accepted as long as its key is published and it holds, and no longer.
func TestATokenThatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newEC(t, "1"), newEC(t, "2")
		impostor := newEC(t, "1")
		server := newAPIServer(first, second)
		a := podauth.New(server.config())
		known := first.token(t, bound(time.Now()))
		check := func(what string, want codes.Code, keys ...*signer) {
			t.Helper()
			server.change(func(s *apiServer) { s.keys = keys })
			// Of the bubble's clock: keys are old after five minutes.
			time.Sleep(5*time.Minute + time.Second)
			_, err := present(a, second.token(t, bound(time.Now()))) // has old keys read again
			wants(t, what+": another", codes.OK, err)
			synctest.Wait()
			_, err = present(a, known)
			wants(t, what, want, err)
		}
		_, err := present(a, known)
		wants(t, "at first", codes.OK, err)
		check("nothing changed", codes.OK, first, second)
		check("another key has the name of its key", codes.Unauthenticated, impostor, second)
		check("its key is back", codes.OK, first, second)
		check("its key is for something else", codes.Unauthenticated, &signer{"1", jose.RS256, first.key}, second)
		check("its key is withdrawn", codes.Unauthenticated, second)
		time.Sleep(time.Hour) // of the bubble's clock: for as long as the token holds
		check("it has ended", codes.Unauthenticated, first, second)
	})
}

// While the API server is away those whose key is known come back, without waiting for it, and nobody else.
func TestWithoutAnAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		known, unknown := newEC(t, "1"), newEC(t, "2")
		server := newAPIServer(known, unknown)
		server.failure = errors.New("connection refused")
		fresh := podauth.New(server.config())
		_, err := present(fresh, known.token(t, bound(time.Now())))
		wants(t, "before the keys were read once", codes.Unavailable, err)
		server.costs(t, "a failure is no reason to ask about tokens", 1, 0)

		server.change(func(s *apiServer) { s.failure, s.keys = nil, s.keys[:1] })
		time.Sleep(6 * time.Second)
		_, err = present(fresh, known.token(t, bound(time.Now())))
		wants(t, "as it is there", codes.OK, err)

		hang := func(ctx context.Context, _ string) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
		away := false
		c := server.config()
		c.Raw = func(ctx context.Context, path string) ([]byte, error) {
			if away {
				return hang(ctx, path)
			}
			return server.raw(ctx, path)
		}
		a := podauth.New(c)
		_, err = present(a, known.token(t, bound(time.Now())))
		wants(t, "as it is there", codes.OK, err)
		away = true
		for range 24 {
			time.Sleep(time.Hour)
			before := time.Now()
			_, err = present(a, known.token(t, bound(time.Now())))
			wants(t, "a known key", codes.OK, err)
			if waited := time.Since(before); waited > 0 {
				t.Errorf("a sidecar waited %s", waited)
			}
			_, err = present(a, unknown.token(t, bound(time.Now())))
			wants(t, "an unknown key", codes.Unavailable, err)
		}
		_, reviews := server.asked()
		if reviews != 0 {
			t.Errorf("%d reviews", reviews)
		}
	})
}

// Documents that make no sense are as if there were none.
func TestWhatAnAPIServerMayPublish(t *testing.T) {
	t.Parallel()
	key := newEC(t, "1")
	for name, change := range map[string]func(*apiServer){
		"no issuer": func(s *apiServer) { s.issuer = "" },
		"no keys":   func(s *apiServer) { s.keys = nil },
	} {
		server := newAPIServer(key)
		change(server)
		_, err := present(podauth.New(server.config()), key.token(t, bound(time.Now())))
		wants(t, name, codes.Unavailable, err)
	}
	c := newAPIServer(key).config()
	c.Raw = func(context.Context, string) ([]byte, error) { return []byte("<html>"), nil }
	_, err := present(podauth.New(c), key.token(t, bound(time.Now())))
	wants(t, "no JSON", codes.Unavailable, err)
}
