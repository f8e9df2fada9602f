package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pilot-lite/pilot-lite/pkg/podauth"
	"github.com/pilot-lite/pilot-lite/pkg/xds"
)

// podAuthenticator is the xDS server's view of podauth. A replica that does not know what there is takes no new stream: another may know.
type podAuthenticator struct {
	pods    *podauth.Authenticator
	unready func() string
}

var _ xds.Authenticator = (*podAuthenticator)(nil)

// Authenticate tells which node a stream is.
func (a *podAuthenticator) Authenticate(ctx context.Context) (xds.Claim, error) {
	if why := a.unready(); why != "" {
		return xds.Claim{}, status.Error(codes.Unavailable, why)
	}
	proof, err := a.pods.Authenticate(ctx)
	if err != nil {
		return xds.Claim{}, err
	}
	return xds.Claim{Node: proof.Node, Expires: proof.Expires, Standing: func() error { return a.pods.Standing(proof) }}, nil
}

// tokenReviewer is for clusters that do not publish their keys.
type tokenReviewer struct{ client kubernetes.Interface }

// review asks the API server about a token.
func (a tokenReviewer) review(ctx context.Context, token string, audiences []string) (podauth.Reviewed, error) {
	r, err := a.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: audiences},
	}, metav1.CreateOptions{})
	if err != nil {
		return podauth.Reviewed{}, fmt.Errorf("review a token: %w", err)
	}
	first := func(key string) string {
		if values := r.Status.User.Extra[key]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	return podauth.Reviewed{
		Authenticated: r.Status.Authenticated, Username: r.Status.User.Username, Audiences: r.Status.Audiences,
		PodName: first("authentication.kubernetes.io/pod-name"), PodUID: first("authentication.kubernetes.io/pod-uid"),
	}, nil
}
