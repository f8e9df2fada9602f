// Package hcm tells what becomes of an HTTP/1.1 request in Envoy's HTTP connection manager, before any filter: the path is normalized, headers are taken away and added, and what has more
// than one reading is refused. Input: the connection manager as a listener has it, and a request as its client sends it. Output: the request as filters see it, or the answer that the client
// gets instead. Pure. Entry points: New, and
// ServedMethods, for who tells of methods that are none.
//
// It knows the settings that pilot-lite makes, each switched on and off. A setting that it does not know is an error of New: never a guess.
package hcm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// Manager is an HTTP connection manager's part before the filters. Read-only; safe for concurrent use.
type Manager struct {
	normalize, merge bool
	slashes          hcmv3.HttpConnectionManager_PathWithEscapedSlashesAction
	underscores      corev3.HttpProtocolOptions_HeadersWithUnderscoresAction
	maxHeaders       int
	maxBytes         int
	upgrades         []string // in lower case
	mutations        []mutation
	plainSegments    bool
}

// Refusal is an answer of Envoy's own, given before any filter.
type Refusal struct {
	Status int
	Reason string
}

// Statuses of refusals.
const (
	statusRedirect  = 307
	statusBad       = 400
	statusForbidden = 403
	statusNotFound  = 404
	statusTooLarge  = 431
)

// NotHTTP is the refusal of bytes that are no request.
func NotHTTP() *Refusal { return bad("it is not HTTP") }

// Envoy's own defaults.
const (
	defaultMaxHeaders = 100
	defaultMaxKB      = 60
)

// New reads the settings.
func New(m *hcmv3.HttpConnectionManager) (*Manager, error) {
	if err := known(m); err != nil {
		return nil, fmt.Errorf("http connection manager: %w", err)
	}
	mutations, err := earlyMutations(m)
	if err != nil {
		return nil, fmt.Errorf("http connection manager: %w", err)
	}
	out := &Manager{
		normalize: m.GetNormalizePath().GetValue(), merge: m.GetMergeSlashes(), slashes: m.GetPathWithEscapedSlashesAction(),
		underscores: m.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction(), maxHeaders: defaultMaxHeaders, maxBytes: defaultMaxKB << 10,
		mutations: mutations, plainSegments: m.GetRouteConfig().GetIgnorePathParametersInPathMatching(),
	}
	if n := m.GetCommonHttpProtocolOptions().GetMaxHeadersCount(); n != nil {
		out.maxHeaders = int(n.GetValue())
	}
	if n := m.GetMaxRequestHeadersKb(); n != nil {
		out.maxBytes = int(n.GetValue()) << 10
	}
	for _, u := range m.GetUpgradeConfigs() {
		if u.GetEnabled() == nil || u.GetEnabled().GetValue() {
			out.upgrades = append(out.upgrades, strings.ToLower(u.GetUpgradeType()))
		}
	}
	return out, nil
}

// known refuses settings that change what filters see in ways that this package does not know.
func known(m *hcmv3.HttpConnectionManager) error {
	options := m.GetHttpProtocolOptions()
	for _, s := range []struct {
		name  string
		wrong bool
	}{
		{"use_remote_address is not true", !m.GetUseRemoteAddress().GetValue()},
		{"xff_num_trusted_hops is not 0", m.GetXffNumTrustedHops() != 0},
		{"original_ip_detection_extensions are set", len(m.GetOriginalIpDetectionExtensions()) > 0},
		{"internal_address_config is set", m.GetInternalAddressConfig() != nil},
		{"skip_xff_append is not true", !m.GetSkipXffAppend()},
		{"generate_request_id is not false", m.GetGenerateRequestId() == nil || m.GetGenerateRequestId().GetValue()},
		{"preserve_external_request_id is not true", !m.GetPreserveExternalRequestId()},
		{"forward_client_cert_details is not SANITIZE", m.GetForwardClientCertDetails() != hcmv3.HttpConnectionManager_SANITIZE},
		{"path_normalization_options are set", m.GetPathNormalizationOptions() != nil},
		{"a port is stripped from the host", m.GetStripPortMode() != nil || m.GetStripMatchingHostPort()},
		{"the host's trailing dot is stripped", m.GetStripTrailingHostDot()},
		{"typed_header_validation_config is set", m.GetTypedHeaderValidationConfig() != nil},
		{"scheme_header_transformation is set", m.GetSchemeHeaderTransformation() != nil},
		{"add_user_agent is set", m.GetAddUserAgent() != nil},
		{"append_x_forwarded_port is true", m.GetAppendXForwardedPort()},
		{"forward_proto_config is set", m.GetForwardProtoConfig() != nil},
		{"forward_client_cert_matcher is set", m.GetForwardClientCertMatcher() != nil},
		{"represent_ipv4_remote_address_as_ipv4_mapped_ipv6 is true", m.GetRepresentIpv4RemoteAddressAsIpv4MappedIpv6()},
		{"via is set", m.GetVia() != ""},
		{"tracing is set", m.GetTracing() != nil},
		{"routes are not part of it", m.GetRouteConfig() == nil},
		{"allow_absolute_url is not true", options.GetAllowAbsoluteUrl() != nil && !options.GetAllowAbsoluteUrl().GetValue()},
		{"allow_chunked_length is true", options.GetAllowChunkedLength()},
		{"allow_custom_methods is true", options.GetAllowCustomMethods()},
	} {
		if s.wrong {
			return errors.New(s.name + ": not evaluated")
		}
	}
	return nil
}

// PlainSegments says that routes and filters compare paths without the parameters of their segments.
func (m *Manager) PlainSegments() bool { return m.plainSegments }

// Arrive is a request as filters see it, or why they never do. Secure says that it comes over TLS.
func (m *Manager) Arrive(source netip.Addr, secure bool, sent *model.HTTPRequest) (*model.HTTPRequest, *Refusal) {
	seen := &model.HTTPRequest{Method: sent.Method, Host: strings.Trim(sent.Host, " \t"), Path: sent.Path}
	for _, step := range []func() *Refusal{
		func() *Refusal { return m.size(sent) },
		func() *Refusal { return target(seen, secure) },
		func() *Refusal { return m.lines(seen, sent) },
		func() *Refusal { return m.upgrade(seen) },
		func() *Refusal { return m.path(seen) },
	} {
		if refused := step(); refused != nil {
			return nil, refused
		}
	}
	for _, c := range m.mutations {
		c.apply(seen)
	}
	distrust(seen, source, secure)
	return seen, nil
}

// size bounds the head, as it is on the wire, and its lines.
func (m *Manager) size(r *model.HTTPRequest) *Refusal {
	const separators = len("  HTTP/1.1\r\nHost: \r\n\r\n")
	n := len(r.Method) + len(r.Path) + len(r.Host) + separators
	for _, h := range r.Headers {
		n += len(h.Name) + len(h.Value) + len(": \r\n")
	}
	if n > m.maxBytes || len(r.Headers)+1 > m.maxHeaders {
		return &Refusal{statusTooLarge, "the headers are too large, or too many"}
	}
	return nil
}

// path is what normalization makes of it.
func (m *Manager) path(r *model.HTTPRequest) *Refusal {
	redirect := false
	if m.slashes > hcmv3.HttpConnectionManager_KEEP_UNCHANGED {
		decoded, found := unescapeSlashes(r.Path)
		if found && m.slashes == hcmv3.HttpConnectionManager_REJECT_REQUEST {
			return &Refusal{statusBad, "the path holds an escaped slash"}
		}
		redirect = found && m.slashes == hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT
		r.Path = decoded
	}
	if m.normalize {
		var sound bool
		if r.Path, sound = normalizePath(r.Path); !sound {
			return &Refusal{statusBad, "the path holds an escaped NUL"}
		}
	}
	if m.merge {
		r.Path = mergeSlashes(r.Path)
	}
	if redirect {
		return &Refusal{statusRedirect, "the path holds an escaped slash: the caller is sent to " + r.Path}
	}
	return nil
}

// upgrade refuses protocols that are not served.
func (m *Manager) upgrade(r *model.HTTPRequest) *Refusal {
	wanted, asked := first(r, "upgrade")
	if !asked || slices.Contains(m.upgrades, strings.ToLower(wanted)) {
		return nil
	}
	return &Refusal{statusForbidden, "the protocol " + wanted + " is not served"}
}
