package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A test of policies stands on these distinctions: who answered, or how far a request came.
func TestAskTellsHowFarARequestCame(t *testing.T) {
	t.Parallel()
	application := httptest.NewServer(listener{handler: detailsRoutes()}.named("details-v1").handler)
	t.Cleanup(application.Close)
	sidecar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	t.Cleanup(sidecar.Close)
	hangsUp, listens := listen(t), listen(t)
	go func() {
		for {
			c, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	shut := listen(t)
	nobody := shut.Addr().String()
	_ = shut.Close()

	got := asked(t,
		question{ID: "application", URL: application.URL + "/details/0"},
		question{ID: "application, no such page", URL: application.URL + "/other", Method: http.MethodPost, Body: "x"},
		question{ID: "sidecar", URL: sidecar.URL},
		question{ID: "cut", URL: "http://" + hangsUp.Addr().String()},
		question{ID: "silent", URL: "http://" + listens.Addr().String()},
		question{ID: "refused", URL: "http://" + nobody},
	)
	type want struct {
		status   int
		servedBy string
		failure  failure
	}
	for id, w := range map[string]want{
		"application":               {status: 200, servedBy: "details-v1"},
		"application, no such page": {status: 404, servedBy: "details-v1"},
		"sidecar":                   {status: 403},
		"cut":                       {failure: cut},
		"silent":                    {failure: silent},
		"refused":                   {failure: refused},
	} {
		if a := got[id]; (want{a.Status, a.ServedBy, a.Failure}) != w {
			t.Errorf("%s: %+v, want %+v", id, a, w)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func asked(t *testing.T, questions ...question) map[string]answer {
	t.Helper()
	var input, output bytes.Buffer
	for _, q := range questions {
		if err := json.NewEncoder(&input).Encode(q); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(t.Context(), []string{"--timeout", (300 * time.Millisecond).String()}, &input, &output, io.Discard); err != nil {
		t.Fatal(err)
	}
	got := map[string]answer{}
	for line := range strings.Lines(output.String()) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		got[a.ID] = a
	}
	return got
}
