package kube_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"

	"github.com/pilot-lite/pilot-lite/pkg/kube"
)

// load reads what a client's configuration leads to, once.
func load(t *testing.T, ctx context.Context, c *rest.Config, tell func(string)) error {
	t.Helper()
	clients, err := kube.NewClients(rest.CopyConfig(c), "test")
	if err != nil {
		t.Fatal(err)
	}
	_, err = kube.Load(ctx, kube.Config{Client: clients.Client, Policies: clients.Policies, Namespace: system, TellEvery: time.Millisecond}, tell)
	return err
}

func says(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("read")
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not told of: %v", text, err)
		}
	}
}

// What no waiting mends ends a reading at once, with its cause and what to do.
func TestLoadGivesUp(t *testing.T) {
	t.Parallel()
	nobody, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	says(t, load(t, t.Context(), &rest.Config{Host: "http://" + gone}, silence), "connection refused", gone, "start the cluster")

	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	says(t, load(t, t.Context(), &rest.Config{Host: stranger.URL}, silence), "certificate", "take the kubeconfig anew")

	for code, want := range map[int]string{
		http.StatusUnauthorized: "log in again", http.StatusForbidden: "to the kubeconfig's user", http.StatusNotFound: "install the definition of ",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			body, _ := json.Marshal(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Message: "no"})
			_, _ = w.Write(body)
		}))
		t.Cleanup(server.Close)
		says(t, load(t, t.Context(), &rest.Config{Host: server.URL}, silence), want)
	}
}

// What may yet come is waited for, aloud; and when the time is over, the last error is told.
func TestLoadWaits(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "starting up", http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	told := ""
	err := load(t, ctx, &rest.Config{Host: server.URL}, func(why string) {
		if told = why; strings.Contains(why, "unable to handle") {
			cancel()
		}
	})
	says(t, err, "still waiting for namespaces, ", "unable to handle", "answers kubectl")
	if !strings.HasPrefix(told, "waiting for namespaces, ") {
		t.Errorf("told: %s", told)
	}
}

// loads: a user of an API server who may not read a kind is told at once which, and one who may read everything reads it.
func (c *cluster) loads(t *testing.T) {
	t.Parallel()
	if err := load(t, t.Context(), c.User(account), silence); err != nil {
		t.Error(err)
	}
	c.without(t, "loads", "endpointslices")
	says(t, load(t, t.Context(), c.User("loads"), silence), "grant list and watch of endpointslices to the kubeconfig's user", "is forbidden")
	says(t, load(t, t.Context(), &rest.Config{Host: c.Config().Host, BearerToken: "none", TLSClientConfig: rest.TLSClientConfig{CAData: c.Config().CAData, CAFile: c.Config().CAFile}},
		silence), "log in again")
}

func silence(string) {}
