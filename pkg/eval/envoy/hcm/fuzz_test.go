package hcm_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy/hcm"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// FuzzArrive: whatever a client sends, what arrives is a path without dot segments and without repeated slashes, and normalizing it again changes nothing.
func FuzzArrive(f *testing.F) {
	for _, target := range []string{"/", "/a/../b", "//a", "/%2e%2e/a", "/..;x/a", "/%%34%31", `\a\..`, "/a%2Fb?%2F", "http://u@h/x", "*", "/a#b", "/%25%2e", "/.%2e/.", "////", "/a/..//.."} {
		f.Add(target, "h", "te", "trailers")
	}
	settings := manager(f)
	settings.NormalizePath, settings.MergeSlashes = wrapperspb.Bool(true), true
	settings.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	m, err := hcm.New(settings)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target, host, name, value string) {
		source := netip.MustParseAddr("10.0.0.1")
		seen, refusal := m.Arrive(source, false, &model.HTTPRequest{Method: "GET", Host: host, Path: target, Headers: []model.Header{{Name: name, Value: value}}})
		if refusal != nil {
			if seen != nil || refusal.Status < 300 || refusal.Reason == "" {
				t.Errorf("%q: %+v and %+v", target, seen, refusal)
			}
			return
		}
		path, _, _ := strings.Cut(seen.Path, "?")
		if !strings.HasPrefix(path, "/") || strings.Trim(path, "/") != "" && strings.Contains(path, "//") ||
			slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." }) {
			t.Errorf("%q arrives as %q", target, seen.Path)
		}
	})
}
