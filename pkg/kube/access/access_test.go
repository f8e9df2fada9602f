package access_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pilot-lite/pilot-lite/pkg/kube/access"
)

// apiServer knows the users of tokens, and who of them may read.
type apiServer struct {
	mu       sync.Mutex
	users    map[string]string
	readers  map[string]bool
	denied   bool // by an authorizer that outweighs
	failure  error
	takes    time.Duration
	tokens   int // that were asked about
	last     authorizationv1.SubjectAccessReviewSpec
	now, top int // questions at a time
}

func newAPIServer() *apiServer {
	return &apiServer{users: map[string]string{"scraper": "prometheus", "other": "web"}, readers: map[string]bool{"prometheus": true}}
}

func (s *apiServer) question() (end func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.top = max(s.top, s.now)
	takes, failure := s.takes, s.failure
	return func() {
		time.Sleep(takes)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	}, failure
}

type tokens struct{ *apiServer }

func (s tokens) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	end, err := s.question()
	defer end()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	user, known := s.users[r.Spec.Token]
	r.Status = authenticationv1.TokenReviewStatus{Authenticated: known, User: authenticationv1.UserInfo{
		Username: user, UID: "1", Groups: []string{"system:authenticated"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p"}},
	}}
	return r, nil
}

type reviews struct{ *apiServer }

func (s reviews) Create(_ context.Context, r *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	end, err := s.question()
	defer end()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = r.Spec
	r.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: s.readers[r.Spec.User], Denied: s.denied}
	return r, nil
}

func (s *apiServer) change(c func(*apiServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c(s)
}

// page is guarded by a gate of the server's.
func (s *apiServer) page() http.Handler {
	gate := access.New(access.Config{Tokens: tokens{s}, Reviews: reviews{s}})
	return gate.Guard("/metrics", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "page") }))
}

func get(page http.Handler, authorization ...string) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	page.ServeHTTP(w, r)
	return w
}

// A page is for those whom the API server knows and lets read it; nobody else sees any of it, and what they sent is not repeated to them.
func TestGuard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		authorization []string
		change        func(*apiServer)
		want          int
	}{
		"a scraper":                   {[]string{"Bearer scraper"}, nil, http.StatusOK},
		"somebody else":               {[]string{"Bearer other"}, nil, http.StatusForbidden},
		"a stranger":                  {[]string{"Bearer guessed"}, nil, http.StatusUnauthorized},
		"no token":                    {nil, nil, http.StatusUnauthorized},
		"an empty token":              {[]string{"Bearer "}, nil, http.StatusUnauthorized},
		"another scheme":              {[]string{"Basic scraper"}, nil, http.StatusUnauthorized},
		"two tokens":                  {[]string{"Bearer scraper", "Bearer scraper"}, nil, http.StatusUnauthorized},
		"a token beyond bounds":       {[]string{"Bearer " + strings.Repeat("a", 17<<10)}, nil, http.StatusUnauthorized},
		"an authorizer that denies":   {[]string{"Bearer scraper"}, func(s *apiServer) { s.denied = true }, http.StatusForbidden},
		"an API server that is away":  {[]string{"Bearer scraper"}, func(s *apiServer) { s.failure = errors.New("refused") }, http.StatusServiceUnavailable},
		"and somebody else meanwhile": {[]string{"Bearer other"}, func(s *apiServer) { s.failure = errors.New("refused") }, http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer()
			if c.change != nil {
				c.change(s)
			}
			w := get(s.page(), c.authorization...)
			if w.Code != c.want || (w.Body.String() == "page") != (c.want == http.StatusOK) {
				t.Errorf("got %d %q, want %d", w.Code, w.Body, c.want)
			}
			if strings.Contains(w.Body.String(), "guessed") {
				t.Errorf("the token is repeated: %q", w.Body)
			}
		})
	}
}

// What is asked is whether the token's owner, with all that the API server says of them, may get the path.
func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	s := newAPIServer()
	get(s.page(), "Bearer scraper")
	want := authorizationv1.SubjectAccessReviewSpec{
		User: "prometheus", UID: "1", Groups: []string{"system:authenticated"}, Extra: map[string]authorizationv1.ExtraValue{"pod": {"p"}},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"},
	}
	if diff := cmp.Diff(want, s.last); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A good answer stands for thirty seconds, though the API server goes away; a bad one for ten; and that it is away is remembered by nobody.
func TestHowLongAnswersStand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		page := s.page()
		check := func(what, token string, want, asked int) {
			t.Helper()
			if got := get(page, "Bearer "+token).Code; got != want || s.tokens != asked {
				t.Errorf("%s: got %d after %d questions, want %d after %d", what, got, s.tokens, want, asked)
			}
		}
		for range 100 {
			check("a scraper", "scraper", http.StatusOK, 1)
		}
		s.change(func(s *apiServer) { s.failure = errors.New("refused") })
		time.Sleep(29 * time.Second)
		check("a scraper while the API server is away", "scraper", http.StatusOK, 1)
		check("anybody else", "other", http.StatusServiceUnavailable, 1)
		time.Sleep(2 * time.Second)
		check("a scraper while it stays away", "scraper", http.StatusServiceUnavailable, 1)
		s.change(func(s *apiServer) { s.failure, s.readers = nil, nil })
		check("a scraper that may no more", "scraper", http.StatusForbidden, 2)
		s.change(func(s *apiServer) { s.readers = map[string]bool{"prometheus": true} })
		time.Sleep(9 * time.Second)
		check("that may again, within ten seconds", "scraper", http.StatusForbidden, 2)
		time.Sleep(2 * time.Second)
		check("that may again", "scraper", http.StatusOK, 3)
	})
}

// Strangers make the API server work a few times a second, a few at once, and do not keep out whom it let in before.
func TestStrangersAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		page := s.page()
		if got := get(page, "Bearer scraper").Code; got != http.StatusOK {
			t.Fatalf("the scraper got %d", got)
		}
		s.change(func(s *apiServer) { s.takes = 100 * time.Millisecond })
		time.Sleep(31 * time.Second)
		answers := map[int]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				code := get(page, fmt.Sprint("Bearer guessed", i)).Code
				mu.Lock()
				defer mu.Unlock()
				answers[code]++
			})
		}
		all.Go(func() {
			if got := get(page, "Bearer scraper").Code; got != http.StatusOK {
				t.Errorf("the scraper got %d among strangers", got)
			}
		})
		all.Wait()
		if diff := cmp.Diff(map[int]int{http.StatusUnauthorized: 20, http.StatusTooManyRequests: 980}, answers); diff != "" {
			t.Errorf("answers to a thousand at once (-want +got):\n%s", diff)
		}
		if s.top > 4 {
			t.Errorf("%d questions at once", s.top)
		}
	})
}

// An API server that does not answer keeps nobody waiting for long, and lets nobody in.
func TestAnAPIServerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newAPIServer()
		s.takes, s.failure = 30*time.Second, errors.New("too late")
		page := s.page()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if got := get(page, fmt.Sprint("Bearer guessed", i)).Code; got != http.StatusServiceUnavailable {
					t.Errorf("got %d", got)
				}
			})
		}
		all.Wait()
	})
}
