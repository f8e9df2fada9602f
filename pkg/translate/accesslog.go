package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// httpAccessLog is one JSON object per request, with the rule that decided. JSON, so that a caller cannot forge a line; without the query, which
// may hold secrets.
func httpAccessLog() []*accesslogv3.AccessLog {
	return accessLog(map[string]string{
		"time": "%START_TIME%", "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "port": "%DOWNSTREAM_LOCAL_PORT%",
		"method": "%REQ(:METHOD)%", "host": "%REQ(:AUTHORITY)%", "path": "%PATH(NQ)%", "protocol": "%PROTOCOL%",
		"status": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%", "ms": "%DURATION%",
		"rule":    "%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_effective_policy_id)%",
		"dry_run": "%DYNAMIC_METADATA(envoy.filters.http.rbac:dry_run_shadow_effective_policy_id)%",
	})
}

// tcpAccessLog is one JSON object per connection. The details name the rule that denied; Envoy's network RBAC filter does not tell which one allowed.
func tcpAccessLog() []*accesslogv3.AccessLog {
	return accessLog(map[string]string{
		"time": "%START_TIME%", "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "port": "%DOWNSTREAM_LOCAL_PORT%",
		"flags": "%RESPONSE_FLAGS%", "details": "%CONNECTION_TERMINATION_DETAILS%", "ms": "%DURATION%",
		"received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
		"dry_run": "%DYNAMIC_METADATA(envoy.filters.network.rbac:dry_run_shadow_effective_policy_id)%",
	})
}

func accessLog(format map[string]string) []*accesslogv3.AccessLog {
	fields := make(map[string]*structpb.Value, len(format))
	for k, v := range format {
		fields[k] = structpb.NewStringValue(v)
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
			}},
		})},
	}}
}
