package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// StatusService answers Envoy's Client Status Discovery Service. It shows every proxy's state: register it only on a server that proxies cannot reach.
type StatusService struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	proxies func(context.Context) []ProxyStatus
}

// NewStatusService returns a service that shows what proxies returns.
func NewStatusService(proxies func(context.Context) []ProxyStatus) *StatusService {
	return &StatusService{proxies: proxies}
}

// FetchClientStatus returns every proxy. Node matchers are not served.
func (s *StatusService) FetchClientStatus(ctx context.Context, r *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	if len(r.GetNodeMatchers()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "node matchers are not served: ask for all proxies")
	}
	out := &statusv3.ClientStatusResponse{}
	for _, p := range s.proxies(ctx) {
		client, err := clientConfig(p)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		out.Config = append(out.Config, client)
	}
	return out, nil
}

// StreamClientStatus answers each request with the status at that time.
func (s *StatusService) StreamClientStatus(stream statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out, err := s.FetchClientStatus(stream.Context(), r)
		if err != nil {
			return err
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func clientConfig(p ProxyStatus) (*statusv3.ClientConfig, error) {
	fields := map[string]any{"workload": p.Workload, "uid": p.UID, "connected": p.Connected, "problem": p.Problem, "restart": p.Restart}
	if !p.Since.IsZero() {
		fields["since"] = p.Since.UTC().Format(time.RFC3339Nano)
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", p.Node, err)
	}
	out := &statusv3.ClientConfig{Node: &corev3.Node{Id: p.Node, UserAgentName: p.Build, Metadata: metadata}}
	for _, r := range p.Resources {
		entry := &statusv3.ClientConfig_GenericXdsConfig{
			TypeUrl: r.Type, Name: r.Name, VersionInfo: r.Enforced, ClientStatus: clientStatus(r), LastUpdated: timestamp(r.Changed),
		}
		if r.Refused != "" {
			entry.ErrorState = &adminv3.UpdateFailureState{VersionInfo: r.Refused, Details: r.Text, LastUpdateAttempt: timestamp(r.Changed)}
		}
		if entry.XdsConfig, err = contentAny(r); err != nil {
			return nil, fmt.Errorf("status of %s: %w", p.Node, err)
		}
		out.GenericXdsConfigs = append(out.GenericXdsConfigs, entry)
	}
	return out, nil
}

// timestamp leaves a time out that is not known.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func clientStatus(r ResourceStatus) adminv3.ClientResourceStatus {
	switch r.State {
	case StateEnforced:
		return adminv3.ClientResourceStatus_ACKED
	case StateRefused:
		return adminv3.ClientResourceStatus_NACKED
	case StatePending:
	}
	return adminv3.ClientResourceStatus_REQUESTED
}

// contentAny carries the version of the present content, the policies that it was built from, and those of what the proxy runs where that is something else.
func contentAny(r ResourceStatus) (*anypb.Any, error) {
	fields := map[string]any{"policies": policyList(r.Policies), "version": r.Desired}
	if r.State != StateEnforced {
		fields["running"] = policyList(r.Running)
	}
	content, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, err
	}
	return anypb.New(content)
}

func policyList(refs []model.PolicyRef) []any {
	list := make([]any, 0, len(refs))
	for _, r := range refs {
		list = append(list, map[string]any{"namespace": r.Namespace, "name": r.Name, "uid": r.UID, "generation": float64(r.Generation)})
	}
	return list
}

func policiesFrom(list *structpb.ListValue) []model.PolicyRef {
	var out []model.PolicyRef
	for _, v := range list.GetValues() {
		f := v.GetStructValue().GetFields()
		out = append(out, model.PolicyRef{
			Namespace: f["namespace"].GetStringValue(), Name: f["name"].GetStringValue(), UID: f["uid"].GetStringValue(),
			Generation: int64(f["generation"].GetNumberValue()),
		})
	}
	return out
}

// StatusFrom reads a StatusService's answer.
func StatusFrom(answer *statusv3.ClientStatusResponse) ([]ProxyStatus, error) {
	var out []ProxyStatus
	for _, client := range answer.GetConfig() {
		p, err := proxyStatusFrom(client)
		if err != nil {
			return nil, fmt.Errorf("status of %s: %w", client.GetNode().GetId(), err)
		}
		out = append(out, p)
	}
	return out, nil
}

func proxyStatusFrom(client *statusv3.ClientConfig) (ProxyStatus, error) {
	fields := client.GetNode().GetMetadata().GetFields()
	p := ProxyStatus{
		Node: client.GetNode().GetId(), Build: client.GetNode().GetUserAgentName(), Workload: fields["workload"].GetStringValue(),
		UID: fields["uid"].GetStringValue(), Connected: fields["connected"].GetBoolValue(), Problem: fields["problem"].GetStringValue(),
		Restart: fields["restart"].GetStringValue(),
	}
	if since := fields["since"].GetStringValue(); since != "" {
		at, err := time.Parse(time.RFC3339Nano, since)
		if err != nil {
			return p, err
		}
		p.Since = at
	}
	for _, entry := range client.GetGenericXdsConfigs() {
		r, err := resourceStatusFrom(entry)
		if err != nil {
			return p, err
		}
		p.Resources = append(p.Resources, r)
	}
	return p, nil
}

func resourceStatusFrom(entry *statusv3.ClientConfig_GenericXdsConfig) (ResourceStatus, error) {
	r := ResourceStatus{
		Type: entry.GetTypeUrl(), Name: entry.GetName(), State: StatePending, Enforced: entry.GetVersionInfo(),
		Refused: entry.GetErrorState().GetVersionInfo(), Text: entry.GetErrorState().GetDetails(),
	}
	if at := entry.GetLastUpdated(); at != nil {
		r.Changed = at.AsTime()
	}
	switch entry.GetClientStatus() {
	case adminv3.ClientResourceStatus_ACKED:
		r.State = StateEnforced
	case adminv3.ClientResourceStatus_NACKED:
		r.State = StateRefused
	default:
	}
	var content structpb.Struct
	if err := entry.GetXdsConfig().UnmarshalTo(&content); err != nil {
		return r, fmt.Errorf("resource %q: %w", r.Name, err)
	}
	r.Desired = content.GetFields()["version"].GetStringValue()
	r.Policies = policiesFrom(content.GetFields()["policies"].GetListValue())
	if r.Running = r.Policies; r.State != StateEnforced {
		r.Running = policiesFrom(content.GetFields()["running"].GetListValue())
	}
	return r, nil
}
