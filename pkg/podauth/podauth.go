// Package podauth knows pods by their service account tokens. Input: a stream's metadata, the API server's published keys, and the pods as they stand. Output: the
// node that the stream is, or why it is nobody. No call to the API server is made for a token whose key is known. Entry point: Authenticator.
package podauth

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
	// Review asks the API server about a token, for where it does not publish its keys.
	Review Review
	// Pod is a pod as it stands; false where none of that name is known.
	Pod    func(namespace, name string) (Pod, bool)
	Now    func() time.Time // time.Now where nil
	Logger *slog.Logger
}

// Authenticator tells which node a stream is.
type Authenticator struct {
	config  Config
	keys    *keys
	reviews *reviews
}

// New returns an authenticator.
func New(c Config) *Authenticator {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Authenticator{
		config: c, keys: &keys{fetch: published(c.Raw), now: c.Now, logger: c.Logger}, reviews: newReviews(c.Review, c.Audience, c.Now),
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

// identity is what a good token says.
type identity struct {
	namespace, account, pod, uid string
	expires                      time.Time
}

// Proof is what a token proves.
type Proof struct {
	Node         string // "NAMESPACE/POD"
	UID, Account string
	Expires      time.Time
}

// Authenticate reads the token in "authorization: Bearer TOKEN", and says whose it is. The errors are gRPC statuses.
func (a *Authenticator) Authenticate(ctx context.Context) (Proof, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return Proof{}, refuse("no token: a sidecar sends its pod's service account token")
	}
	token, bearer := strings.CutPrefix(values[0], "Bearer ")
	if !bearer || token == "" || len(token) > maxToken {
		return Proof{}, refuse("no bearer token")
	}
	id, err := a.verify(ctx, token)
	if err != nil {
		return Proof{}, err
	}
	p := Proof{Node: id.namespace + "/" + id.pod, UID: id.uid, Account: id.account, Expires: id.expires}
	return p, a.Standing(p)
}

// Standing says why the pod that a token spoke of is not the pod of that name any more; nil while it is.
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
	return nil
}

// refuse names no part of the token: what strangers send is not repeated.
func refuse(why string) error { return status.Error(codes.Unauthenticated, why) }

// verify checks a token, by the published keys where there are any.
func (a *Authenticator) verify(ctx context.Context, token string) (identity, error) {
	parsed, err := jwt.ParseSigned(token, algorithms())
	if err != nil || len(parsed.Headers) != 1 {
		return identity{}, refuse("the token is no service account token")
	}
	issuer, key, found := a.keys.find(ctx, parsed.Headers[0].KeyID)
	if !found {
		if a.keys.published() {
			return identity{}, refuse("the token is signed with no key of this cluster")
		}
		return a.review(ctx, token, parsed)
	}
	var c claims
	if err := parsed.Claims(key.Key, &c); err != nil {
		return identity{}, refuse("the token's signature is wrong")
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, Time: a.config.Now()}, leeway); err != nil || c.Expiry == nil {
		return identity{}, refuse("the token has ended, has not begun, or is another issuer's")
	}
	if !slices.Contains([]string(c.Audience), a.config.Audience) {
		return identity{}, refuse("the token is for another audience")
	}
	return c.identity()
}

// identity takes a token that is bound to a pod, and no other: a token of an account alone would be any of its pods'.
func (c *claims) identity() (identity, error) {
	k := c.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || k.Pod == nil || k.Pod.Name == "" || k.Pod.UID == "" {
		return identity{}, refuse("the token is not bound to a pod")
	}
	if c.Subject != "system:serviceaccount:"+k.Namespace+":"+k.ServiceAccount.Name {
		return identity{}, refuse("the token's subject is not its service account")
	}
	if strings.ContainsAny(k.Namespace+k.Pod.Name, "/\x00\r\n") {
		return identity{}, refuse("the token names no pod")
	}
	return identity{namespace: k.Namespace, account: k.ServiceAccount.Name, pod: k.Pod.Name, uid: k.Pod.UID, expires: c.Expiry.Time()}, nil
}

// unverified reads the claims of a token that the API server has vouched for.
func unverified(parsed *jwt.JSONWebToken) (claims, error) {
	var c claims
	err := parsed.UnsafeClaimsWithoutVerification(&c)
	return c, err
}
