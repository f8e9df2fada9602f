package envoy_test

import (
	"strconv"
	"testing"

	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"

	"github.com/pilot-lite/pilot-lite/pkg/eval/envoy"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

const (
	onPath = `input{name:"h" typed_config{[type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput]{header_name:":path"}}}`
	onURIs = `input{name:"u" typed_config{[type.googleapis.com/envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput]{}}}`
)

func act(name, action string) string {
	return `action{name:"a" typed_config{[type.googleapis.com/envoy.config.rbac.v3.Action]{name:"` + name + `" action:` + action + `}}}`
}

func single(input, match string) string { return `single_predicate{` + input + ` ` + match + `}` }

// denyIf and allowIf are lists of one condition, with the other action where it does not hold.
func denyIf(predicate string) string {
	return `matcher{matcher_list{matchers{predicate{` + predicate + `} on_match{` + act("found", "DENY") + `}}} on_no_match{` + act("default", "ALLOW") + `}}`
}

func allowIf(predicate string) string {
	return `matcher{matcher_list{matchers{predicate{` + predicate + `} on_match{` + act("found", "ALLOW") + `}}} on_no_match{` + act("default", "DENY") + `}}`
}

func regexOf(expr string) string {
	return `value_match{safe_regex{google_re2{} regex:` + strconv.Quote(expr) + `}}`
}

// What is surprising about Envoy, one by one: each holds of the real one and of the evaluator.
func TestQuirks(t *testing.T) {
	t.Parallel()
	values := func(vs ...string) *model.HTTPRequest {
		r := &model.HTTPRequest{Method: "GET", Host: "h", Path: "/"}
		for _, v := range vs {
			r.Headers = append(r.Headers, model.Header{Name: "x-a", Value: v})
		}
		return r
	}
	path := func(p string) *model.HTTPRequest { return &model.HTTPRequest{Method: "GET", Host: "h", Path: p} }
	nested := `matcher{matcher_list{matchers{predicate{` + single(onA, `value_match{exact:"v"}`) + `} on_match{` + act("inner", "ALLOW") + `}}}}`
	tree := func(kind, entries string) string {
		return `matcher{matcher_tree{` + onPath + ` ` + kind + `{` + entries + `}} on_no_match{` + act("default", "DENY") + `}}`
	}
	entry := func(key, onMatch string) string { return `map{key:"` + key + `" value{` + onMatch + `}} ` }
	header := func(m string) string { return policyOf(`header{name:"x-a" `+m+`}`, `any:true`) }
	cases := []struct {
		name, filter string
		request      *model.HTTPRequest
		way          wayName
		want         string // the name of what decides; empty where nothing does
		allowed      bool
	}{
		{"a subtree that does not match falls through to a shorter prefix", tree("prefix_match_map", entry("/", act("short", "ALLOW"))+entry("/a", nested)), path("/a/b"), plaintext, "short", true},
		{"a subtree that does not match falls through an exact map", tree("exact_match_map", entry("/a", nested)), path("/a"), plaintext, "default", false},
		{"a subtree that does not match falls through a list", `matcher{matcher_list{matchers{predicate{` + single(onPath, `value_match{exact:"/a"}`) + `} on_match{` + nested + `}}} on_no_match{` + act("default", "ALLOW") + `}}`, path("/a"), plaintext, "default", true},
		{"the empty key is a prefix of everything", tree("prefix_match_map", entry("", act("empty", "ALLOW"))), path("/a"), plaintext, "empty", true},
		{"keys have case", tree("exact_match_map", entry("/a", act("key", "ALLOW"))), path("/A"), plaintext, "default", false},
		{"an exact path has no query", tree("exact_match_map", entry("/a", act("key", "ALLOW"))), path("/a?x"), plaintext, "default", false},
		{"no action at all denies", `matcher{}`, path("/"), plaintext, "", false},
		{"a matcher counts, and rules beside it do not", `rules{action:DENY} matcher{}`, path("/"), plaintext, "", false},
		{"lines are joined", allowIf(single(onA, `value_match{exact:"a,b"}`)), values("a", "b"), plaintext, "found", true},
		{"no line satisfies alone", allowIf(single(onA, `value_match{exact:"b"}`)), values("a", "b"), plaintext, "default", false},
		{"an absent header satisfies nothing", allowIf(single(onA, regexOf(`\C*`))), values(), plaintext, "default", false},
		{"an absent header satisfies a negation", allowIf(`not_matcher{` + single(onA, `value_match{exact:"b"}`) + `}`), values(), plaintext, "found", true},
		{"an empty header is there", allowIf(single(onA, regexOf(`\C*`))), values(""), plaintext, "found", true},
		{"an expression matches the whole", allowIf(single(onA, regexOf("b"))), values("ab"), plaintext, "default", false},
		{"a literal in UTF-8 is its bytes", allowIf(single(onA, regexOf("é"))), values("é"), plaintext, "found", true},
		{"a dot is a byte", allowIf(single(onA, regexOf("."))), values("é"), plaintext, "default", false},
		{"two dots are two bytes", allowIf(single(onA, regexOf(".."))), values("é"), plaintext, "found", true},
		{"a negated class takes bytes that are no text", allowIf(single(onA, regexOf("[^a]"))), values("\xff"), plaintext, "found", true},
		{"certificates stop the matcher on plaintext", denyIf(single(onURIs, `value_match{exact:"x"}`)), path("/"), plaintext, "", false},
		{"also negated", denyIf(`not_matcher{` + single(onURIs, `value_match{exact:"x"}`) + `}`), path("/"), plaintext, "", false},
		{"also behind a condition that holds", denyIf(`and_matcher{predicate{` + single(onPath, `value_match{exact:"/"}`) + `} predicate{` + single(onURIs, `value_match{exact:"x"}`) + `}}`), path("/"), plaintext, "", false},
		{"not behind one that does not", denyIf(`and_matcher{predicate{` + single(onPath, `value_match{exact:"/a"}`) + `} predicate{` + single(onURIs, `value_match{exact:"x"}`) + `}}`), path("/"), plaintext, "default", true},
		{"a true sibling survives", allowIf(`or_matcher{predicate{` + single(onURIs, `value_match{exact:"x"}`) + `} predicate{` + single(onPath, `value_match{exact:"/"}`) + `}}`), path("/"), plaintext, "found", true},
		{"and a key by certificates", `matcher{matcher_tree{` + onURIs + ` exact_match_map{` + entry("x", act("key", "DENY")) + `}} on_no_match{` + act("default", "ALLOW") + `}}`, path("/"), plaintext, "", false},
		{"URIs are joined", allowIf(single(onURIs, `value_match{exact:"a,ab"}`)), path("/"), withCertificate, "found", true},
		{"no URI satisfies alone", allowIf(single(onURIs, `value_match{exact:"ab"}`)), path("/"), withCertificate, "default", false},
		{"but a principal is any of the names", policyOf(`any:true`, `authenticated{principal_name{exact:"ab"}}`), path("/"), withCertificate, "p", true},
		{"also the subject, beside URIs", policyOf(`any:true`, `authenticated{principal_name{exact:"CN=a"}}`), path("/"), withCertificate, "p", true},
		{"on plaintext nobody is authenticated", policyOf(`any:true`, `authenticated{}`), path("/"), plaintext, "", false},
		{"and whoever is not somebody may be nobody", policyOf(`any:true`, `not_id{authenticated{principal_name{exact:"x"}}}`), path("/"), plaintext, "p", true},
		{"in rules any line satisfies", header(`string_match{exact:"b"}`), values("a", "b"), plaintext, "p", true},
		{"but not an element of a list", header(`string_match{exact:"b"}`), values("a,b"), plaintext, "", false},
		{"an inversion wants none", header(`string_match{exact:"b"} invert_match:true`), values("a", "b"), plaintext, "", false},
		{"an inversion wants the header", header(`string_match{exact:"b"} invert_match:true`), values(), plaintext, "", false},
		{"unless it counts as empty", header(`string_match{exact:"b"} invert_match:true treat_missing_header_as_empty:true`), values(), plaintext, "p", true},
		{"a negation does not want it", policyOf(`not_rule{header{name:"x-a" string_match{exact:"b"}}}`, `any:true`), values(), plaintext, "p", true},
		{"names have no case", policyOf(`header{name:"X-A" present_match:true}`, `any:true`), values("a"), plaintext, "p", true},
		{"url_path has no query", policyOf(`url_path{path{exact:"/a"}}`, `any:true`), path("/a?x"), plaintext, "p", true},
		{"url_path has parameters", policyOf(`url_path{path{exact:"/a"}}`, `any:true`), path("/a;x"), plaintext, "", false},
		{"unless routes ignore them", policyOf(`url_path{path{exact:"/a/b"}}`, `any:true`), path("/a;x/b;y"), plainSegments, "p", true},
		{"the end of a range is not in it", policyOf(`destination_port_range{start:18079 end:18080}`, `any:true`), path("/"), plaintext, "", false},
		{"a range without a length is all addresses of its family", policyOf(`any:true`, `direct_remote_ip{address_prefix:"10.0.0.0"}`), path("/"), plaintext, "p", true},
		{"an IPv4 caller is in no range of mapped addresses", policyOf(`any:true`, `direct_remote_ip{address_prefix:"::ffff:0.0.0.0" prefix_len{value:96}}`), path("/"), plaintext, "", false},
		{"LOG allows", `matcher{on_no_match{` + act("log", "LOG") + `}}`, path("/"), plaintext, "log", true},
		{"rules that log allow what they do not match", `rules{action:LOG}`, path("/"), plaintext, "", true},
	}
	var messages []*rbacv3.RBAC
	for _, c := range cases {
		m := &rbacv3.RBAC{}
		unmarshal(t, c.filter, m)
		messages = append(messages, m)
	}
	ways := startWays(t, messages)
	for i, c := range cases {
		f, err := envoy.HTTP(messages[i])
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		w := ways[c.way]
		c.request.Headers = append(c.request.Headers, model.Header{Name: caseHeader, Value: strconv.Itoa(i)})
		r := w.request(sources()[0], c.request)
		if got := f.Decide(r); got.Allowed != c.allowed || got.Name != c.want {
			t.Errorf("%s: the evaluator says %+v, want %q", c.name, got, c.want)
		}
		status, told := send(w.client, r.Source, w.address, c.request)
		if difference := compare(f, r, status, told); difference != "" {
			t.Errorf("%s: %s", c.name, difference)
		}
	}
}
