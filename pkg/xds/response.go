package xds

import (
	"context"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// The servers of go-control-plane ask a response for the request that it answers, of which they read the type, and for the versions that the proxy holds
// after it, which they hand back to a cache that keeps no account of its own. Neither request nor account is kept here: ten thousand streams would pay.

// deltaResponse is a flight in the incremental protocol.
type deltaResponse struct {
	request  *discoveryv3.DeltaDiscoveryRequest
	response *discoveryv3.DeltaDiscoveryResponse
}

var _ cache.DeltaResponse = (*deltaResponse)(nil)

func newDeltaResponse(typeURL string, f *flight) *deltaResponse {
	r := &deltaResponse{
		request: &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL},
		response: &discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: typeURL, RemovedResources: f.removed, SystemVersionInfo: f.version, Resources: make([]*discoveryv3.Resource, 0, len(f.resources)),
		},
	}
	for i, res := range f.resources {
		r.response.Resources = append(r.response.Resources, &discoveryv3.Resource{Name: res.Name, Version: res.Version, Resource: f.bodies[i]})
	}
	f.nonce = r.response.GetNonce
	return r
}

func (r *deltaResponse) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	return r.response, nil
}
func (r *deltaResponse) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest { return r.request }
func (r *deltaResponse) GetSystemVersion() (string, error) {
	return r.response.GetSystemVersionInfo(), nil
}

func (r *deltaResponse) GetResponseVersion() string              { return r.response.GetSystemVersionInfo() }
func (r *deltaResponse) GetNextVersionMap() map[string]string    { return map[string]string{} }
func (r *deltaResponse) GetReturnedResources() map[string]string { return map[string]string{} }
func (r *deltaResponse) GetContext() context.Context             { return context.Background() }

// sotwResponse is a flight in the state-of-the-world protocol.
type sotwResponse struct {
	request  *discoveryv3.DiscoveryRequest
	response *discoveryv3.DiscoveryResponse
}

var _ cache.Response = (*sotwResponse)(nil)

func newSotwResponse(typeURL string, f *flight) *sotwResponse {
	r := &sotwResponse{
		request:  &discoveryv3.DiscoveryRequest{TypeUrl: typeURL},
		response: &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, VersionInfo: f.version, Resources: f.bodies},
	}
	f.nonce = r.response.GetNonce
	return r
}

func (r *sotwResponse) GetDiscoveryResponse() (*discoveryv3.DiscoveryResponse, error) {
	return r.response, nil
}
func (r *sotwResponse) GetRequest() *discoveryv3.DiscoveryRequest { return r.request }
func (r *sotwResponse) GetVersion() (string, error)               { return r.response.GetVersionInfo(), nil }

func (r *sotwResponse) GetResponseVersion() string              { return r.response.GetVersionInfo() }
func (r *sotwResponse) GetReturnedResources() map[string]string { return map[string]string{} }
func (r *sotwResponse) GetContext() context.Context             { return context.Background() }
