package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProbedFailsWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	p := &probed{}
	control := httptest.NewServer(p.control())
	t.Cleanup(control.Close)
	tell := func(path string) {
		t.Helper()
		resp, err := http.Post(control.URL+path, "", http.NoBody)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		_ = resp.Body.Close()
	}
	status := func(path string) int {
		w := httptest.NewRecorder()
		p.http(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w.Code
	}
	if got := []int{status("/healthz?check=full"), status("/healthz")}; got[0] != 200 || got[1] != 400 {
		t.Errorf("with and without the query: %v", got)
	}
	tell("/http/ill")
	if got := status("/healthz?check=full"); got != 500 {
		t.Errorf("ill: %d", got)
	}
	tell("/http/well")

	server := httptest.NewUnstartedServer(http.HandlerFunc(p.grpc))
	server.Config.Protocols = &http.Protocols{}
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{Protocols: server.Config.Protocols}
	t.Cleanup(transport.CloseIdleConnections)
	check := func() (byte, string) {
		t.Helper()
		resp, err := (&http.Client{Transport: transport}).Post(server.URL+"/grpc.health.v1.Health/Check", "application/grpc", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) != 7 {
			t.Fatalf("%v %v", body, err)
		}
		return body[6], resp.Trailer.Get("Grpc-Status")
	}
	if got, trailer := check(); got != 1 || trailer != "0" {
		t.Errorf("well: %d, status %q", got, trailer)
	}
	tell("/grpc/ill")
	if got, _ := check(); got != 2 {
		t.Errorf("ill: %d", got)
	}
}
