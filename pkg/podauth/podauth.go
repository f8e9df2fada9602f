// Package podauth knows pods by their service account tokens. Input: a stream's metadata, the API server's published keys, and the pods as they stand. Output: the
// node that the stream is, or why it is nobody. No call to the API server is made for a token whose key is known. Entry point: Authenticator.
package podauth

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/pilot-lite/pilot-lite/internal/answers"
)

// Pod is a pod as far as its token is concerned.
type Pod struct {
	UID, ServiceAccount string
	Ended               bool // Succeeded or Failed
}

// Config is what an Authenticator needs.
type Config struct {
	Audience string
	Raw      Raw // reads the API server's published keys
	// Review asks the API server about a token, for where it does not publish its keys; nil: nobody is let in there.
	Review Review
	// Pod is a pod as it stands; false where none of that name is known.
	Pod func(namespace, name string) (Pod, bool)
	// Account is the UID of a service account as it stands; false where none of that name is known. Nil: a pod's account is not asked for.
	Account func(namespace, name string) (uid string, found bool)
	Now     func() time.Time // time.Now where nil
	Logger  *slog.Logger
}

// Authenticator tells which node a stream is.
type Authenticator struct {
	config  Config
	keys    *keys
	signed  *answers.Answers[[sha256.Size]byte, signed]
	reviews *reviews
}

// signed is what a token says, and the key that it is signed with: a sidecar comes back with the token that it had. Whether the key is still published, and what the token
// says still holds, is asked each time.
type signed struct {
	keyID, algorithm string
	key              any
	claims           claims
}

// maxSigned bounds the tokens whose signature is remembered, in some 1 KB each.
const maxSigned = 20_000

// New returns an authenticator.
func New(c Config) *Authenticator {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Authenticator{
		config: c, keys: &keys{fetch: published(c.Raw), now: c.Now, logger: c.Logger}, signed: answers.New[[sha256.Size]byte, signed](maxSigned),
		reviews: newReviews(c.Review, c.Audience, c.Now, c.Logger),
	}
}

const (
	// leeway is how far clocks may differ.
	leeway = 60 * time.Second
	// maxToken is far above what API servers make, in bytes.
	maxToken = 16 << 10
)

// algorithms are the asymmetric ones that API servers sign with; a token that names another, or none, is nobody's.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
}

// Proof is what a token proves.
type Proof struct {
	Node                string // "NAMESPACE/POD"
	UID                 string // the pod's
	Account, AccountUID string
	Expires             time.Time
}

// Authenticate reads the token in "authorization: Bearer TOKEN", and says whose it is. The errors are gRPC statuses, and repeat nothing of what was sent.
func (a *Authenticator) Authenticate(ctx context.Context) (Proof, error) {
	token, err := bearer(ctx)
	if err != nil {
		return Proof{}, err
	}
	hash := sha256.Sum256([]byte(token))
	if known, stands := a.signed.Look(hash, a.config.Now()); stands {
		if issuer, key, err := a.keys.find(ctx, known.keyID); err == nil && sameKey(key.Key, known.key) && signs(&key, known.algorithm) {
			return a.proof(issuer, &known.claims)
		}
	}
	parsed, err := jwt.ParseSigned(token, algorithms())
	if err != nil || len(parsed.Headers) != 1 {
		return Proof{}, refuse("the token is no service account token")
	}
	header := parsed.Headers[0]
	issuer, key, err := a.keys.find(ctx, header.KeyID)
	switch {
	case errors.Is(err, errUnpublished):
		return a.review(ctx, token, parsed)
	case errors.Is(err, errUnknownKey):
		return Proof{}, refuse("the token is signed with no key of this cluster")
	case err != nil:
		return Proof{}, status.Error(codes.Unavailable, "the API server's keys, which tokens are checked with, cannot be read")
	case !signs(&key, header.Algorithm):
		return Proof{}, refuse("the token's key is not for that")
	}
	var c claims
	if err := parsed.Claims(key.Key, &c); err != nil {
		return Proof{}, refuse("the token's signature is wrong")
	}
	p, err := a.proof(issuer, &c)
	if err == nil {
		a.signed.Keep(hash, signed{header.KeyID, header.Algorithm, key.Key, c}, a.config.Now(), p.Expires)
	}
	return p, err
}

// proof is what a token proves now that says what it does.
func (a *Authenticator) proof(issuer string, c *claims) (Proof, error) {
	p, err := c.proof(issuer, a.config.Audience, a.config.Now())
	if err != nil {
		return Proof{}, err
	}
	if err := a.Standing(p); err != nil {
		return Proof{}, err
	}
	return p, nil
}

// signs says whether a key is published for tokens that are signed in this way.
func signs(key *jose.JSONWebKey, algorithm string) bool {
	return (key.Algorithm == "" || key.Algorithm == algorithm) && (key.Use == "" || key.Use == "sig")
}

func sameKey(a, b any) bool {
	k, comparable := a.(interface{ Equal(x crypto.PublicKey) bool })
	return comparable && k.Equal(b)
}

// bearer is the one token in a stream's metadata.
func bearer(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", refuse("no token: a sidecar sends its pod's service account token")
	}
	token, is := strings.CutPrefix(values[0], "Bearer ")
	if !is || token == "" || len(token) > maxToken {
		return "", refuse("no bearer token")
	}
	return token, nil
}

// Standing says why what a token spoke of does not stand any more, or not as it did: the pod, or its service account, is gone or is another of the same name. Nil
// while it stands.
func (a *Authenticator) Standing(proof Proof) error {
	namespace, name, _ := strings.Cut(proof.Node, "/")
	p, known := a.config.Pod(namespace, name)
	switch {
	case !known:
		// A pod is known a moment after it was made. Its sidecar asks again.
		return status.Errorf(codes.Unavailable, "pod %s is not known, or not known yet", proof.Node)
	case p.UID != proof.UID:
		return refuse("the token is that of an earlier pod of the same name")
	case p.ServiceAccount != proof.Account:
		return refuse("the token is that of another service account")
	case p.Ended:
		return refuse("the pod has ended")
	}
	if a.config.Account == nil {
		return nil
	}
	switch uid, known := a.config.Account(namespace, proof.Account); {
	case !known:
		return status.Errorf(codes.Unavailable, "service account %s/%s is not known, or not known yet", namespace, proof.Account)
	case uid != proof.AccountUID:
		return refuse("the token is that of an earlier service account of the same name")
	}
	return nil
}

// refuse names no part of the token: what strangers send is not repeated.
func refuse(why string) error { return status.Error(codes.Unauthenticated, why) }

// claims are those of a token that is bound to a pod (KEP-1205).
type claims struct {
	jwt.Claims
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount named  `json:"serviceaccount"`
		Pod            *named `json:"pod"`
	} `json:"kubernetes.io"`
}

type named struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// proof takes a token that is bound to a pod, is for this audience and holds now, and no other: a token of an account alone would be any of its pods'. The issuer is
// not compared where it is "": the API server is asked there.
func (c *claims) proof(issuer, audience string, now time.Time) (Proof, error) {
	if c.Expiry == nil {
		return Proof{}, refuse("the token never ends: tokens of Secrets are not accepted")
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, Time: now}, leeway); err != nil {
		return Proof{}, refuse("the token has ended, has not begun, or is another issuer's")
	}
	if !slices.Contains([]string(c.Audience), audience) {
		return Proof{}, refuse("the token is for another audience")
	}
	k := c.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || k.ServiceAccount.UID == "" || k.Pod == nil || k.Pod.Name == "" || k.Pod.UID == "" {
		return Proof{}, refuse("the token is not bound to a pod")
	}
	if c.Subject != "system:serviceaccount:"+k.Namespace+":"+k.ServiceAccount.Name {
		return Proof{}, refuse("the token's subject is not its service account")
	}
	if strings.ContainsAny(k.Namespace+k.Pod.Name, "/\x00\r\n") {
		return Proof{}, refuse("the token names no pod")
	}
	return Proof{Node: k.Namespace + "/" + k.Pod.Name, UID: k.Pod.UID, Account: k.ServiceAccount.Name, AccountUID: k.ServiceAccount.UID, Expires: c.Expiry.Time()}, nil
}
