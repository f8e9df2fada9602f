package podauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pilot-lite/pilot-lite/pkg/podauth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://kubernetes.default.svc"
	audience = "pilot-lite"
)

// signer is a key that an API server signs with.
type signer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
}

func newRSA(t testing.TB, id string) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, jose.RS256, key}
}

func newEC(t testing.TB, id string) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{id, jose.ES256, key}
}

// claim is a token's payload, as free as JSON is.
type claim map[string]any

// bound are the claims of a token of a pod of the account "cart" in the namespace "shop".
func bound(now time.Time, changes ...func(claim)) claim {
	c := claim{
		"iss": issuer, "aud": []string{audience}, "sub": "system:serviceaccount:shop:cart",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "4",
		"kubernetes.io": claim{
			"namespace": "shop", "node": claim{"name": "n", "uid": "n-uid"}, "pod": claim{"name": "cart-1", "uid": "pod-uid"},
			"serviceaccount": claim{"name": "cart", "uid": "account-uid"},
		},
	}
	for _, change := range changes {
		change(c)
	}
	return c
}

func set(field string, value any) func(claim) { return func(c claim) { c[field] = value } }

func without(field string) func(claim) { return func(c claim) { delete(c, field) } }

// inKubernetes changes the claims about Kubernetes' objects.
func inKubernetes(change func(claim)) func(claim) {
	return func(c claim) { change(c["kubernetes.io"].(claim)) }
}

func (s *signer) token(t testing.TB, c claim) string {
	t.Helper()
	return signedBy(t, s.algorithm, s.key, s.id, c)
}

func signedBy(t testing.TB, algorithm jose.SignatureAlgorithm, key any, id string, c claim) string {
	t.Helper()
	sign, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jwt.Signed(sign).Claims(map[string]any(c)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apiServer is what podauth sees of one, and counts what it is asked.
type apiServer struct {
	mu       sync.Mutex
	issuer   string
	keys     []*signer
	failure  error
	requests int
	reviews  int
	answer   podauth.Reviewed
	refusal  error // of reviews
	pods     map[string]podauth.Pod
	accounts map[string]string
}

func newAPIServer(keys ...*signer) *apiServer {
	return &apiServer{
		issuer: issuer, keys: keys, pods: map[string]podauth.Pod{"shop/cart-1": {UID: "pod-uid", ServiceAccount: "cart"}}, accounts: map[string]string{"shop/cart": "account-uid"},
		answer: podauth.Reviewed{
			Authenticated: true, Username: "system:serviceaccount:shop:cart", AccountUID: "account-uid", Audiences: []string{audience}, PodName: "cart-1", PodUID: "pod-uid",
		},
	}
}

// change changes what the server says from now on.
func (s *apiServer) change(f func(*apiServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// asked is how many requests for keys, and how many reviews, there were.
func (s *apiServer) asked() (requests, reviews int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.reviews
}

func (s *apiServer) raw(_ context.Context, path string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if s.failure != nil {
		return nil, s.failure
	}
	if path == "/.well-known/openid-configuration" {
		return json.Marshal(map[string]string{"issuer": s.issuer, "jwks_uri": "https://198.51.100.1/openid/v1/jwks"})
	}
	var set jose.JSONWebKeySet
	for _, k := range s.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.key.Public(), KeyID: k.id, Use: "sig", Algorithm: string(k.algorithm)})
	}
	return json.Marshal(set)
}

func (s *apiServer) review(_ context.Context, _ string, _ []string) (podauth.Reviewed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reviews++
	return s.answer, s.refusal
}

// config is an authenticator's that sees this server.
func (s *apiServer) config() podauth.Config {
	return podauth.Config{
		Audience: audience, Raw: s.raw, Review: s.review,
		Pod: func(namespace, name string) (podauth.Pod, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			p, found := s.pods[namespace+"/"+name]
			return p, found
		},
		Account: func(namespace, name string) (string, bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			uid, found := s.accounts[namespace+"/"+name]
			return uid, found
		},
	}
}

// with is a stream's context with headers.
func with(headers ...string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.MD{"authorization": headers})
}

// present shows a token as a sidecar does.
func present(a *podauth.Authenticator, token string) (podauth.Proof, error) {
	return a.Authenticate(with("Bearer " + token))
}

// wants wants a refusal, or none (codes.OK).
func wants(t testing.TB, what string, want codes.Code, err error) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: got %s (%v), want %s", what, got, err, want)
	}
}
