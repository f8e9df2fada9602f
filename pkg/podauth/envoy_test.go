package podauth_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pilot-lite/pilot-lite/internal/apitest"
	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
	"github.com/pilot-lite/pilot-lite/pkg/identity"
	"github.com/pilot-lite/pilot-lite/pkg/podauth"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// rotating are settings of an authority that is made years ago, and a clock that is set apart from the real one, which Envoy goes by. At rotateSoon the authority
// gets a successor, at rotateNow that signs; what is signed at either holds at the real time too.
func rotating() (c identity.Config, set func(ahead time.Duration)) {
	const year = 365 * 24 * time.Hour
	var ahead atomic.Int64
	ahead.Store(int64(-7 * year))
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.Lifetimes = identity.Lifetimes{Authority: 10 * year, Successor: 4 * year, Overlap: 61 * time.Minute, Leaf: 60 * time.Minute}
	c.Interval = 20 * time.Millisecond
	return c, func(d time.Duration) { ahead.Store(int64(d)) }
}

const (
	rotateSoon = -58 * time.Minute
	rotateNow  = rotateSoon + 62*time.Minute
)

// connected says whether the sidecar's stream stands, as which pod.
func connected(cache *xds.Cache, uid string) error {
	for _, p := range cache.Status() {
		if p.Node == "shop/cart-1" && p.UID == uid && p.Connected {
			return nil
		}
	}
	return errors.New("it is not connected")
}

// A real Envoy with an injected pod's bootstrap comes in by its pod's token, trusts the certificate of an authority that was a successor when the pod was injected,
// is shut out when its pod is another, and comes in again with that one's token.
func TestARealSidecar(t *testing.T) {
	t.Parallel()
	envoytest.Binary(t)
	key := newEC(t, "1")
	api := newAPIServer(key)
	cache := cacheOf(t, map[string]string{"shop/cart-1": "pod-uid"})
	authority, setClock := rotating()
	p := serveAs(t, cache, api.config(), authority)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.identity.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	first := p.identity.Bundle()
	setClock(rotateSoon)
	apitest.Eventually(t, 10*time.Second, "there is a successor", func() error {
		if string(p.identity.Bundle()) == string(first) {
			return errors.New("there is none")
		}
		return nil
	})
	signer := func() string {
		state, err := p.handshake()
		if err != nil {
			t.Fatal(err)
		}
		return string(state.PeerCertificates[0].AuthorityKeyId)
	}
	dir := t.TempDir()
	token, admin := filepath.Join(dir, "token"), envoytest.AdminSocket(t)
	give := func(text string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(token+".new", []byte(text), 0o600), os.Rename(token+".new", token)); err != nil {
			t.Fatal(err)
		}
	}
	give(key.token(t, bound(time.Now())))
	b, err := bootstrap.BuildSidecar(bootstrap.Sidecar{Server: p.address, ServerName: serverName, CABundle: p.identity.Bundle(), TokenPath: token, AdminPath: admin})
	if err != nil {
		t.Fatal(err)
	}
	args, err := bootstrap.Args(b)
	if err != nil {
		t.Fatal(err)
	}
	envoy := envoytest.StartArgs(t, sidecartest.Expand(args, "127.31.7.1"), admin)
	envoy.Eventually("it is served", func() error { return connected(cache, "pod-uid") })

	before := signer()
	setClock(rotateNow)
	apitest.Eventually(t, 20*time.Second, "the successor signs", func() error {
		if signer() == before {
			return errors.New("it does not")
		}
		return nil
	})
	if err := connected(cache, "pod-uid"); err != nil {
		t.Errorf("an open stream ended with the rotation: %v", err)
	}
	p.stop()
	p.listen()
	envoy.Eventually("it trusts the successor", func() error { return connected(cache, "pod-uid") })

	api.change(func(s *apiServer) { s.pods["shop/cart-1"] = podauth.Pod{UID: "new", ServiceAccount: "cart"} })
	envoy.Eventually("it is shut out", func() error {
		if connected(cache, "pod-uid") == nil {
			return errors.New("it is connected")
		}
		return nil
	})
	give(key.token(t, bound(time.Now(), inKubernetes(set("pod", claim{"name": "cart-1", "uid": "new"})))))
	cache.Set(updateOf(t, map[string]string{"shop/cart-1": "new"}))
	envoy.Eventually("it comes in with the new pod's token", func() error { return connected(cache, "new") })
	p.stop()
	if strings.Contains(p.log.String(), "eyJ") {
		t.Errorf("a token is in the log:\n%s", p.log.String())
	}
}
