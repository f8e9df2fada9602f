package xds

import (
	"context"
	"fmt"
	"io"
	"slices"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Reports are how replicas tell each other what their proxies run: one stream of CSDS messages, first of every proxy, then of those that changed. A message without a
// proxy says that everything was told; the first of them ends the first listing.
const (
	reportsService = "pilotlite.report.v1.Reports"
	reportsMethod  = "/" + reportsService + "/Follow"
	// reportBatch is how many proxies are in a message at most.
	reportBatch = 200
	// maxReportBytes bounds a message that is received: a batch of proxies under many policies.
	maxReportBytes = 64 << 20
)

// reports serves Reports until done is closed.
type reports struct {
	cache *Cache
	done  <-chan struct{}
}

func (r *reports) follow(stream grpc.ServerStream) error {
	f := r.cache.Follow()
	defer f.Stop()
	for listing := true; ; listing = false {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-r.done:
			return status.Error(codes.Unavailable, "this replica stops")
		case <-f.Changed():
		}
		for more := true; more; {
			var proxies []ProxyStatus
			proxies, more = f.Take(reportBatch)
			if listing { // of the many that are connected to others there is nothing to say
				proxies = slices.DeleteFunc(proxies, func(p ProxyStatus) bool { return !p.Connected && p.Since.IsZero() && p.Problem == "" })
			}
			if len(proxies) == 0 {
				continue
			}
			if err := sendReport(stream, proxies); err != nil {
				return err
			}
		}
		if err := sendReport(stream, nil); err != nil {
			return err
		}
	}
}

func sendReport(stream grpc.ServerStream, proxies []ProxyStatus) error {
	out := &statusv3.ClientStatusResponse{}
	for _, p := range proxies {
		client, err := clientConfig(p)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		out.Config = append(out.Config, client)
	}
	return stream.SendMsg(out)
}

// register has a server serve the reports.
func (r *reports) register(s *grpc.Server) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: reportsService, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "Follow", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(&statusv3.ClientStatusRequest{}); err != nil {
				return err
			}
			return r.follow(stream)
		}}},
	}, r)
}

// checkPeer lets the control plane itself follow reports, and nobody else.
func (g *guard) checkPeer(ctx context.Context) error {
	if p, ok := peer.FromContext(ctx); ok && g.isPeer != nil {
		if secured, ok := p.AuthInfo.(credentials.TLSInfo); ok && g.isPeer(secured.State) {
			return nil
		}
	}
	return status.Error(codes.PermissionDenied, "reports are for the control plane's other replicas")
}

// FollowReports hands over what a replica reports: complete is false until everything was told once. It returns when the stream ends.
func FollowReports(ctx context.Context, conn grpc.ClientConnInterface, take func(changed []ProxyStatus, complete bool)) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{StreamName: "Follow", ServerStreams: true}, reportsMethod, grpc.MaxCallRecvMsgSize(maxReportBytes))
	if err != nil {
		return fmt.Errorf("follow reports: %w", err)
	}
	if err := stream.SendMsg(&statusv3.ClientStatusRequest{}); err != nil && err != io.EOF { //nolint:errorlint // grpc returns it bare, and the reason with the next RecvMsg
		return fmt.Errorf("follow reports: %w", err)
	}
	if err := stream.CloseSend(); err != nil {
		return fmt.Errorf("follow reports: %w", err)
	}
	for complete := false; ; {
		r := &statusv3.ClientStatusResponse{}
		if err := stream.RecvMsg(r); err != nil {
			return fmt.Errorf("follow reports: %w", err)
		}
		changed, err := StatusFrom(r)
		if err != nil {
			return err
		}
		complete = complete || len(changed) == 0
		take(changed, complete)
	}
}
