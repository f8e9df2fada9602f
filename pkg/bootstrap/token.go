package bootstrap

import (
	"path/filepath"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	filecontentv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/formatter/file_content/v3"
)

// tokenFilters put the file's present content into each new stream: a service account's token is replaced long before the pod ends. The kubelet
// replaces it by swapping a symbolic link in its folder, so the folder is what is watched. Envoy's credential injector takes secrets over SDS only,
// and the bearer token that Google's gRPC client reads from a file would bring a second TLS and HTTP/2 stack into every pod.
func tokenFilters(file string) ([]*hcmv3.HttpFilter, error) {
	formatter, err := pack(&filecontentv3.FileContent{})
	if err != nil {
		return nil, err
	}
	mutation, err := pack(&headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{
		RequestMutations: []*mutationv3.HeaderMutation{{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: "authorization", Value: "Bearer %FILE_CONTENT(" + file + ":" + filepath.Dir(file) + ")%"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}}}},
		Formatters: []*corev3.TypedExtensionConfig{{Name: "envoy.formatter.file_content", TypedConfig: formatter}},
	}})
	if err != nil {
		return nil, err
	}
	codec, err := pack(&upstreamcodecv3.UpstreamCodec{})
	if err != nil {
		return nil, err
	}
	return []*hcmv3.HttpFilter{
		{Name: "envoy.filters.http.header_mutation", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: mutation}},
		{Name: "envoy.filters.http.upstream_codec", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: codec}},
	}, nil
}
