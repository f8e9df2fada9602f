package xds

import (
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// buildVersion is the proxy's version as it says it: "envoy 1.40.0".
func buildVersion(n *corev3.Node) string {
	v := n.GetUserAgentBuildVersion().GetVersion()
	if v == nil {
		return n.GetUserAgentName()
	}
	number := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	text := n.GetUserAgentName() + " " + number(v.GetMajorNumber()) + "." + number(v.GetMinorNumber()) + "." + number(v.GetPatch())
	const longest = 64
	return text[:min(len(text), longest)]
}

// firstPatched is, for a minor version of Envoy 1, the first patch that has the fixes which the generated configuration relies on: repeated headers in
// RBAC (CVE-2026-26308), path parameters (CVE-2026-73511, 73551, 73553), negative header expressions (CVE-2026-73552).
func firstPatched(minor uint32) (patch uint32, supported bool) {
	const oldest, patchedFromTheStart = 36, 40
	switch {
	case minor < oldest:
		return 0, false
	case minor >= patchedFromTheStart:
		return 0, true
	}
	return [...]uint32{10, 6, 4, 1}[minor-oldest], true
}

// checkBuild refuses an Envoy that would read the configuration otherwise than it is meant: a matcher that a proxy does not know has matched
// everything before (CVE-2022-21679). Such a proxy gets nothing and stays shut. What names no version is taken as it is.
func checkBuild(n *corev3.Node) error {
	v := n.GetUserAgentBuildVersion().GetVersion()
	if n.GetUserAgentName() != "envoy" || v == nil || v.GetMajorNumber() > 1 {
		return nil
	}
	patch, supported := firstPatched(v.GetMinorNumber())
	if supported && v.GetMajorNumber() == 1 && v.GetPatch() >= patch {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "%s is not served: policies need Envoy 1.36.10, 1.37.6, 1.38.4, 1.39.1 or 1.40.0, or a later patch", buildVersion(n))
}
