package envoy_test

import (
	"os/exec"
	"strings"
	"testing"

	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/pilot-lite/pilot-lite/internal/envoytest"
	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	onA      = `input{name:"h" typed_config{[type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput]{header_name:"x-a"}}}`
	onSource = `input{name:"s" typed_config{[type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput]{}}}`
	allowing = `action{name:"a" typed_config{[type.googleapis.com/envoy.config.rbac.v3.Action]{name:"a"}}}`
)

func listOf(predicate, onMatch string) string {
	return `matcher{matcher_list{matchers{predicate{` + predicate + `} on_match{` + onMatch + `}}}}`
}

func policyOf(permission, principal string) string {
	return `rules{policies{key:"p" value{permissions{` + permission + `} principals{` + principal + `}}}}`
}

// What Envoy refuses is an error here, and what it takes is none.
func TestWhatEnvoyRefusesIsAnError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, http, network string
		refused             bool
	}{
		{name: "sound", http: listOf(`single_predicate{`+onA+` value_match{exact:"v"}}`, allowing)},
		{name: "keep_matching", http: listOf(`single_predicate{`+onA+` value_match{exact:"v"}}`, allowing+` keep_matching:true`), refused: true},
		{name: "an expression without case", http: listOf(`single_predicate{`+onA+` value_match{safe_regex{google_re2{} regex:"v"} ignore_case:true}}`, allowing), refused: true},
		{name: "an expression that does not parse", http: listOf(`single_predicate{`+onA+` value_match{safe_regex{google_re2{} regex:"("}}}`, allowing), refused: true},
		{name: "any byte, in a class", http: listOf(`single_predicate{`+onA+` value_match{safe_regex{google_re2{} regex:"[\\C]"}}}`, allowing), refused: true},
		{name: "an expression without an engine", http: listOf(`single_predicate{`+onA+` value_match{safe_regex{regex:"v"}}}`, allowing), refused: true},
		{name: "nothing to compare with", http: listOf(`single_predicate{`+onA+` value_match{}}`, allowing), refused: true},
		{name: "no input", http: listOf(`single_predicate{value_match{exact:"v"}}`, allowing), refused: true},
		{name: "nothing on a match", http: listOf(`single_predicate{`+onA+` value_match{exact:"v"}}`, ``), refused: true},
		{name: "an action of another kind", http: listOf(`single_predicate{`+onA+` value_match{exact:"v"}}`, `action{name:"a" typed_config{[type.googleapis.com/envoy.config.rbac.v3.Policy]{}}}`), refused: true},
		{name: "an action without a name", http: `matcher{on_no_match{action{name:"a" typed_config{[type.googleapis.com/envoy.config.rbac.v3.Action]{}}}}}`, refused: true},
		{name: "an address that is none", http: listOf(`single_predicate{`+onSource+` custom_match{name:"ip" typed_config{[type.googleapis.com/envoy.extensions.matching.input_matchers.ip.v3.Ip]{cidr_ranges{address_prefix:"10.0.0" prefix_len{value:8}} stat_prefix:"x"}}}}`, allowing), refused: true},
		{name: "a prefix that is too long", http: policyOf(`any:true`, `direct_remote_ip{address_prefix:"10.0.0.0" prefix_len{value:33}}`)},
		{name: "a range of no ports", http: policyOf(`destination_port_range{start:80 end:80}`, `any:true`), refused: true},
		{name: "a range beyond all ports", http: policyOf(`destination_port_range{start:80 end:65537}`, `any:true`), refused: true},
		{name: "a range of all ports", http: policyOf(`destination_port_range{start:0 end:65536}`, `any:true`)},
		{name: "anything that is nothing", http: policyOf(`any:false`, `any:true`), refused: true},
		{name: "no principal", http: policyOf(`any:true`, ``), refused: true},
		{name: "a matcher of connections", network: listOf(`single_predicate{`+onSource+` value_match{exact:"v"}}`, allowing)},
		{name: "a matcher of connections by header", network: listOf(`single_predicate{`+onA+` value_match{exact:"v"}}`, allowing), refused: true},
		{name: "rules of connections by header", network: policyOf(`header{name:"x-a"}`, `any:true`), refused: true},
		{name: "rules of connections by path", network: policyOf(`url_path{path{exact:"/"}}`, `any:true`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := socket(t, "127.0.0.1")
			var err error
			var l *listenerv3.Listener
			if c.network != "" {
				m := &networkrbacv3.RBAC{}
				unmarshal(t, c.network+` stat_prefix:"x"`, m)
				l = networkListener(t, address, m)
				_, err = envoy.Network(m)
			} else {
				m := &rbacv3.RBAC{}
				unmarshal(t, c.http, m)
				l = httpListener(t, address, func(*hcmv3.HttpConnectionManager) {}, m)
				_, err = envoy.HTTP(m)
			}
			if (err != nil) != c.refused {
				t.Errorf("got %v, want an error: %t", err, c.refused)
			}
			if said := validate(t, l); (said != "") != c.refused {
				t.Errorf("Envoy says %q, want it to refuse: %t", said, c.refused)
			}
		})
	}
}

func unmarshal(t testing.TB, text string, m proto.Message) {
	t.Helper()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
}

// validate is what Envoy says against a listener, or "".
func validate(t *testing.T, l *listenerv3.Listener) string {
	t.Helper()
	config := envoytest.WriteListeners(t, "", l)
	out, err := exec.CommandContext(t.Context(), envoytest.Binary(t), "--mode", "validate", "-c", config, "-l", "critical").CombinedOutput()
	if err == nil {
		return ""
	}
	return strings.TrimSpace(string(out)) + " " + err.Error()
}

// What the evaluator does not know it does not guess: the request is denied, with the reason.
func TestWhatIsNotKnownDenies(t *testing.T) {
	t.Parallel()
	metadata := `metadata{filter:"x" path{key:"k"} value{present_match:true}}`
	for _, c := range []struct{ name, http, want string }{
		{"metadata", policyOf(metadata, `any:true`), "Permission_Metadata"},
		{"metadata, negated", policyOf(`not_rule{`+metadata+`}`, `any:true`), "Permission_Metadata"},
		{"metadata of the caller", policyOf(`any:true`, `not_id{`+metadata+`}`), "Principal_Metadata"},
		{"a deny", `rules{action:DENY policies{key:"p" value{permissions{` + metadata + `} principals{any:true}}}}`, "Permission_Metadata"},
		{"a log", `rules{action:LOG policies{key:"p" value{permissions{` + metadata + `} principals{any:true}}}}`, "Permission_Metadata"},
		{"the server's name", policyOf(`requested_server_name{exact:"a"}`, `any:true`), "RequestedServerName"},
		{"a destination address", policyOf(`destination_ip{address_prefix:"10.0.0.0"}`, `any:true`), "DestinationIp"},
		{"a condition", `rules{policies{key:"p" value{permissions{any:true} principals{any:true} condition{const_expr{bool_value:true}}}}}`, "the condition of policy p"},
		{"an input", listOf(`not_matcher{single_predicate{input{name:"i" typed_config{[type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.ServerNameInput]{}}} value_match{exact:"v"}}}`, allowing), "ServerNameInput"},
		{"the key of a map", `matcher{matcher_tree{input{name:"i" typed_config{[type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.ServerNameInput]{}}} exact_match_map{map{key:"a" value{` + allowing + `}}}} on_no_match{` + allowing + `}}`, "ServerNameInput"},
		{"a trie of addresses", `matcher{matcher_tree{` + onSource + ` custom_match{name:"ip" typed_config{[type.googleapis.com/xds.type.matcher.v3.IPMatcher]{}}}} on_no_match{` + allowing + `}}`, "IPMatcher"},
		{"folded bytes", listOf(`single_predicate{`+onA+` value_match{safe_regex{google_re2{} regex:"(?i)é"}}}`, allowing), "ignores the case of bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := &rbacv3.RBAC{}
			unmarshal(t, c.http, m)
			f, err := envoy.HTTP(m)
			if err != nil {
				t.Fatal(err)
			}
			got := f.Decide(&envoy.Request{Source: sources()[0], HTTP: &model.HTTPRequest{Headers: []model.Header{{Name: "x-a", Value: "v"}}}})
			if got.Allowed || got.Outcome != envoy.Unknown || got.Err == nil || !strings.Contains(got.Err.Error(), c.want) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// An unknown part that a request never gets to does not matter to it.
func TestWhatIsNotAskedNeedsNotBeKnown(t *testing.T) {
	t.Parallel()
	m := &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{}}
	unmarshal(t, `rules{policies{key:"p" value{permissions{and_rules{rules{header{name:"x-a"}} rules{uri_template{name:"t"}}}} principals{any:true}}}}`, m)
	m.Rules.Policies["p"].Permissions[0].GetAndRules().Rules[1].GetUriTemplate().TypedConfig = envoytest.Pack(t, &corev3.Address{})
	f, err := envoy.HTTP(m)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Decide(&envoy.Request{Source: sources()[0], HTTP: &model.HTTPRequest{}}); got.Outcome != envoy.NoMatch {
		t.Errorf("got %+v", got)
	}
}

// A filter without anything in it enforces nothing; an empty matcher, and empty rules that allow, deny all.
func TestEmptyFilters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		m    *rbacv3.RBAC
		want envoy.Decision
	}{
		{"nothing", &rbacv3.RBAC{}, envoy.Decision{Allowed: true, Outcome: envoy.NotEnforced}},
		{"a matcher", &rbacv3.RBAC{Matcher: &xdsmatcherv3.Matcher{}}, envoy.Decision{Outcome: envoy.NoMatch}},
		{"rules", &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{}}, envoy.Decision{Outcome: envoy.NoMatch}},
		{"rules that deny", &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY}}, envoy.Decision{Allowed: true, Outcome: envoy.NoMatch}},
		{"rules beside a matcher", &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_DENY}, Matcher: &xdsmatcherv3.Matcher{}}, envoy.Decision{Outcome: envoy.NoMatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, err := envoy.HTTP(c.m)
			if err != nil {
				t.Fatal(err)
			}
			got := f.Decide(&envoy.Request{Source: sources()[0], HTTP: &model.HTTPRequest{}})
			if got.Allowed != c.want.Allowed || got.Outcome != c.want.Outcome {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
