package xds

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TokenAuthenticator accepts the tokens that Token makes with the same key.
type TokenAuthenticator struct{ key []byte }

var _ Authenticator = (*TokenAuthenticator)(nil)

// MinKey is the shortest key that is accepted, in bytes: as long as the hash that it keys.
const MinKey = sha256.Size

// NewTokenAuthenticator returns an authenticator for a secret key of at least 32 bytes.
func NewTokenAuthenticator(key []byte) (*TokenAuthenticator, error) {
	if len(key) < MinKey {
		return nil, fmt.Errorf("token key of %d bytes: at least %d random bytes are needed, e.g. head -c 32 /dev/urandom", len(key), MinKey)
	}
	return &TokenAuthenticator{key: key}, nil
}

const tokenVersion = "v1"

// Token is a node's token: the node's id and its HMAC-SHA256, so that it says whose it is and nobody without the key can make one.
func Token(key []byte, nodeID string) (string, error) {
	if len(key) < MinKey {
		return "", fmt.Errorf("token key of %d bytes: at least %d random bytes are needed", len(key), MinKey)
	}
	if !validNodeID(nodeID) {
		return "", fmt.Errorf("node %q: not of the form NAMESPACE/POD", nodeID)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return tokenVersion + "." + encode([]byte(nodeID)) + "." + encode(sign(key, nodeID)), nil
}

func sign(key []byte, nodeID string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("pilot-lite node " + tokenVersion + "\x00" + nodeID))
	return h.Sum(nil)
}

// Authenticate reads the header "authorization: Bearer TOKEN".
func (a *TokenAuthenticator) Authenticate(ctx context.Context) (Claim, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return Claim{}, status.Error(codes.Unauthenticated, "no token: write the bootstrap with \"pilot-lite bootstrap --token-key\"")
	}
	id, err := a.verify(strings.TrimPrefix(values[0], "Bearer "))
	if err != nil {
		return Claim{}, status.Error(codes.Unauthenticated, "the token is not one of this control plane")
	}
	return Claim{Node: id}, nil
}

func (a *TokenAuthenticator) verify(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] != tokenVersion {
		return "", errors.New("malformed token")
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("decode the node: %w", err)
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return "", fmt.Errorf("decode the signature: %w", err)
	}
	if !hmac.Equal(sum, sign(a.key, string(id))) {
		return "", errors.New("wrong signature")
	}
	return string(id), nil
}
