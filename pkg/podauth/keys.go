package podauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
)

// keys are the API server's published keys for service account tokens. They are read when a token names one that is not known, not more often than minReload, and
// again after maxAge, so that a key that was withdrawn is not trusted for longer. While the API server is away those that were read last stand.
type keys struct {
	fetch  func(ctx context.Context) (keySet, error)
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	known   keySet
	read    time.Time // when known was read
	tried   time.Time
	failed  error         // why the last try failed; nil if it did not
	loading chan struct{} // closed when the read under way has ended
}

// keySet is what the API server publishes.
type keySet struct {
	issuer string
	keys   jose.JSONWebKeySet
}

const (
	minReload = 5 * time.Second
	maxAge    = 5 * time.Minute
	fetchTime = 5 * time.Second
)

var (
	// errUnknownKey: the API server publishes its keys, and this is none of them.
	errUnknownKey = errors.New("no key of this cluster")
	// errUnpublished: this API server does not say which keys it signs with, or not to us.
	errUnpublished = errors.New("the API server does not publish its keys")
)

// find returns the issuer and the key of an id. A known key costs no request, and nobody waits for one.
func (k *keys) find(ctx context.Context, id string) (issuer string, key jose.JSONWebKey, err error) {
	issuer, key, err = k.look(id)
	if err == nil {
		k.refreshOld(ctx)
		return issuer, key, nil
	}
	if done := k.reload(ctx); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return "", jose.JSONWebKey{}, ctx.Err()
		}
	}
	return k.look(id)
}

func (k *keys) look(id string) (string, jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.known.keys.Keys {
		if key := k.known.keys.Keys[i]; id != "" && key.KeyID == id {
			return k.known.issuer, key, nil
		}
	}
	if k.failed != nil {
		return "", jose.JSONWebKey{}, k.failed
	}
	return "", jose.JSONWebKey{}, errUnknownKey
}

// refreshOld reads old keys again, beside the callers, who go on with what there is.
func (k *keys) refreshOld(ctx context.Context) {
	k.mu.Lock()
	old := k.now().Sub(k.read) > maxAge
	k.mu.Unlock()
	if old {
		k.reload(ctx)
	}
}

// reload reads the keys again, unless that was tried a moment ago. The channel is closed when they were read; callers that come meanwhile get the same one.
func (k *keys) reload(ctx context.Context) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.loading != nil {
		return k.loading
	}
	now := k.now()
	if since := now.Sub(k.tried); since >= 0 && since < minReload {
		return nil
	}
	k.tried = now
	done := make(chan struct{})
	k.loading = done
	// The caller may leave; others wait for the same answer.
	go k.load(context.WithoutCancel(ctx), done)
	return done
}

func (k *keys) load(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	set, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loading, k.failed = nil, err
	switch {
	case err == nil:
		k.known, k.read = set, k.now()
	case len(k.known.keys.Keys) > 0:
		k.logger.Warn("the API server's keys could not be read again: those that were read last stand", "error", err)
	case errors.Is(err, errUnpublished):
		k.logger.Warn("the API server is asked about each token: let the control plane read /openid/v1/jwks to spare it that", "error", err)
	default:
		k.logger.Warn("the API server's keys could not be read: no sidecar is let in until they are", "error", err)
	}
}

// Raw reads a path of the API server.
type Raw func(ctx context.Context, path string) ([]byte, error)

// FromAPIServer reads paths with a client for an API server.
func FromAPIServer(client rest.Interface) Raw {
	return func(ctx context.Context, path string) ([]byte, error) {
		// A client that prefers protobuf would be told that there are no keys in that form.
		return client.Get().AbsPath(path).SetHeader("Accept", "application/json, application/jwk-set+json, */*").DoRaw(ctx)
	}
}

// published reads what an API server publishes for those who verify its tokens (OpenID Connect Discovery 1.0).
func published(raw Raw) func(ctx context.Context) (keySet, error) {
	return func(ctx context.Context) (keySet, error) {
		var discovery struct {
			Issuer string `json:"issuer"`
		}
		if err := readJSON(ctx, raw, "/.well-known/openid-configuration", &discovery); err != nil {
			return keySet{}, err
		}
		// Not the document's jwks_uri: that may be an address outside, and this one is the API server's own.
		set := keySet{issuer: discovery.Issuer}
		if err := readJSON(ctx, raw, "/openid/v1/jwks", &set.keys); err != nil {
			return keySet{}, err
		}
		if set.issuer == "" || len(set.keys.Keys) == 0 {
			return keySet{}, errors.New("the API server names no issuer, or no keys")
		}
		return set, nil
	}
}

func readJSON(ctx context.Context, raw Raw, path string, into any) error {
	body, err := raw(ctx, path)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		return fmt.Errorf("read %s: %w: %w", path, errUnpublished, err)
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
