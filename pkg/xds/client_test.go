package xds_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// client is a raw delta client on the generated stubs.
type client struct {
	t      testing.TB
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in     chan *discoveryv3.DeltaDiscoveryResponse
	err    chan error
	cancel context.CancelFunc
}

func dial(t testing.TB, path string, options ...grpc.DialOption) discoveryv3.AggregatedDiscoveryServiceClient {
	t.Helper()
	if len(options) == 0 {
		options = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	conn, err := grpc.NewClient(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

func connect(t testing.TB, path string, options ...grpc.DialOption) *client {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := dial(t, path, options...).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, stream: stream, in: make(chan *discoveryv3.DeltaDiscoveryResponse), err: make(chan error, 1), cancel: cancel}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				c.err <- err
				return
			}
			select {
			case c.in <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(cancel)
	return c
}

// subscribe sends the first request of a type, in the name of a node.
func (c *client) subscribe(id, typeURL string, held map[string]string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: id}, TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: held,
	})
}

func (c *client) send(r *discoveryv3.DeltaDiscoveryRequest) {
	c.t.Helper()
	if err := c.stream.Send(r); err != nil && !errors.Is(err, io.EOF) {
		c.t.Fatal(err)
	}
}

func (c *client) receive() *discoveryv3.DeltaDiscoveryResponse {
	c.t.Helper()
	select {
	case r := <-c.in:
		return r
	case err := <-c.err:
		c.t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Second):
		c.t.Fatal("nothing came within 10 s")
	}
	return nil
}

func (c *client) ack(r *discoveryv3.DeltaDiscoveryResponse) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

func (c *client) nack(r *discoveryv3.DeltaDiscoveryResponse, text string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(), ErrorDetail: &statuspb.Status{Message: text}})
}

// fails waits for the stream's end and wants a word in the error.
func (c *client) fails(word string) {
	c.t.Helper()
	select {
	case r := <-c.in:
		c.t.Fatalf("got a response: %v", r)
	case err := <-c.err:
		if !strings.Contains(err.Error(), word) {
			c.t.Fatalf("got %v, want %q", err, word)
		}
	case <-time.After(10 * time.Second):
		c.t.Fatal("the stream did not end within 10 s")
	}
}

// names are the names in a response.
func names(r *discoveryv3.DeltaDiscoveryResponse) string {
	var out []string
	for _, res := range r.GetResources() {
		out = append(out, res.GetName())
	}
	for _, gone := range r.GetRemovedResources() {
		out = append(out, "-"+gone)
	}
	return strings.Join(out, " ")
}
