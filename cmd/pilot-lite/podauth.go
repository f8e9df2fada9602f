package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	return xds.Claim{Node: proof.Node, UID: proof.UID, Expires: proof.Expires, Standing: func() error { return a.pods.Standing(proof) }}, nil
}
