package envoy_test

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/internal/worldgen"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
	"github.com/pilot-lite/pilot-lite/pkg/translate"
	"github.com/pilot-lite/pilot-lite/pkg/translate/rbac"
)

// cart is what the sidecar of a callee without policies gets, behind a redirect.
func cart(t *testing.T) []proto.Message {
	t.Helper()
	ix := model.NewIndex(worldgen.Cast(nil))
	var out []proto.Message
	for _, w := range translate.Translate(ix).Workloads {
		if w.Workload != ix.WorkloadOf("shop", "cart") {
			continue
		}
		for _, r := range w.Resources {
			out = append(out, r.Message)
		}
	}
	return out
}

func get(path string) *envoy.Call {
	return &envoy.Call{Source: worldgen.Callers()[0], Port: worldgen.HTTPPort, HTTP: &model.HTTPRequest{Method: "GET", Host: "cart", Path: path}}
}

// The chain that takes a call decides, by what arrives of it.
func TestSidecar(t *testing.T) {
	t.Parallel()
	s, err := envoy.NewSidecar(cart(t)...)
	if err != nil {
		t.Fatal(err)
	}
	port := func(n uint16) *envoy.Call { return &envoy.Call{Source: worldgen.Callers()[0], Port: n} }
	for _, c := range []struct {
		name, chain string
		call        *envoy.Call
		outcome     envoy.Outcome
		allowed     bool
	}{
		{"a request", "http/8080", get("/a/../b"), envoy.Decided, true},
		{"a request that is refused", "http/8080", get("/a%2Fb"), envoy.Refused, false},
		{"bytes where HTTP is spoken", "http/8080", port(worldgen.HTTPPort), envoy.Refused, false},
		{"bytes", "tcp/5432", port(worldgen.TCPPort), envoy.Decided, true},
		{"a request where bytes are spoken", "tcp/5432", &envoy.Call{Source: worldgen.Callers()[0], Port: worldgen.TCPPort, HTTP: get("/").HTTP}, envoy.Decided, true},
		{"a port that nobody declares", "tcp/other", port(9), envoy.Decided, true},
		{"a port of the sidecar's own", "reserved/15006", port(model.InboundPort), envoy.Closed, false},
	} {
		if got := s.Decide(c.call); got.Chain != c.chain || got.Outcome != c.outcome || got.Allowed != c.allowed {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
	if got := s.Decide(get("/a/../b")); got.Seen.Path != "/b" || got.Name != model.OutcomeNotIsolated {
		t.Errorf("got %+v, seen as %+v", got, got.Seen)
	}
	none, err := envoy.NewSidecar()
	if err != nil {
		t.Fatal(err)
	}
	if got := none.Decide(get("/")); got.Outcome != envoy.Closed {
		t.Errorf("without listeners: got %+v", got)
	}
}

// What would let a call go around what is evaluated makes the verdict unknown, for the calls that it concerns.
func TestSidecarsThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	manager := func(change func(*hcmv3.HttpConnectionManager)) func(*listenerv3.Listener) {
		return func(l *listenerv3.Listener) {
			for _, c := range l.GetFilterChains() {
				for _, f := range c.GetFilters() {
					m := &hcmv3.HttpConnectionManager{}
					if f.GetTypedConfig().UnmarshalTo(m) == nil {
						change(m)
						f.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: envoytest.Pack(t, m)}
					}
				}
			}
		}
	}
	first := func(change func(*listenerv3.FilterChain)) func(*listenerv3.Listener) {
		return func(l *listenerv3.Listener) { change(l.GetFilterChains()[1]) } // that of HTTP, after the one of TCP
	}
	unknown := envoytest.Pack(t, &corev3.Address{})
	for want, change := range map[string]func(*listenerv3.Listener){
		"transport_socket": first(func(c *listenerv3.FilterChain) { c.TransportSocket = &corev3.TransportSocket{} }),
		"core.v3.Address": first(func(c *listenerv3.FilterChain) {
			c.Filters = append([]*listenerv3.Filter{{Name: "x", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: unknown}}}, c.Filters...)
		}),
		"is no RBAC filter": manager(func(m *hcmv3.HttpConnectionManager) {
			m.HttpFilters = append([]*hcmv3.HttpFilter{{Name: "x", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: unknown}}}, m.HttpFilters...)
		}),
		"disabled": manager(func(m *hcmv3.HttpConnectionManager) { m.HttpFilters[0].Disabled = true }),
		"typed_per_filter_config": manager(func(m *hcmv3.HttpConnectionManager) {
			m.GetRouteConfig().VirtualHosts[0].TypedPerFilterConfig = map[string]*anypb.Any{rbac.HTTPSlot: envoytest.Pack(t, &rbacv3.RBACPerRoute{})}
		}),
		"strip": manager(func(m *hcmv3.HttpConnectionManager) { m.StripMatchingHostPort = true }),
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			resources := cart(t)
			for _, r := range resources {
				if l, ok := r.(*listenerv3.Listener); ok {
					change(l)
				}
			}
			s, err := envoy.NewSidecar(resources...)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Decide(get("/")); got.Allowed || got.Outcome != envoy.Unknown || got.Err == nil || !strings.Contains(got.Err.Error(), want) {
				t.Errorf("got %+v", got)
			}
			if got := s.Decide(&envoy.Call{Source: worldgen.Callers()[0], Port: worldgen.TCPPort}); !got.Allowed {
				t.Errorf("another chain: got %+v", got)
			}
		})
	}
}

// What chooses chains by anything but the port, or rewrites connections first, is an error.
func TestListenersThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*listenerv3.Listener){
		"filter_chain_match": func(l *listenerv3.Listener) { l.GetFilterChains()[0].FilterChainMatch.ServerNames = []string{"a"} },
		"listener filter": func(l *listenerv3.Listener) {
			l.ListenerFilters = append(l.ListenerFilters, &listenerv3.ListenerFilter{Name: "x", ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: envoytest.Pack(t, &corev3.Address{})}})
		},
	} {
		resources := cart(t)
		for _, r := range resources {
			if l, ok := r.(*listenerv3.Listener); ok {
				change(l)
			}
		}
		if _, err := envoy.NewSidecar(resources...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

// A trace tells the way to the decision, in the words of the message.
func TestWay(t *testing.T) {
	t.Parallel()
	m := &rbacv3.RBAC{}
	unmarshal(t, `matcher{matcher_tree{`+onPath+` prefix_match_map{map{key:"/a" value{matcher{matcher_list{matchers{predicate{`+single(onA, `value_match{exact:"v"}`)+`} on_match{`+act("inner", "ALLOW")+`}}}}}}}} on_no_match{`+act("default", "DENY")+`}}`, m)
	f, err := envoy.HTTP(m)
	if err != nil {
		t.Fatal(err)
	}
	r := &envoy.Request{Source: netip.MustParseAddr("10.0.0.1"), HTTP: &model.HTTPRequest{Path: "/a/b", Headers: []model.Header{{Name: "x-a", Value: "v"}}}}
	var got []string
	for _, s := range f.Decide(r).Way {
		got = append(got, s.Place+": "+s.Text)
	}
	want := `matcher.matcher_tree.prefix_match_map["/a"]: :path begins with "/a"
matcher_list.matchers[0]: x-a is "v"`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	r.HTTP.Headers = nil
	if d := f.Decide(r); len(d.Way) != 1 || d.Way[0].Place != "matcher.on_no_match" || d.Name != "default" {
		t.Errorf("got %+v", d)
	}
}
