package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// rebuilding is a loop whose rebuild has been under way for so long.
type rebuilding time.Duration

func (r rebuilding) Rebuilding() time.Duration { return time.Duration(r) }

// The process is ended for a rebuild that does not end, and for nothing else: not while nothing was read yet, nor while nothing is ready.
func TestHealthz(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		loop rebuilding
		want int
	}{
		"idle":                  {0, http.StatusOK},
		"a long rebuild":        {rebuilding(time.Minute), http.StatusOK},
		"one that does not end": {rebuilding(time.Minute + time.Second), http.StatusServiceUnavailable},
	} {
		h, err := newHealth(t.Context(), "127.0.0.1:0", func() bool { return false }, func() bool { return hung(c.loop) })
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.listener.Close() }()
		for path, want := range map[string]int{"/healthz": c.want, "/readyz": http.StatusServiceUnavailable, metricsPath: http.StatusNotFound} {
			w := httptest.NewRecorder()
			h.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
			if w.Code != want {
				t.Errorf("%s, %s: got %d %q, want %d", name, path, w.Code, w.Body, want)
			}
		}
	}
}
