package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// showPage goes through the whole chain as a browser does: five sidecars between the caller and the stars.
func (w *world) showPage(ctx context.Context, out *output) (bool, error) {
	ingress, err := w.named("ingress")
	if err != nil {
		return false, err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return false, fmt.Errorf("page: %w", err)
	}
	browser := from(w.outsider, closes)
	browser.Jar, browser.CheckRedirect = jar, nil
	base := "http://" + ingress.listen(80).String()
	steps := []struct {
		what, method, path string
		form               url.Values
		status             int
		shows              string
	}{
		{"the page", "GET", "/productpage", nil, http.StatusOK, "The Comedy of Errors"},
		{"stars from nobody", "POST", "/productpage/ratings", url.Values{"stars": {"4"}}, http.StatusForbidden, "decided by the sidecar of ratings"},
		{"sign in as jason", "POST", "/login", url.Values{"user": {"jason"}}, http.StatusOK, "Signed in as"},
		{"stars from jason", "POST", "/productpage/ratings", url.Values{"stars": {"4"}}, http.StatusOK, "Signed in as"},
	}
	out.head("Through the whole chain, as a browser: ingress, productpage, details, reviews, ratings")
	good := true
	for _, s := range steps {
		req, err := http.NewRequestWithContext(ctx, s.method, base+s.path, strings.NewReader(s.form.Encode()))
		if err != nil {
			return false, fmt.Errorf("page: %w", err)
		}
		if s.form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := browser.Do(req)
		if err != nil {
			return false, fmt.Errorf("page: %w", err)
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err = firstError(err, resp.Body.Close()); err != nil {
			return false, fmt.Errorf("page: %w", err)
		}
		as := resp.StatusCode == s.status && strings.Contains(string(text), s.shows)
		good = good && as
		out.check(as, "%-18s %s %s: %d, with %q", s.what, s.method, s.path, resp.StatusCode, s.shows)
	}
	// Each version of reviews has its turn.
	seen := map[string]bool{}
	versions := []string{"reviews v1, no stars", "reviews v2, black stars", "reviews v3, red stars"}
	for range versions {
		text, err := get(ctx, browser, base+"/productpage")
		if err != nil {
			return false, err
		}
		for _, v := range versions {
			seen[v] = seen[v] || strings.Contains(text, v)
		}
	}
	for _, v := range versions {
		good = good && seen[v]
		out.check(seen[v], "%-18s %s", "the page shows", v)
	}
	return good, nil
}

func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}
