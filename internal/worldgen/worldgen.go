// Package worldgen draws random policies and requests around a small cast: one callee with an HTTP and a TCP port and a few callers. Input: a rapid.T.
// Output: model values. Entry points: Cast, Policies, Request.
package worldgen

import (
	"fmt"
	"net/netip"
	"strconv"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/pilot-lite/pilot-lite/pkg/crd/v1alpha1"
	"github.com/pilot-lite/pilot-lite/pkg/model"
)

// The ports of the callee.
const (
	HTTPPort uint16 = 8080
	TCPPort  uint16 = 5432
)

// Callers are the source addresses that requests come from; the last is in no pod.
func Callers() []netip.Addr {
	const callers = 6
	out := make([]netip.Addr, 0, callers)
	for i := range callers {
		out = append(out, netip.AddrFrom4([4]byte{127, 77, 0, byte(10 + i)}))
	}
	return out
}

// Cast is shop/cart, four callers that differ in labels, account and namespace, one that runs as one of their accounts and is not stamped with it, and nobody at the last of Callers.
func Cast(bound []model.BoundPort) *model.Snapshot {
	caller := func(i int, namespace, app, account string) *model.Pod {
		return &model.Pod{
			Namespace: namespace, Name: fmt.Sprintf("caller-%d", i), Addresses: Callers()[i : i+1],
			Labels: map[string]string{"app": app, v1alpha1.LabelServiceAccount: account},
		}
	}
	unstamped := &model.Pod{Namespace: "shop", Name: "caller-4", Addresses: Callers()[4:5], Labels: map[string]string{"app": "new"}, ServiceAccount: "front"}
	return &model.Snapshot{
		Namespaces: []model.Namespace{
			{Name: "shop", Labels: map[string]string{"kubernetes.io/metadata.name": "shop", "team": "shop"}},
			{Name: "web", Labels: map[string]string{"kubernetes.io/metadata.name": "web", "team": "web"}},
		},
		Services: []model.Service{{
			Namespace: "shop", Name: "cart", Selector: map[string]string{"app": "cart"},
			Ports: []model.ServicePort{{Name: "http", Port: 80, Protocol: model.TCP, TargetPort: HTTPPort}},
		}},
		Pods: []*model.Pod{
			{
				Namespace: "shop", Name: "cart", UID: "1", Labels: map[string]string{"app": "cart"}, Addresses: []netip.Addr{netip.MustParseAddr("127.77.0.1")},
				Ports: []model.ContainerPort{{Name: "web", Number: HTTPPort, Protocol: model.TCP}, {Name: "db", Number: TCPPort, Protocol: model.TCP}},
				Proxy: model.ProxySettings{Injected: true, Bound: bound}, Expected: true,
			},
			caller(0, "shop", "front", "front"), caller(1, "shop", "batch", "batch"), caller(2, "web", "front", "front"), caller(3, "web", "batch", "other"), unstamped,
		},
	}
}

// Policies draws what governs shop/cart: some of everything, or a few rules of which each tells requests apart by one thing, or very many of these.
func Policies(t *rapid.T) []*model.Policy {
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0, 1, 2, 3:
		return narrowPolicies(t, rapid.IntRange(1, 3).Draw(t, "rules"))
	case 4:
		return narrowPolicies(t, 40)
	}
	var out []*model.Policy
	for i := range rapid.IntRange(0, 4).Draw(t, "policies") {
		p := &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: fmt.Sprintf("p%d", i), UID: strconv.Itoa(i), Generation: 1}, Accepted: true,
			Action:   rapid.SampledFrom([]model.Action{model.Allow, model.Allow, model.Deny}).Draw(t, "action"),
			DryRun:   rapid.IntRange(0, 9).Draw(t, "dryRun") == 0,
			Selector: labels.SelectorFromSet(labels.Set{"app": "cart"}), IsolatesIngress: true,
		}
		switch rapid.IntRange(0, 11).Draw(t, "elsewhere") { // a few govern somebody else
		case 0:
			p.Namespace = "web"
		case 1:
			p.Selector = labels.SelectorFromSet(labels.Set{"app": "other"})
		case 2:
			p.IsolatesIngress = false
		}
		// Both sides of the size at which a list of rules becomes a tree are drawn.
		rules := rapid.SampledFrom([]int{0, 1, 2, 3, 5, 60}).Draw(t, "rules")
		for r := range rules {
			p.Ingress = append(p.Ingress, drawRule(t, strconv.Itoa(r)))
		}
		out = append(out, p)
	}
	return out
}

// narrowPolicies is an Allow with narrow rules, or a Deny with them beside an Allow of everything: what one rule says is not hidden behind others.
func narrowPolicies(t *rapid.T, rules int) []*model.Policy {
	named := func(name string, action model.Action) *model.Policy {
		return &model.Policy{
			PolicyRef: model.PolicyRef{Namespace: "shop", Name: name, UID: name, Generation: 1}, Accepted: true, Action: action,
			Selector: labels.SelectorFromSet(labels.Set{"app": "cart"}), IsolatesIngress: true,
		}
	}
	narrow := named("narrow", rapid.SampledFrom([]model.Action{model.Allow, model.Deny}).Draw(t, "action"))
	few := rules < 4
	for i := range rules {
		r := model.Rule{Name: strconv.Itoa(i)}
		switch kind := rapid.IntRange(0, 9).Draw(t, "dimension"); {
		case few && kind == 0:
			r.Peers = []model.Peer{drawPeer(t)}
		case few && kind == 1:
			r.Ports = []model.PortRange{drawPort(t)}
		case few && kind == 2:
			r.HTTP = []model.HTTPMatch{{Methods: []string{"GET", "POST"}}}
		case few && kind < 5:
			r.HTTP = []model.HTTPMatch{{Headers: []model.HeaderMatch{drawHeader(t)}}}
		case few && kind < 6:
			r.HTTP = []model.HTTPMatch{{Hosts: []model.Host{drawHost(t)}}}
		case few:
			r.HTTP = []model.HTTPMatch{{Paths: []model.PathMatch{drawPath(t)}}}
		case kind == 0:
			r.HTTP = []model.HTTPMatch{{Headers: []model.HeaderMatch{{Name: "x-role", Type: model.Exact, Value: fmt.Sprint("role-", i)}}}}
		case kind == 1:
			r.HTTP = []model.HTTPMatch{{Hosts: []model.Host{{Name: fmt.Sprintf("h%d.test", i), Wildcard: rapid.Bool().Draw(t, "wildcard")}}}}
		default:
			many := model.PathMatch{Type: rapid.SampledFrom([]model.MatchType{model.Exact, model.Prefix}).Draw(t, "pathType"), Value: fmt.Sprint("/many/", i)}
			r.HTTP = []model.HTTPMatch{{Paths: []model.PathMatch{many}}, {Paths: []model.PathMatch{drawPath(t)}, Methods: []string{"PUT"}}}
		}
		narrow.Ingress = append(narrow.Ingress, r)
	}
	if narrow.Action == model.Allow {
		return []*model.Policy{narrow}
	}
	everything := named("everything", model.Allow)
	everything.Ingress = []model.Rule{{Name: "0"}}
	return []*model.Policy{everything, narrow}
}

func drawRule(t *rapid.T, name string) model.Rule {
	r := model.Rule{Name: name}
	if rapid.Bool().Draw(t, "hasPeers") {
		r.Peers = rapid.SliceOfN(rapid.Custom(drawPeer), 1, 2).Draw(t, "peers")
	}
	if rapid.IntRange(0, 2).Draw(t, "hasPorts") == 0 {
		r.Ports = rapid.SliceOfN(rapid.Custom(drawPort), 1, 2).Draw(t, "ports")
	}
	if rapid.IntRange(0, 3).Draw(t, "hasHTTP") > 0 {
		r.HTTP = rapid.SliceOfN(rapid.Custom(drawHTTP), 1, 3).Draw(t, "http")
	}
	return r
}

func drawPort(t *rapid.T) model.PortRange {
	return rapid.SampledFrom([]model.PortRange{
		{Protocol: model.TCP, From: HTTPPort, To: HTTPPort},
		{Protocol: model.TCP, From: TCPPort, To: TCPPort},
		{Protocol: model.TCP, Name: "web"},
		{Protocol: model.TCP, From: 8000, To: 8079},
		{Protocol: model.TCP, From: 8080, To: 8090},
		{Protocol: model.TCP, From: 1, To: 65535},
		{Protocol: model.UDP, From: HTTPPort, To: HTTPPort},
		{Protocol: model.TCP, Name: "none"},
		{Protocol: model.TCP},
	}).Draw(t, "port")
}

func drawPeer(t *rapid.T) model.Peer {
	set := func(k, v string) labels.Selector { return labels.SelectorFromSet(labels.Set{k: v}) }
	switch rapid.IntRange(0, 5).Draw(t, "peer") {
	case 0:
		return model.Peer{Pods: set("app", rapid.SampledFrom([]string{"front", "batch", "nobody"}).Draw(t, "app"))}
	case 1:
		return model.Peer{Namespaces: set("team", rapid.SampledFrom([]string{"shop", "web"}).Draw(t, "team"))}
	case 2:
		return model.Peer{Namespaces: labels.Everything(), Pods: set("app", "front")}
	case 3:
		return model.Peer{Namespaces: labels.Everything(), ServiceAccounts: []string{rapid.SampledFrom([]string{"front", "other", "fr.nt"}).Draw(t, "account")}}
	case 4:
		return model.Peer{Namespaces: set("team", "web"), Pods: set("app", "front"), ServiceAccounts: []string{rapid.SampledFrom([]string{"front", "batch"}).Draw(t, "account")}}
	}
	b := &model.IPBlock{CIDR: netip.MustParsePrefix(rapid.SampledFrom([]string{"127.77.0.0/24", "127.77.0.12/30", "127.77.0.14/32", "10.0.0.0/8"}).Draw(t, "cidr"))}
	if b.CIDR.Bits() == 24 && rapid.Bool().Draw(t, "except") {
		b.Except = []netip.Prefix{netip.MustParsePrefix("127.77.0.12/31")}
	}
	return model.Peer{Block: b}
}

func drawHTTP(t *rapid.T) model.HTTPMatch {
	var m model.HTTPMatch
	if rapid.IntRange(0, 3).Draw(t, "hasHosts") == 0 {
		m.Hosts = rapid.SliceOfN(rapid.Custom(drawHost), 1, 2).Draw(t, "hosts")
	}
	if rapid.IntRange(0, 2).Draw(t, "hasMethods") == 0 {
		m.Methods = rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "POST", "DELETE"}), 1, 2).Draw(t, "methods")
	}
	if rapid.IntRange(0, 3).Draw(t, "hasPaths") > 0 {
		m.Paths = rapid.SliceOfN(rapid.Custom(drawPath), 1, 3).Draw(t, "paths")
	}
	if rapid.IntRange(0, 2).Draw(t, "hasHeaders") == 0 {
		m.Headers = rapid.SliceOfN(rapid.Custom(drawHeader), 1, 2).Draw(t, "headers")
	}
	return m
}

func drawHost(t *rapid.T) model.Host {
	return rapid.SampledFrom([]model.Host{
		{Name: "cart", Aliases: []string{"cart.shop", "cart.shop.svc"}}, {Name: "other.test"}, {Name: "good.test", Wildcard: true},
	}).Draw(t, "host")
}

func drawPath(t *rapid.T) model.PathMatch {
	m := model.PathMatch{Type: rapid.SampledFrom([]model.MatchType{model.Exact, model.Prefix, model.Regex}).Draw(t, "pathType")}
	if m.Type == model.Regex {
		m.Value = rapid.SampledFrom([]string{"/a", "/a|/b", "/a/.*", ".*\\.css", "/[a-c]+", "(?i)/A", "/[^b]*", "/a.b"}).Draw(t, "regex")
		return m
	}
	m.Value = rapid.SampledFrom([]string{"/", "/a", "/a/", "/a/b", "/a.b", "/ab", "/a:b", "/a%3Ab", "/b/c/d", "/caf%C3%A9"}).Draw(t, "literal")
	return m
}

func drawHeader(t *rapid.T) model.HeaderMatch {
	m := model.HeaderMatch{Name: "x-role", Type: rapid.SampledFrom([]model.MatchType{
		model.Exact, model.Regex, model.Present, model.Absent, model.NotExact, model.NotRegex,
	}).Draw(t, "headerType")}
	switch m.Type {
	case model.Exact, model.NotExact:
		m.Value = rapid.SampledFrom([]string{"admin", "user", "a.min"}).Draw(t, "value")
	case model.Regex, model.NotRegex:
		m.Value = rapid.SampledFrom([]string{"adm.*", "user|admin", "[^u].*", "a.min"}).Draw(t, "regex")
	case model.Present, model.Absent, model.Prefix:
	}
	return m
}

// target is a request target as it is sent, and as the sidecar sees it after normalization.
type target struct{ sent, seen string }

func targets() []target {
	same := []string{
		"/", "/a", "/a/", "/a/b", "/ab", "/a.b", "/aXb", "/a?x=/b", "/a/b?y", "/a;p=1", "/a;p/b", "/a/;p", "/b", "/c", "/x.css", "/admin?x=.css", "/a:b", "/a%3Ab", "/a%3ab",
		"/b/c/d", "/b/c/d/e", "/b/c", "/a%2", "/caf%C3%A9", "/caf%c3%a9", "/A", "/;x/a", "/a/x.css", "/a/?", "/b/c/d;p?q", "/a/b;q?z", "/a%252e", "/a%3bp", "/%3Bx/a", "/a/b%3B?z", "/x%3b.css", "/a%80", "/a/%e0%80%af",
	}
	out := []target{{"//a", "/a"}, {"/x/../a", "/a"}, {"/%61", "/a"}, {"/a/./b", "/a/b"}, {"/a//b", "/a/b"}, {"/..;/a", "/a"}, {"/x/%2e%2e;/a", "/x/..;/a"}}
	for _, s := range same {
		out = append(out, target{s, s})
	}
	return out
}

// Request returns a request as it is seen, and its target as it is sent.
func Request(t *rapid.T) (model.Request, string) {
	where := rapid.SampledFrom(targets()).Draw(t, "target")
	if rapid.IntRange(0, 4).Draw(t, "many") == 0 { // of which there are many rules
		where.sent = fmt.Sprint("/many/", rapid.IntRange(0, 45).Draw(t, "n"), rapid.SampledFrom([]string{"", "", "?x", "/y", "x", ";p", "/;p/y"}).Draw(t, "end"))
		where.seen = where.sent
	}
	r := model.Request{Source: rapid.SampledFrom(Callers()).Draw(t, "caller"), Port: HTTPPort, HTTP: &model.HTTPRequest{
		Method: rapid.SampledFrom([]string{"GET", "POST", "DELETE", "PUT"}).Draw(t, "method"), Path: where.seen,
		Host: rapid.SampledFrom([]string{
			"cart", "CART.", "cart:8080", "cart.shop.svc", "a.good.test", "A.GOOD.TEST.:80", "evilgood.test", "other.test.:80", "good.test", "goodxtest", "x.goodxtest", "cartx", "a,cart", "h3.test", "x.h4.test:80", "H7.TEST", "h40.test",
		}).Draw(t, "host"),
	}}
	for _, v := range rapid.SliceOfN(rapid.SampledFrom([]string{"admin", "user", "user, admin", "ADMIN", "", "xadmin", "adminx", "admin,é", "é", "\xff", "\xff,admin", "a.min", "aémin", "role-3", "role-17", "a,role-5", "ROLE-3"}), 0, 2).Draw(t, "roles") {
		r.HTTP.Headers = append(r.HTTP.Headers, model.Header{Name: "x-role", Value: v})
	}
	return r, where.sent
}
