package bootstrap_test

import (
	"encoding/json"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pilot-lite/pilot-lite/internal/sidecartest"
	"github.com/pilot-lite/pilot-lite/pkg/bootstrap"
)

// Whatever a pod's author writes into a probe is refused, or arrives at Envoy as it was written, in its own field, and changes nothing else.
func FuzzProbe(f *testing.F) {
	f.Add("app/liveness", "/healthz?a=b", "shop.example", "X-Probe", "100% $(POD_NAME)", "liveness")
	f.Add("$(POD_IP)", "$(POD_IP)$$(", "", "user-agent", "", "$$$(POD_NAMESPACE)")
	f.Add("a\"},{\"b", "//x/\\\"\n", "a\r\nb", "Host", "%REQ(:path)%%", "\x00\u2028\xff")
	f.Fuzz(func(t *testing.T, name, path, host, headerName, headerValue, service string) {
		s := sidecar()
		s.Probes = []bootstrap.Probe{
			{
				Name: name, Kind: bootstrap.ProbeHTTP, Port: 80, Path: path, Host: host,
				Headers: []bootstrap.ProbeHeader{{Name: headerName, Value: headerValue}},
			},
			{Name: name + "/2", Kind: bootstrap.ProbeGRPC, Port: 81, GRPCService: service},
		}
		built, err := bootstrap.BuildSidecar(s)
		if err != nil {
			return
		}
		arguments, err := bootstrap.Args(built)
		if err != nil {
			return
		}
		text := sidecartest.Expand(arguments, "10.0.0.7")[1]
		if !json.Valid([]byte(text)) {
			t.Fatalf("no JSON: %s", text)
		}
		got := new(bootstrapv3.Bootstrap)
		if err := protojson.Unmarshal([]byte(text), got); err != nil {
			t.Fatal(err)
		}
		if err := got.ValidateAll(); err != nil {
			t.Errorf("Envoy would refuse it: %v", err)
		}
		if got.GetNode().GetId() != "shop/cart-1" || len(got.GetStaticResources().GetClusters()) != 4 || len(got.GetStaticResources().GetListeners()) != 2 {
			t.Errorf("something else changed: %s", text)
		}
		web, grpc := got.GetStaticResources().GetClusters()[1], got.GetStaticResources().GetClusters()[2]
		if web.GetName() != "probe/"+name || grpc.GetHealthChecks()[0].GetGrpcHealthCheck().GetServiceName() != service {
			t.Errorf("the names are %q and %q", web.GetName(), grpc.GetHealthChecks()[0].GetGrpcHealthCheck().GetServiceName())
		}
		check := web.GetHealthChecks()[0].GetHttpHealthCheck()
		if host != "" && check.GetHost() != host {
			t.Errorf("host %q", check.GetHost())
		}
		if !strings.HasPrefix(check.GetPath(), "/") || strings.ContainsAny(check.GetPath(), " \r\n\x00") {
			t.Errorf("path %q", check.GetPath())
		}
		for _, h := range check.GetRequestHeadersToAdd() {
			if h.GetHeader().GetKey() == headerName && h.GetHeader().GetValue() != strings.ReplaceAll(headerValue, "%", "%%") {
				t.Errorf("header %q: %q", headerName, h.GetHeader().GetValue())
			}
		}
	})
}
