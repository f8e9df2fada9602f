package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// site is bookinfo in one process, and a browser before it.
type site struct {
	t        *testing.T
	ingress  *httptest.Server
	browser  *http.Client
	lastUser func() string // the end-user that reviews saw last
}

// start serves handlers that stand for details, reviews and ratings; nil ones are the real ones.
func start(t *testing.T, details, reviewsHandler, ratingsHandler http.Handler) *site {
	t.Helper()
	serve := func(name string, h http.Handler) string {
		server := httptest.NewServer(listener{handler: h}.named(name).handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	call := func(service, base string) *client {
		c, err := newClient(service, base, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.http.CloseIdleConnections)
		return c
	}
	if details == nil {
		details = detailsRoutes()
	}
	if ratingsHandler == nil {
		ratingsHandler = newRatings().routes()
	}
	ratingsURL := serve("ratings-v1", ratingsHandler)
	if reviewsHandler == nil {
		reviewsHandler = (&reviews{version: "v3", stars: "red", ratings: call("ratings", ratingsURL)}).routes()
	}
	var mu sync.Mutex
	var seen string
	watched := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = r.Header.Get(endUser)
		mu.Unlock()
		reviewsHandler.ServeHTTP(w, r)
	})
	page := &productpage{
		details: call("details", serve("details-v1", details)), reviews: call("reviews", serve("reviews-v3", watched)), ratings: call("ratings", ratingsURL),
	}
	in := &ingress{upstream: call("productpage", serve("productpage-v1", page.routes()))}
	s := &site{t: t, ingress: httptest.NewServer(listener{handler: in.proxy()}.named("ingress").handler), lastUser: func() string {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}}
	t.Cleanup(s.ingress.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.browser = &http.Client{Jar: jar, Timeout: answerTimeout}
	return s
}

// ask sends a request, follows redirects as a browser does, and returns what is shown.
func (s *site) ask(method, path string, form url.Values, header http.Header) (status int, text string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.ingress.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := s.browser.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (s *site) shows(method, path string, form url.Values, wantStatus int, want ...string) {
	s.t.Helper()
	status, text := s.ask(method, path, form, nil)
	if status != wantStatus {
		s.t.Errorf("%s %s: %d, want %d", method, path, status, wantStatus)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			s.t.Errorf("%s %s lacks %q:\n%s", method, path, w, text)
		}
	}
}

func TestPageShowsTheWholeChain(t *testing.T) {
	t.Parallel()
	s := start(t, nil, nil, nil)
	s.shows("GET", "/", nil, http.StatusOK,
		"<h1 id=\"title\">The Comedy of Errors</h1>", "123-1234567890", "Reviewer1", "5 out of 5 stars", "4 out of 5 stars", `class="cards red"`, "Sign in")
}

func TestRefusalsAreShownWithWhoDecided(t *testing.T) {
	t.Parallel()
	sidecar := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Del(servedBy)
		http.Error(w, "RBAC: access denied", http.StatusForbidden)
	})
	application := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, http.StatusForbidden, "no") })
	t.Run("sidecars", func(t *testing.T) {
		t.Parallel()
		start(t, sidecar, sidecar, nil).shows("GET", "/productpage", nil, http.StatusOK,
			"details unavailable (403, decided by the sidecar of details)", "reviews unavailable (403, decided by the sidecar of reviews)")
	})
	t.Run("applications", func(t *testing.T) {
		t.Parallel()
		start(t, application, nil, application).shows("GET", "/productpage", nil, http.StatusOK,
			"details unavailable (403, decided by the application details-v1: no)", "ratings unavailable (403, decided by the application ratings-v1: no)", "Reviewer1")
	})
}

func TestWhoIsSignedInIsHandedOn(t *testing.T) {
	t.Parallel()
	s := start(t, nil, nil, nil)
	s.shows("POST", "/productpage/ratings", url.Values{"stars": {"4"}}, http.StatusUnauthorized, "Your stars were not taken: ratings unavailable (401, decided by the application ratings-v1: sign in first)")
	s.shows("POST", "/login", url.Values{"user": {"jason"}}, http.StatusOK, "Signed in as <strong>jason</strong>")
	if got := s.lastUser(); got != "jason" {
		t.Errorf("reviews saw end-user %q, want jason", got)
	}
	s.shows("POST", "/productpage/ratings", url.Values{"stars": {"4"}}, http.StatusOK, "Stars from readers", "jason")
	s.shows("POST", "/productpage/ratings", url.Values{"stars": {"9"}}, http.StatusBadRequest, "Your stars were not taken")
	s.shows("POST", "/logout", url.Values{}, http.StatusOK, "Sign in")
	if _, _ = s.ask("GET", "/productpage", nil, http.Header{endUser: {"mallory"}}); s.lastUser() != "" {
		t.Errorf("a header from outside was handed on as end-user %q", s.lastUser())
	}
}

func TestNamesThatNeedQuotingAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, nil, nil, nil)
	for _, name := range []string{"", "a b", "a\r\nend-user: b", `"`, "é", "<b>", strings.Repeat("a", maxUser+1)} {
		s.shows("POST", "/login", url.Values{"user": {name}}, http.StatusBadRequest, "A name has at most 32")
	}
	// A cookie is anybody's to write.
	if _, _ = s.ask("GET", "/productpage", nil, http.Header{"Cookie": {"user=a b"}}); s.lastUser() != "" {
		t.Errorf("a forged cookie was handed on as end-user %q", s.lastUser())
	}
}

func TestIngressLeavesTheHost(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r }))
	t.Cleanup(upstream.Close)
	c, err := newClient("productpage", upstream.URL, "127.0.0.9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	r := httptest.NewRequest(http.MethodGet, "http://bookinfo.example/productpage", http.NoBody)
	(&ingress{upstream: c}).proxy().ServeHTTP(httptest.NewRecorder(), r)
	seen := <-got
	if seen.Host != "bookinfo.example" {
		t.Errorf("host %q, want bookinfo.example", seen.Host)
	}
	if from, _, _ := net.SplitHostPort(seen.RemoteAddr); from != "127.0.0.9" {
		t.Errorf("the connection came from %s, want the source address 127.0.0.9", from)
	}
}

func TestVersionsOfReviews(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"v1": "", "v2": "black", "v3": "red"} {
		o := &options{role: roleReviews, version: version, rate: "http://127.0.0.1:1"}
		listeners, err := o.listeners()
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		listeners[0].handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/reviews/0", http.NoBody))
		body := answer.Body.String()
		if got := strings.Contains(body, `"color"`); got != (want != "") || !strings.Contains(body, want) {
			t.Errorf("%s: want colour %q: %s", version, want, body)
		}
		// v1 never calls ratings: nothing can fail there.
		if got := strings.Contains(body, "ratings unavailable"); got != (want != "") {
			t.Errorf("%s: called ratings: %t", version, got)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"no role":         {},
		"unknown role":    {"--role=cache"},
		"argument":        {"--role=details", "more"},
		"source address":  {"--role=productpage", "--source-address=here"},
		"base URL":        {"--role=productpage", "--details=details:9080"},
		"listen address":  {"--role=details", "--listen=256.0.0.1:1"},
		"ingress without": {"--role=ingress", "--productpage="},
	} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%s: %q is accepted", name, args)
		}
	}
}

// logLines hands on what a program logs.
type logLines struct{ lines chan string }

func (l logLines) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		l.lines <- string(line)
	}
	return len(p), nil
}

// address waits for the address that the program logs.
func (l logLines) address(t *testing.T) string {
	t.Helper()
	for {
		select {
		case line := <-l.lines:
			if _, rest, found := strings.Cut(line, "address="); found {
				address, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
				return address
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no address was logged")
		}
	}
}

func TestStopEndsStreams(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logs := logLines{make(chan string, 16)}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"--role=reviews", "--listen=127.0.0.1:0"}, logs) }()
	base := "http://" + logs.address(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/reviews/0/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for events := 0; events < 3; {
		if !lines.Scan() {
			t.Fatalf("the stream ended after %d events", events)
		}
		if strings.HasPrefix(lines.Text(), "data:") {
			events++
		}
	}
	cancel()
	open := lines.Scan()
	for open {
		open = lines.Scan()
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(2 * stopTime):
		t.Error("the program does not stop")
	}
}

func TestIngressServesTLSAndAdmin(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	}))
	t.Cleanup(page.Close)
	logs := logLines{make(chan string, 16)}
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"--role=ingress", "--listen=127.0.0.1:0", "--tls-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--productpage=" + page.URL}, logs)
	}()
	plain, secure, admin := logs.address(t), logs.address(t), logs.address(t)
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	for url, want := range map[string]string{
		"http://" + plain + "/": "http", "https://" + secure + "/": "https", "http://" + admin + "/": "upstream " + page.URL + "\n", "http://" + admin + "/healthz": "ok\n",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if closing := resp.Body.Close(); err != nil || closing != nil {
			t.Fatal(err, closing)
		}
		if string(body) != want {
			t.Errorf("%s: %q, want %q", url, body, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, role := range []string{roleProductpage, roleDetails, roleReviews, roleRatings} {
		o, err := parse([]string{"--role=" + role}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		listeners, err := o.listeners()
		if err != nil {
			t.Fatal(err)
		}
		answer := httptest.NewRecorder()
		listeners[0].handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
		if answer.Code != http.StatusOK || answer.Header().Get(servedBy) != role+"-v1" {
			t.Errorf("%s: %d, served by %q", role, answer.Code, answer.Header().Get(servedBy))
		}
	}
}
