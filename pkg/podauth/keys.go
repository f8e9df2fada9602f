package podauth

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// keys are the API server's published keys for service account tokens. They are read when a token names one that is not known, not more often than minReload, and
// again after maxAge. While the API server is away those that were read last stand.
type keys struct {
	fetch  func(ctx context.Context) (keySet, error)
	now    func() time.Time
	logger *slog.Logger

	mu      sync.Mutex
	known   keySet
	read    time.Time // when known was read
	tried   time.Time
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

// find returns the issuer and the key of an id; false where there is none even after they were read again.
func (k *keys) find(ctx context.Context, id string) (issuer string, key jose.JSONWebKey, found bool) {
	if issuer, key, found = k.look(id); found && !k.old() {
		return issuer, key, true
	}
	k.reload(ctx)
	return k.look(id)
}

func (k *keys) look(id string) (string, jose.JSONWebKey, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.known.keys.Keys {
		if key.KeyID == id {
			return k.known.issuer, key, true
		}
	}
	return "", jose.JSONWebKey{}, false
}

func (k *keys) old() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now().Sub(k.read) > maxAge
}

// reload reads the keys again, unless that was tried a moment ago. Callers that come meanwhile wait for the one read.
func (k *keys) reload(ctx context.Context) {
	k.mu.Lock()
	if under := k.loading; under != nil {
		k.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
		}
		return
	}
	if now := k.now(); now.Sub(k.tried) < minReload {
		k.mu.Unlock()
		return
	}
	k.tried = k.now()
	done := make(chan struct{})
	k.loading = done
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	set, err := k.fetch(ctx)
	cancel()

	k.mu.Lock()
	defer k.mu.Unlock()
	k.loading = nil
	close(done)
	if err != nil {
		k.logger.Warn("the API server's keys could not be read: those that were read last stand", "error", err)
		return
	}
	k.known, k.read = set, k.now()
}

// Raw reads a path of the API server.
type Raw func(ctx context.Context, path string) ([]byte, error)

// published reads what an API server publishes for those who verify its tokens (OpenID Connect Discovery 1.0).
func published(raw Raw) func(ctx context.Context) (keySet, error) {
	return func(ctx context.Context) (keySet, error) {
		var discovery struct {
			Issuer string `json:"issuer"`
		}
		body, err := raw(ctx, "/.well-known/openid-configuration")
		if err != nil {
			return keySet{}, fmt.Errorf("read the issuer: %w", err)
		}
		if err := json.Unmarshal(body, &discovery); err != nil || discovery.Issuer == "" {
			return keySet{}, fmt.Errorf("read the issuer: not a discovery document: %w", err)
		}
		// Not the document's jwks_uri: that may be an address outside, and this one is the API server's own.
		body, err = raw(ctx, "/openid/v1/jwks")
		if err != nil {
			return keySet{}, fmt.Errorf("read the keys: %w", err)
		}
		set := keySet{issuer: discovery.Issuer}
		if err := json.Unmarshal(body, &set.keys); err != nil {
			return keySet{}, fmt.Errorf("read the keys: %w", err)
		}
		return set, nil
	}
}

// published says whether the API server has published its keys at all.
func (k *keys) published() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.known.keys.Keys) > 0
}
